//! Actions: the output of the scheduler, which the driver performs.

use super::batch::Batch;
use super::decision::Decision;
use super::event::Fault;
use super::ids::{AdapterId, BatchId, Incarnation, ModelId, RequestId};
use std::time::Duration;

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Spawn a worker and open the device.
    Start { adapter: AdapterId, incarnation: Incarnation },
    /// Load this model and warm it up for batches of up to `max_rows`.
    Load { adapter: AdapterId, incarnation: Incarnation, model: ModelId, max_rows: u32 },
    /// Drop this model and give its memory back.
    Unload { adapter: AdapterId, incarnation: Incarnation, model: ModelId },
    /// Hand this batch to the worker.
    Run { adapter: AdapterId, incarnation: Incarnation, batch: Batch },
    /// Ask the worker to exit.
    Stop { adapter: AdapterId, incarnation: Incarnation },
    /// End the worker's process at once.
    Kill { adapter: AdapterId, incarnation: Incarnation },
    /// Share the outputs of a finished batch out to its requests; those no longer owed are
    /// skipped.
    Collect { adapter: AdapterId, batch: Batch },
    /// All rows of this request are collected: answer it.
    Answer { request: RequestId },
    /// Drop the outputs of a batch: its requests were taken elsewhere.
    Discard { batch: BatchId },
    /// Turn a request away.
    Reject { request: RequestId, reason: Reject },
    /// Show, log and count a decision.
    Decided(Decision),
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The queue holds as much as it may; `drain` is how long it will take to serve it.
    QueueFull { drain: Duration },
    /// Too much waits for an answer within the deadline; `drain` is how long it will take.
    Overload { drain: Duration },
    /// No adapter can serve now; `retry_after` is when one is tried again, if any will be.
    NoAdapter { retry_after: Option<Duration> },
    /// Every adapter tried to load the model and failed, or none could ever hold it.
    ModelFailed,
    /// The maximum of adapters is on, and none of them can hold the model.
    NoneHolds,
    /// The model is not, or no longer, served.
    ModelGone,
    /// The client's own deadline has passed, or can no longer be met.
    Deadline,
    /// The input made the model fail, alone in its batch.
    Input { batch: BatchId },
    /// Lost with its worker too often.
    RetriesExhausted { fault: Fault },
    /// The server is going down.
    ShuttingDown,
}
