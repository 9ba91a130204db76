//! Every knob of the scheduler; checked once, when the configuration is read.

use super::policy::Policy;
use std::time::Duration;

/// Every knob of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    pub policy: Policy,
    /// Adapters that are on without any load.
    pub min: usize,
    /// Adapters that may be on for the load's sake.
    pub max: usize,
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
    /// Whether adapters are started before clients that come regularly.
    pub ahead: bool,
    pub bounds: Bounds,
}

/// How long a worker may keep silent, by phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Between two signs of life of the link thread.
    pub silence: Duration,
    /// Between two signs of progress during a start or a load.
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
    /// Rows of the largest batch on an adapter that has not measured larger ones.
    pub first_rows: u32,
    /// How long the first request of a batch may wait for company.
    pub delay: Duration,
    /// Latency target: steers growth and order. Late answers are still given.
    pub slo: Duration,
    /// Bytes on a device, as far as the files tell; the truth is measured when it is loaded.
    pub bytes: u64,
    /// Bytes on a device that a row takes while it runs, beside those of the model.
    pub row_bytes: u64,
    /// True if a request is answered in parts: its batches cannot be compared as a whole.
    pub decoupled: bool,
}

/// When an adapter takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whenever the load needs it.
    #[default]
    Regular,
    /// For models of which it answers a single row within the target: always. For other models
    /// while no regular adapter is usable.
    Bridge,
    /// While no regular adapter is usable.
    Fallback,
}

/// What the scheduler knows of an adapter before it was ever on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdapterProfile {
    /// Order by class, best first; measured speed decides among equals.
    pub rank: u32,
    pub role: Role,
    /// Guess by class, in any unit that is the same for all adapters; at least 1.
    pub speed: u64,
    /// Guess of the time from spawning a worker to an open device.
    pub cold_start: Duration,
    pub power: Power,
    /// Memory that models may take; `None` where nobody can tell.
    pub memory: Option<u64>,
    /// Batches that its worker may hold at a time: one that it runs, and those that follow it; at
    /// least 1.
    pub slots: u32,
}

/// Power above that of the adapter when it is off, in milliwatts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Power {
    /// With a device open and nothing to do.
    pub idle_mw: u64,
    /// Computing.
    pub active_mw: u64,
    /// Starting.
    pub start_mw: u64,
}
