//! Decides which adapters are on, which models they hold and which requests run where. PURE.
//!
//! This room performs no I/O, spawns nothing, reads no clock and draws no random numbers: events
//! and the current time come in, actions go out. The same events at the same times always give
//! the same actions. It knows ids, rows and times; payloads and answer channels live in `engine`.
//! It uses nothing but the standard library, so that a test can compile broken variants of it.
//!
//! ```text
//! handle(now, event) ─► record the event                            requests.rs, lifecycle.rs
//!                       then always the same short list of steps:
//!    watch    give up on the silent and the late                    watch.rs
//!    reject   turn away what can no longer be served                scheduler.rs
//!    expel    let go what must not be on                            scale.rs
//!    obey     what the operator wants on, bridges, expected clients scale.rs, bridge.rs, ahead.rs
//!    grow     resume or start adapters                              scale.rs, cost.rs
//!    dispatch form batches, load models on demand                   dispatch.rs, plan.rs, loading.rs
//!    prepare  drop and load models without hurry                    loading.rs
//!    shrink   drain adapters that are no longer needed              scale.rs, wait.rs
//! poll_action() ◄─ what the driver must do        next_timeout() ◄─ when to come back
//! ```
//!
//! What is predicted rests on `service.rs` (how long a batch takes where) and `forecast.rs` (how
//! soon several adapters together serve a number of rows); what is learned of waits and misses is in
//! `spells.rs` and `misses.rs`, of regular clients in `rhythm.rs`, of whom a cheaper adapter replaces
//! in `replace.rs`. The target that is aimed at is in `target.rs`, who serves light traffic in `light.rs`,
//! which models keep their memory in `places.rs`.

mod action;
mod admission;
mod ahead;
mod announced;
mod batch;
mod bridge;
mod cost;
mod decision;
mod dispatch;
mod event;
mod forecast;
mod ids;
mod lane;
mod learned;
mod lifecycle;
mod light;
mod lists;
mod loading;
mod misses;
mod places;
mod plan;
mod policy;
mod queue;
mod recollection;
mod replace;
mod requests;
mod rhythm;
mod scale;
mod scheduler;
mod service;
mod settings;
mod shadow;
mod shares;
mod spells;
mod state;
mod target;
#[cfg(test)]
mod tests;
mod wait;
mod watch;

pub use action::{Action, Reject};
pub use batch::{Batch, Part};
pub use decision::{Change, Decision, Reason};
pub use event::{Again, Arrival, Event, Failure, Fault, Wish};
pub use ids::{AdapterId, BatchId, ClientId, Incarnation, ModelId, RequestId, Shape, Time};
pub use policy::{Goal, Load, Policy};
pub use recollection::{LearnedClient, LearnedPolicy, Recollection, ReplicaMemory, Took};
pub use scheduler::{Outstanding, Scheduler};
pub use service::Line;
pub use settings::{AdapterProfile, Bounds, ModelProfile, Power, Role, Settings};
pub use state::{AdapterView, Replica, State};
