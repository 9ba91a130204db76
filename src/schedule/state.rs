//! What the scheduler believes about one adapter.

use super::settings::{AdapterProfile, Bounds};
use super::types::{BatchId, Fault, Incarnation, ModelId, RequestId, Time};
use std::collections::BTreeSet;

/// A batch that a worker holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    pub id: BatchId,
    pub model: ModelId,
    /// Its requests with their rows, in row order.
    pub requests: Vec<(RequestId, u32)>,
}

impl Batch {
    /// Rows of all its requests.
    pub fn rows(&self) -> u64 {
        self.requests.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }
}

/// The life of an adapter. `tests.rs` holds a test for every row.
///
/// *Wanted* means that too few are on for the load or the minimum, or that the operator says so;
/// *unwanted* that too many are on for long enough, that the operator or the shutdown says so, or
/// that it stands in for another that serves again.
///
/// ```text
///   from             on                            to
///   Off              wanted                        Starting     and says Start
///   Starting         Ready                         Idle
///   Starting         unwanted, but for a surplus   Stopping     and says Stop
///   Idle             a batch is due                Busy         and says Run
///   Idle             unwanted                      Stopping     and says Stop
///   Busy             Done, or Failed by input      Idle
///   Busy             unwanted                      Draining
///   Draining         wanted                        Busy
///   Draining         Done, or Failed by input      Stopping     and says Stop
///   Starting, Idle,
///   Busy, Draining   a fault                       Stopping     and says Kill
///   Starting, Idle,
///   Busy, Draining   Exited                        Quarantined
///   Stopping         Exited                        Off, or Quarantined after a fault
///   Stopping         no exit for too long          Stopping     and says Kill
///   Stopping         killed, no exit for too long  Unreaped
///   Unreaped         Exited                        Quarantined
///   Quarantined      its time has come             Off
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No process of ours holds it.
    Off,
    /// Spawns, opens, checks, loads, warms up.
    Starting {
        since: Time,
        progress: Time,
    },
    Idle {
        since: Time,
    },
    Busy {
        since: Time,
        batch: Batch,
    },
    /// Finishes its batch and takes no more.
    Draining {
        since: Time,
        batch: Batch,
    },
    /// Told to exit, or killed. `fault` is set when a fault, rather than a surplus, ended it.
    Stopping {
        since: Time,
        killed: bool,
        fault: Option<Fault>,
    },
    /// Let down by its device and holding nothing; tried again at `until`.
    Quarantined {
        since: Time,
        until: Time,
    },
    /// Its worker was killed and does not go away: stuck in its driver. Never a second worker
    /// beside it, so this lasts until the process is reaped after all.
    Unreaped {
        since: Time,
        fault: Fault,
    },
}

impl State {
    /// A word for JSON and the dashboard.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Off => "off",
            State::Starting { .. } => "starting",
            State::Idle { .. } => "idle",
            State::Busy { .. } => "busy",
            State::Draining { .. } => "draining",
            State::Stopping { .. } => "stopping",
            State::Quarantined { .. } => "quarantined",
            State::Unreaped { .. } => "unreaped",
        }
    }

    /// Since when, where that is known.
    pub fn since(&self) -> Option<Time> {
        match *self {
            State::Off => None,
            State::Starting { since, .. }
            | State::Idle { since }
            | State::Busy { since, .. }
            | State::Draining { since, .. }
            | State::Stopping { since, .. }
            | State::Quarantined { since, .. }
            | State::Unreaped { since, .. } => Some(since),
        }
    }

    /// Takes work, or is about to.
    pub fn is_on(&self) -> bool {
        matches!(self, State::Starting { .. } | State::Idle { .. } | State::Busy { .. })
    }

    /// The batch that the worker holds.
    pub fn batch(&self) -> Option<&Batch> {
        match self {
            State::Busy { batch, .. } | State::Draining { batch, .. } => Some(batch),
            State::Off
            | State::Starting { .. }
            | State::Idle { .. }
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => None,
        }
    }

    /// Whether it was let down and is not, or not yet, trusted again.
    pub fn is_faulty(&self) -> bool {
        match self {
            State::Quarantined { .. } | State::Unreaped { .. } => true,
            State::Stopping { fault, .. } => fault.is_some(),
            State::Off
            | State::Starting { .. }
            | State::Idle { .. }
            | State::Busy { .. }
            | State::Draining { .. } => false,
        }
    }
}

/// The operator's wish for an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wish {
    /// As the policy says.
    #[default]
    Auto,
    /// On, whatever the load.
    On,
    /// Off, whatever the load.
    Off,
}

impl Wish {
    pub fn as_str(self) -> &'static str {
        match self {
            Wish::Auto => "auto",
            Wish::On => "on",
            Wish::Off => "off",
        }
    }
}

/// One adapter as others may see it.
#[derive(Clone, Copy, Debug)]
pub struct AdapterView<'a> {
    pub state: &'a State,
    pub wish: Wish,
    pub incarnation: Incarnation,
    pub models: &'a BTreeSet<ModelId>,
    pub last_fault: Option<Fault>,
}

/// One adapter with all that is remembered of it.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) profile: AdapterProfile,
    pub(super) state: State,
    pub(super) wish: Wish,
    pub(super) incarnation: Incarnation,
    /// The last sign of life of the worker's link thread.
    pub(super) alive: Time,
    /// Faults in a row; a batch that succeeds clears them.
    pub(super) strikes: u32,
    pub(super) last_fault: Option<Fault>,
    /// Models loaded and warm; empty while no worker is ready.
    pub(super) loaded: BTreeSet<ModelId>,
    /// Models that the last start could not load.
    pub(super) refused: BTreeSet<ModelId>,
    /// Measured; 0 until then.
    pub(super) speed: u64,
}

impl Adapter {
    pub(super) fn new(profile: AdapterProfile) -> Adapter {
        Adapter {
            profile,
            state: State::Off,
            wish: Wish::Auto,
            incarnation: Incarnation(0),
            alive: Time::default(),
            strikes: 0,
            last_fault: None,
            loaded: BTreeSet::new(),
            refused: BTreeSet::new(),
            speed: 0,
        }
    }

    /// When this adapter's patience runs out, if it waits for anything.
    pub(super) fn deadline(&self, bounds: &Bounds) -> Option<Time> {
        let silent = self.alive + bounds.silence;
        match self.state {
            State::Off | State::Unreaped { .. } => None,
            State::Starting { progress, .. } => Some(silent.min(progress + bounds.start)),
            State::Idle { .. } => Some(silent),
            State::Busy { since, .. } | State::Draining { since, .. } => {
                Some(silent.min(since + bounds.run))
            }
            State::Stopping { since, killed: false, .. } => Some(since + bounds.stop),
            State::Stopping { since, killed: true, .. } => Some(since + bounds.reap),
            State::Quarantined { until, .. } => Some(until),
        }
    }

    pub(super) fn view(&self) -> AdapterView<'_> {
        AdapterView {
            state: &self.state,
            wish: self.wish,
            incarnation: self.incarnation,
            models: &self.loaded,
            last_fault: self.last_fault,
        }
    }
}
