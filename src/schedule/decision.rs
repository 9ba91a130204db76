//! A change of the wanted set, with its reason and numbers.

use super::types::{AdapterId, Fault, Time};
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
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Start => "start",
            Change::Drain => "drain",
            Change::Resume => "resume",
            Change::Quarantine => "quarantine",
        }
    }
}

/// Why, with the numbers that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// More rows are outstanding than the adapters that are on should carry.
    Backlog {
        rows: u64,
        requests: u64,
        target: u64,
        wanted: usize,
        on: usize,
    },
    /// The configured minimum calls for it.
    Min {
        min: usize,
        on: usize,
    },
    /// More are on than were wanted for the whole delay.
    IdleSurplus {
        rows: u64,
        wanted: usize,
        on: usize,
        lasted: Duration,
    },
    /// The operator's hand.
    Operator,
    /// It was let down; `strikes` faults in a row, tried again after `backoff`.
    Fault {
        fault: Fault,
        strikes: u32,
        backoff: Duration,
    },
    /// It only stands in while nothing else can serve, and something else can again.
    Fallback,
    Shutdown,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Backlog { .. } => "backlog",
            Reason::Min { .. } => "min",
            Reason::IdleSurplus { .. } => "idle_surplus",
            Reason::Operator => "operator",
            Reason::Fault { .. } => "fault",
            Reason::Fallback => "fallback",
            Reason::Shutdown => "shutdown",
        }
    }
}
