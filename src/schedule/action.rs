//! Actions: the output of the scheduler, which the driver performs.

use super::batch::Batch;
use super::decision::Decision;
use super::event::Fault;
use super::ids::{AdapterId, BatchId, Incarnation, ModelId, RequestId};
use std::time::Duration;

/// One thing for the driver to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Spawn a worker and open the device.
    Start { adapter: AdapterId, incarnation: Incarnation },
    /// Load this model and warm it up for batches of up to `max_rows`.
    Load { adapter: AdapterId, incarnation: Incarnation, model: ModelId, max_rows: u32 },
    /// Unload this model and free its memory.
    Unload { adapter: AdapterId, incarnation: Incarnation, model: ModelId },
    /// Send this batch to the worker.
    Run { adapter: AdapterId, incarnation: Incarnation, batch: Batch },
    /// Request the worker to exit.
    Stop { adapter: AdapterId, incarnation: Incarnation },
    /// Kill the worker's process.
    Kill { adapter: AdapterId, incarnation: Incarnation },
    /// Distribute the outputs of a finished batch to its requests; requests that were cancelled or
    /// rejected are skipped.
    Collect { adapter: AdapterId, batch: Batch },
    /// All rows of this request are collected: send its answer.
    Answer { request: RequestId },
    /// Drop the outputs of a batch without requests to answer from it.
    Discard { batch: BatchId },
    /// Reject a request.
    Reject { request: RequestId, reason: Reject },
    /// Publish, log and count a decision.
    Decided(Decision),
}

/// The reason of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The queue is full; `drain` is the predicted time to serve it.
    QueueFull { drain: Duration },
    /// Too many rows are waiting for an answer within the deadline; `drain` is the predicted time
    /// to serve them.
    Overload { drain: Duration },
    /// No adapter can serve now; `retry_after` is the time until the next attempt to start one, if
    /// there will be any.
    NoAdapter { retry_after: Option<Duration> },
    /// Every adapter failed to load the model, or none could ever hold it.
    ModelFailed,
    /// The maximum of adapters is on, and none of them can hold the model.
    NoneHolds,
    /// The model is not, or no longer, served.
    ModelGone,
    /// The client's own deadline has passed or cannot be met.
    Deadline,
    /// The model failed on the input, which was alone in its batch.
    Input { batch: BatchId },
    /// Lost with its workers more often than a retry is permitted.
    RetriesExhausted { fault: Fault },
    /// The server is shutting down.
    ShuttingDown,
}
