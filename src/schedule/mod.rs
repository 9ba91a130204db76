//! Decides which adapters are on and which requests run where. PURE.
//!
//! This room performs no I/O, spawns nothing, reads no clock and draws no random numbers: events
//! and the current time come in, actions go out. The same events at the same times always give
//! the same actions. It knows ids, rows and times; payloads and answer channels live in `engine`.
//! It uses nothing but the standard library, so that a test can compile broken variants of it.
//!
//! ```text
//! handle(now, event) ─► record the event, then always the same short list of steps:
//!    watch    give up on the silent, forgive the quarantined          watch.rs
//!    reject   turn away what can no longer be served                  scheduler.rs
//!    grow     resume or start adapters                                scale.rs
//!    dispatch form batches for free adapters, as late as possible     dispatch.rs
//!    shrink   drain adapters after a lasting surplus                  scale.rs
//! poll_action() ◄─ what the driver must do        next_timeout() ◄─ when to come back
//! ```

mod decision;
mod dispatch;
mod policy;
mod queue;
mod scale;
mod scheduler;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod watch;

pub use decision::{Change, Decision, Reason};
pub use policy::{Load, Policy};
pub use scheduler::{Outstanding, Scheduler};
pub use settings::{AdapterProfile, Bounds, ModelProfile, Settings};
pub use state::{AdapterView, Batch, State, Wish};
pub use types::{
    Action, AdapterId, BatchId, Event, Failure, Fault, Incarnation, ModelId, Reject, RequestId,
    Shape, Time,
};
