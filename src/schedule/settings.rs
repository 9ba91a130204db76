//! All settings of the scheduler; checked once, when the configuration is read.

use super::policy::Policy;
use std::time::Duration;

/// All settings of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    pub policy: Policy,
    /// Adapters that stay on without load.
    pub min: usize,
    /// Maximum of adapters that are on because of the load.
    pub max: usize,
    /// Maximum of waiting requests; further ones are rejected.
    pub queue_requests_max: usize,
    /// Maximum of waiting rows.
    pub queue_rows_max: u64,
    /// Number of times that a request may run again after its worker was lost.
    pub retries_max: u32,
    /// Backoff after the first fault; doubles with every further consecutive fault.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// Requests wait for a quarantined adapter if its quarantine ends within this time.
    pub quarantine_wait_max: Duration,
    /// Starts adapters before clients with regular requests.
    pub early_starts: bool,
    pub timeouts: Timeouts,
}

/// Timeouts of a worker, by phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Between two heartbeats of the link thread.
    pub heartbeat: Duration,
    /// Between two progress reports during a start or a load.
    pub start: Duration,
    /// From handing over a batch to its answer.
    pub run: Duration,
    /// From the request to stop to the exit of the worker; then it is killed.
    pub stop: Duration,
    /// From killing a worker to its exit; then the adapter counts as unreaped.
    pub kill: Duration,
}

/// Properties of a model that the scheduler uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelProfile {
    /// Rows of the largest batch.
    pub max_rows: u32,
    /// Rows of the largest batch on an adapter that has not measured larger ones.
    pub first_rows: u32,
    /// Batching delay of the first request of a batch.
    pub delay: Duration,
    /// Latency target: it determines growth and order. Late answers are still delivered.
    pub slo: Duration,
    /// Bytes on a device, estimated from the files; the actual size is measured when it is loaded.
    pub bytes: u64,
    /// Bytes on a device that a row takes while it runs, in addition to those of the model.
    pub row_bytes: u64,
    /// A request is answered in parts, so its batches cannot be compared as a whole.
    pub decoupled: bool,
}

/// Condition for the use of an adapter.
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

/// Properties of an adapter that are known before it is first on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdapterProfile {
    /// Order by class, best first; measured speed decides among equals.
    pub rank: u32,
    pub role: Role,
    /// Estimate by class, in any unit that is the same for all adapters; at least 1.
    pub speed: u64,
    /// Estimate of the time from spawning a worker to an open device.
    pub cold_start: Duration,
    pub power: Power,
    /// Memory for models; `None` if it is unknown.
    pub memory: Option<u64>,
    /// Batches that its worker may hold at a time: the running one and those that follow it; at
    /// least 1.
    pub slots: u32,
}

/// Power above that of the adapter when it is off, in milliwatts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Power {
    /// With an open device and no work.
    pub idle_mw: u64,
    /// Computing.
    pub active_mw: u64,
    /// Starting.
    pub start_mw: u64,
}
