//! A change of an adapter or its models, with the reason and its numbers. The rules are in
//! `scale.rs`, `cost.rs`, `loading.rs` and others.

use super::event::Fault;
use super::ids::{AdapterId, ModelId, Time};
use std::time::Duration;

/// One change of an adapter or its models.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    pub at: Time,
    pub adapter: AdapterId,
    pub change: Change,
    pub reason: Reason,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Start,
    /// Accepts no new work and stops after its batches; at once if it has none.
    Drain,
    /// It was draining and is needed again.
    Resume,
    Quarantine,
    /// Loads a model.
    Load(ModelId),
    /// Unloads a model.
    Unload(ModelId),
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Start => "start",
            Change::Drain => "drain",
            Change::Resume => "resume",
            Change::Quarantine => "quarantine",
            Change::Load(_) => "load",
            Change::Unload(_) => "unload",
        }
    }
}

/// The reason of a change, with the numbers that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// More rows are outstanding than the target of the adapters that are on (`concurrency`).
    Backlog {
        rows: u64,
        requests: u64,
        target: u64,
        wanted: usize,
        on: usize,
    },
    /// The adapters that are on would serve the waiting rows of this model too late (not
    /// `concurrency`). `drain` is the time that they would need, if they can serve them at all;
    /// `waited` is the waiting time of the newest row so far; `ready_in` is the time until this
    /// adapter helps.
    LatencyTarget {
        model: ModelId,
        rows: u64,
        drain: Option<Duration>,
        waited: Duration,
        target: Duration,
        ready_in: Duration,
    },
    /// The configured minimum requires it.
    Min {
        min: usize,
        on: usize,
    },
    /// More adapters were on than wanted during the whole delay (`concurrency`).
    IdleSurplus {
        rows: u64,
        wanted: usize,
        on: usize,
        lasted: Duration,
    },
    /// It was idle until that had cost as much energy as a start and as the penalty for the
    /// requests that the start makes late (not `concurrency`); both in millijoules.
    BreakEven {
        unneeded: Duration,
        start_mj: u64,
        late_mj: u64,
    },
    /// The rows that others served in the time `lasted` would have cost less energy here, by as
    /// much as turning it on costs.
    Cheaper {
        saved_mj: u64,
        start_mj: u64,
        lasted: Duration,
    },
    /// Requests wait for a model.
    Demand {
        rows: u64,
    },
    /// It serves the models that it answers within their targets while others start.
    Bridge,
    /// The bridge does not answer it within its target.
    NotBridged,
    /// A client that announced a request, or that sends requests regularly, is expected between
    /// these times.
    Expected {
        model: ModelId,
        from: Time,
        until: Time,
        announced: bool,
    },
    /// No client is expected before this time.
    NotExpected {
        until: Time,
    },
    /// The client for which it was turned on sent no request.
    DidNotCome,
    /// An idle adapter loads a model ahead of requests.
    Ahead,
    /// Another model needs the memory.
    Memory {
        needed: u64,
        free: u64,
    },
    /// Other programs need the memory: the models hold more than the budget.
    MemoryBudget {
        held: u64,
        budget: u64,
    },
    /// The model is not served any more.
    Withdrawn,
    /// The operator requested it.
    Operator,
    /// A fault after `consecutive_faults` in a row, with the next attempt after `backoff`.
    Fault {
        fault: Fault,
        consecutive_faults: u32,
        backoff: Duration,
    },
    /// The kernel killed the worker because the memory of the machine or the container ran out.
    OutOfMemory,
    /// The server failed to start the worker process for a cause in its own environment.
    Environment,
    /// The fallback is not needed, since a regular adapter serves again.
    Fallback,
    Shutdown,
    /// The clients that announced their requests were served, and no other one is expected.
    Served,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Backlog { .. } => "backlog",
            Reason::LatencyTarget { .. } => "latency_target",
            Reason::Min { .. } => "min",
            Reason::IdleSurplus { .. } => "idle_surplus",
            Reason::BreakEven { .. } => "break_even",
            Reason::Cheaper { .. } => "cheaper",
            Reason::Demand { .. } => "demand",
            Reason::Bridge => "bridge",
            Reason::NotBridged => "not_bridged",
            Reason::Expected { .. } => "expected",
            Reason::NotExpected { .. } => "not_expected",
            Reason::DidNotCome => "did_not_come",
            Reason::Served => "served",
            Reason::Ahead => "ahead",
            Reason::Memory { .. } => "memory",
            // Labels of metrics and words in JSON keep their names when a variant is renamed.
            Reason::MemoryBudget { .. } => "room",
            Reason::Withdrawn => "withdrawn",
            Reason::Operator => "operator",
            Reason::Fault { .. } => "fault",
            Reason::OutOfMemory => "out_of_memory",
            Reason::Environment => "environment",
            Reason::Fallback => "fallback",
            Reason::Shutdown => "shutdown",
        }
    }
}
