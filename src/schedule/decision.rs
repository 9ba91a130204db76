//! A change of what is on or loaded, with its reason and numbers: the record, not the rule, which is
//! in `scale.rs`, `cost.rs`, `loading.rs` and others.

use super::event::Fault;
use super::ids::{AdapterId, ModelId, Time};
use std::time::Duration;

/// One change of the wanted set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    pub at: Time,
    pub adapter: AdapterId,
    pub change: Change,
    pub reason: Reason,
}

/// What was decided for the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Start,
    /// Takes no new work and stops when its batch is done; at once if it has none.
    Drain,
    /// Was draining and is needed again.
    Resume,
    Quarantine,
    /// Loads a model.
    Load(ModelId),
    /// Drops a model.
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

/// Why, with the numbers that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// More rows are outstanding than the adapters that are on should carry (`concurrency`).
    Backlog {
        rows: u64,
        requests: u64,
        target: u64,
        wanted: usize,
        on: usize,
    },
    /// What is on would serve the waiting rows of this model too late (not `concurrency`). `drain` is how
    /// long it would take, if it can at all; `waited` how long the newest of them have waited by
    /// now; `ready_in` when this adapter will help.
    LatencyTarget {
        model: ModelId,
        rows: u64,
        drain: Option<Duration>,
        waited: Duration,
        target: Duration,
        ready_in: Duration,
    },
    /// The configured minimum calls for it.
    Min {
        min: usize,
        on: usize,
    },
    /// More are on than were wanted for the whole delay (`concurrency`).
    IdleSurplus {
        rows: u64,
        wanted: usize,
        on: usize,
        lasted: Duration,
    },
    /// It was idle for so long that it took as much energy as a start, and as what the requests are
    /// worth that a start makes late (not `concurrency`); both in millijoules.
    BreakEven {
        unneeded: Duration,
        start_mj: u64,
        late_mj: u64,
    },
    /// What others served for so long would have cost so much less here, as much as turning it on.
    Cheaper {
        saved_mj: u64,
        start_mj: u64,
        lasted: Duration,
    },
    /// Requests wait for a model.
    Demand {
        rows: u64,
    },
    /// It serves, while others start, the models that it answers within their targets.
    Bridge,
    /// The bridge does not answer it within its target.
    NotBridged,
    /// A client that announced itself, or that comes regularly, is expected between these times.
    Expected {
        model: ModelId,
        from: Time,
        until: Time,
        announced: bool,
    },
    /// Nobody is expected before this time.
    NotExpected {
        until: Time,
    },
    /// The client for which it was turned on did not come.
    DidNotCome,
    /// The adapter has time to get ready for what has been asked for.
    Ahead,
    /// Another model needs the memory.
    Memory {
        needed: u64,
        free: u64,
    },
    /// Other programs need the memory: models hold more than there is room for.
    MemoryBudget {
        held: u64,
        budget: u64,
    },
    /// The model is not served any more.
    Withdrawn,
    /// The operator's hand.
    Operator,
    /// It was let down; `consecutive_faults` faults in a row, tried again after `backoff`.
    Fault {
        fault: Fault,
        consecutive_faults: u32,
        backoff: Duration,
    },
    /// The kernel killed the worker because the memory of the machine or the container ran out.
    OutOfMemory,
    /// The server could not start the worker process, for a cause in its own environment.
    Environment,
    /// It only stands in while nothing else can serve, and something else can again.
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
