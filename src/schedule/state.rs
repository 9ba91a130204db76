//! What the scheduler believes about one adapter.

use super::batch::Batch;
use super::event::{Fault, Wish};
use super::ids::{Incarnation, ModelId, Time};
use super::settings::AdapterProfile;
use std::collections::BTreeMap;
use std::time::Duration;

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
///   Idle             a model is due                Loading      and says Load
///   Loading          a batch of another is due     Loading      and says Run
///   Loading          Done, or Failed by input      Loading
///   Loading          Loaded, LoadFailed            Idle, or Busy with its batch
///   Loading          unwanted, but for a surplus   Stopping     and says Stop
///   Loading, with
///   a batch          unwanted, but for a surplus   Draining     and says Unload
///   Idle             unwanted                      Stopping     and says Stop
///   Busy             Done, or Failed by input      Idle
///   Busy             unwanted                      Draining
///   Draining         wanted                        Busy
///   Draining         Done, or Failed by input      Stopping     and says Stop
///   Starting, Idle,
///   Loading, Busy,
///   Draining         a fault                       Stopping     and says Kill
///   Starting, Idle,
///   Loading, Busy,
///   Draining         Exited                        Quarantined
///   Starting         could not be started          Off
///   Loading, Idle,
///   Busy, Draining   killed for want of memory     Off
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
    /// Spawns, opens, checks.
    Starting {
        since: Time,
        progress: Time,
    },
    /// Loads a model and warms it up. Batches of those that it has run between the steps.
    Loading {
        since: Time,
        progress: Time,
        model: ModelId,
        batch: Option<(Time, Batch)>,
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
            State::Loading { .. } => "loading",
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
            | State::Loading { since, .. }
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
        match self {
            State::Starting { .. }
            | State::Loading { .. }
            | State::Idle { .. }
            | State::Busy { .. } => true,
            State::Off
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => false,
        }
    }

    /// Has its device open and takes work.
    pub(super) fn serves(&self) -> bool {
        matches!(self, State::Idle { .. } | State::Busy { .. })
    }

    /// Gets ready for work that it will take.
    pub(super) fn warms_up(&self) -> bool {
        matches!(self, State::Starting { .. } | State::Loading { .. })
    }

    /// The batch that the worker holds.
    pub fn batch(&self) -> Option<&Batch> {
        match self {
            State::Busy { batch, .. }
            | State::Draining { batch, .. }
            | State::Loading { batch: Some((_, batch)), .. } => Some(batch),
            State::Off
            | State::Starting { .. }
            | State::Loading { batch: None, .. }
            | State::Idle { .. }
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => None,
        }
    }

    /// The same, taken out.
    pub(super) fn into_batch(self) -> Option<Batch> {
        match self {
            State::Busy { batch, .. }
            | State::Draining { batch, .. }
            | State::Loading { batch: Some((_, batch)), .. } => Some(batch),
            _ => None,
        }
    }

    /// Whether it was let down and is not, or not yet, trusted again.
    pub fn is_faulty(&self) -> bool {
        match self {
            State::Quarantined { .. } | State::Unreaped { .. } => true,
            State::Stopping { fault, .. } => fault.is_some(),
            State::Off
            | State::Starting { .. }
            | State::Loading { .. }
            | State::Idle { .. }
            | State::Busy { .. }
            | State::Draining { .. } => false,
        }
    }
}

/// One adapter as others may see it.
#[derive(Clone, Copy, Debug)]
pub struct AdapterView<'a> {
    pub state: &'a State,
    pub wish: Wish,
    pub incarnation: Incarnation,
    /// Models that are loaded.
    pub replicas: &'a BTreeMap<ModelId, Replica>,
    pub last_fault: Option<Fault>,
    /// Batches in which it must still agree with others before it answers itself.
    pub trial: u32,
    pub profile: &'a AdapterProfile,
    /// Learned time from spawning the worker to an open device.
    pub cold_start: Option<Duration>,
    /// Bytes that loaded models hold.
    pub bytes: u64,
    /// Bytes that models may take now; `None` where nobody can tell.
    pub budget: Option<u64>,
}

/// One model loaded on one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Bytes on the device, as measured or else as the files tell.
    pub bytes: u64,
    /// When it last ran a batch, or was loaded.
    pub used: Time,
    pub loaded: Time,
}
