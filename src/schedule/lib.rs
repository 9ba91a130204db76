//! Decides which adapters are on, which models they hold and which requests run where. PURE.
//!
//! This room performs no I/O, spawns nothing, reads no clock and draws no random numbers: events
//! and the current time come in, actions go out. The same events at the same times always give
//! the same actions. It knows ids, rows and times; payloads and answer channels live in `engine`.
//! It uses nothing but the standard library, so that a test can compile broken variants of it.
//!
//! `World` (`world.rs`) holds what is known; each of its parts is changed by its own methods only:
//! an adapter and its state (`adapter.rs`, what was learned of its models in `known.rs`), requests
//! (`queue.rs`), popularity of models, late requests, expected clients. Functions that take `&World`
//! answer questions and propose; those that take `&mut World` and the outbox perform a step:
//!
//! ```text
//! handle(now, event) ─► record the event                            record.rs, lifecycle.rs, batches.rs,
//!                                                                   requests.rs, admission.rs
//!                       then always the same short list of steps:
//!    expire   end timed-out starts, runs and quarantines           timeouts.rs
//!    reject   turn away what can no longer be served                availability.rs
//!    expel    let go what must not be on                            scale.rs
//!    obey     what the operator wants on, bridges, expected clients scale.rs, bridge.rs, early_start.rs
//!    grow     resume or start adapters                              scale.rs, cost.rs, replace.rs
//!    dispatch form batches, load models on demand                   dispatch.rs, loading.rs
//!    prepare  drop and load models without hurry                    prepare.rs
//!    shrink   drain adapters that are no longer needed              scale.rs, wait.rs
//! poll_action() ◄─ what the driver must do        next_timeout() ◄─ when to come back
//! ```
//!
//! Questions, each of which uses only those before it: what is known of times and sizes
//! (`estimates.rs`); which adapters may serve which models (`eligible.rs`, `reliability.rs`); what a start
//! costs (`start_cost.rs`); which models keep their memory (`eviction.rs`); when adapters are free
//! (`slots.rs`, `forecast.rs`); the target that is aimed at (`target.rs`); who serves light traffic
//! (`energy_rank.rs`); which rows go where (`plan.rs`, `step.rs`, `routing.rs`); how long an adapter stays
//! (`wait.rs`).

mod action;
mod adapter;
mod admission;
mod announced;
mod arrival_rate;
mod availability;
mod batch;
mod batches;
mod bridge;
mod bridge_periods;
mod claims;
mod client_pattern;
mod cost;
mod decision;
mod dispatch;
mod early_start;
mod early_stop;
mod economy;
mod eligible;
mod energy_rank;
mod estimates;
mod event;
mod eviction;
mod expected;
mod forecast;
mod help_record;
mod idle_periods;
mod ids;
mod known;
mod late_price;
mod late_requests;
mod learned;
mod learned_profile;
mod lifecycle;
mod lists;
mod loading;
mod outbox;
mod plan;
mod policy;
mod popularity;
mod prepare;
mod quarantine;
mod queue;
mod queue_key;
mod record;
mod reliability;
mod replace;
mod requests;
mod routing;
mod savings;
mod scale;
mod scheduler;
mod service;
mod settings;
mod shadow;
mod shares;
mod slots;
mod start_cost;
mod state;
mod step;
mod target;
#[cfg(test)]
mod tests;
mod timeouts;
mod wait;
mod world;

pub use action::{Action, Reject};
pub use batch::{Batch, Part};
pub use decision::{Change, Decision, Reason};
pub use event::{AdapterMode, Arrival, Event, Failure, Fault, LoadRetry};
pub use expected::ExpectedClient;
pub use ids::{AdapterId, BatchId, ClientId, Incarnation, ModelId, RequestId, Shape, Time};
pub use learned_profile::{
    LearnedClient, LearnedDuration, LearnedPolicy, LearnedProfile, LearnedReplica,
};
pub use policy::{Goal, Load, Outstanding, Policy};
pub use scheduler::Scheduler;
pub use service::ServiceTime;
pub use settings::{AdapterProfile, ModelProfile, Power, Role, Settings, Timeouts};
pub use state::{Activity, AdapterView, Lifecycle, Loading, Replica, Running, State};
