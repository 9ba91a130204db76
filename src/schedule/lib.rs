//! The scheduler: decides which adapters are on, which models they hold and which requests run
//! where. PURE.
//!
//! This crate performs no I/O, spawns nothing, reads no clock and draws no random numbers: its
//! input is events with the current time, its output is actions. The same events at the same times
//! always give the same actions. It knows ids, rows and times; payloads and answer channels live in
//! `engine`. It uses only the standard library, so that a test can compile broken variants of it.
//!
//! `World` (`world.rs`) holds the state; each of its parts is changed by its own methods only: an
//! adapter and its state (`adapter.rs`, learned values of its models in `known.rs`), requests
//! (`queue.rs`), popularity of models, late requests, expected clients. Functions that take
//! `&World` compute and propose; those that take `&mut World` and the outbox perform a step:
//!
//! ```text
//! handle(now, event) ─► record the event                            record.rs, lifecycle.rs, batches.rs,
//!                                                                   requests.rs, admission.rs
//!                       then always the same list of steps:
//!    expire   end timed-out starts, runs and quarantines            timeouts.rs
//!    reject   reject requests that can no longer be served          availability.rs
//!    forbid   drain adapters that must not be on                    scale.rs
//!    turn on  by mode, as bridges, for expected clients             scale.rs, bridge.rs, early_start.rs
//!    grow     resume or start adapters                              scale.rs, cost.rs, replace.rs
//!    dispatch form batches, load models on demand                   dispatch.rs, loading.rs
//!    prepare  unload and load models without waiting requests       prepare.rs
//!    shrink   drain adapters that are not needed                    scale.rs, wait.rs
//! poll_action() ◄─ actions of the driver           next_timeout() ◄─ time of the next event
//! ```
//!
//! Modules of computations, each of which uses only those before it: estimates of times and sizes
//! (`estimates.rs`); which adapters may serve which models (`eligible.rs`, `reliability.rs`); the
//! cost of a start (`start_cost.rs`); which models keep their memory (`eviction.rs`); when adapters
//! are free (`slots.rs`, `forecast.rs`); the effective target (`target.rs`); the order of adapters
//! for light traffic (`energy_rank.rs`); which rows run where (`plan.rs`, `step.rs`, `routing.rs`);
//! how long an adapter stays on (`wait.rs`).

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
