//! Every knob of the scheduler; checked once, when the configuration is read.

use super::policy::Policy;
use std::time::Duration;

/// Every knob of the scheduler.
#[derive(Clone, Debug)]
pub struct Settings {
    pub policy: Policy,
    /// How long there must be a surplus before one adapter is let go.
    pub scale_down_delay: Duration,
    /// The same for the last adapter that is on.
    pub scale_to_zero_delay: Duration,
    /// Requests that may wait; more are turned away.
    pub queue_requests_max: usize,
    /// Rows that may wait.
    pub queue_rows_max: u64,
    /// How often a request may be run again after it was lost with its worker.
    pub retries_max: u32,
    /// Wait after the first fault; doubles with every further fault in a row.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// Requests wait for a quarantined adapter if it is tried again within this time.
    pub patience: Duration,
    pub bounds: Bounds,
}

/// How long a worker may keep silent, by phase.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Between two signs of life of the link thread.
    pub silence: Duration,
    /// Between two signs of progress during a start.
    pub start: Duration,
    /// From handing over a batch to its answer.
    pub run: Duration,
    /// From asking a worker to stop to its exit; then it is killed.
    pub stop: Duration,
    /// From killing a worker to its exit; then the adapter counts as unreaped.
    pub reap: Duration,
}

/// What the scheduler knows of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelProfile {
    /// Rows of the largest batch.
    pub max_rows: u32,
    /// How long the first request of a batch may wait for company.
    pub delay: Duration,
}

/// What the scheduler knows of an adapter before it was ever on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdapterProfile {
    /// Order by class, best first; measured speed decides among equals.
    pub rank: u32,
    /// Joins only while nothing else can serve.
    pub fallback: bool,
}
