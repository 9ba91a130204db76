//! What the scheduler believes about one adapter.

use super::batch::Batch;
use super::event::{Fault, Wish};
use super::ids::{BatchId, Incarnation, ModelId, Time};
use super::settings::AdapterProfile;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where an adapter is in its life. `tests/states.rs` holds a test for every row.
///
/// *Wanted* means that too few are on for the load or the minimum, or that the operator says so;
/// *unwanted* that too many are on for long enough, that the operator or the shutdown says so, or
/// that it stands in for another that serves again. While it is `On` it may load a model and run
/// batches: `load` and `running` of [`State`].
///
/// ```text
///   from             on                            to
///   Off              wanted                        Starting     and says Start
///   Starting         Ready                         On
///   Starting         could not be started          Off
///   Starting         unwanted, but for a surplus   Stopping     and says Stop
///   On, idle         a model is due                On, loads    and says Load
///   On               a batch is due                On, runs it  and says Run
///   On               Done, or Failed by input      On
///   On, loads        Loaded, LoadFailed            On
///   On, no batch     unwanted                      Stopping     and says Stop
///   On, batches      unwanted                      Draining     and says Unload if it loads
///   Draining         wanted                        On
///   Draining         Done, or Failed by input,
///                    and it was the last batch     Stopping     and says Stop
///   Starting, On,
///   Draining         a fault                       Stopping     and says Kill
///   Starting, On,
///   Draining         Exited                        Quarantined
///   On, Draining     killed for want of memory     Off
///   Stopping         Exited                        Off, or Quarantined after a fault
///   Stopping         no exit for too long          Stopping     and says Kill
///   Stopping         killed, no exit for too long  Unreaped
///   Unreaped         Exited                        Quarantined
///   Quarantined      its time has come             Off
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// No process of ours holds it.
    Off,
    /// Spawns, opens, checks.
    Starting { since: Time, progress: Time },
    /// Its device is open.
    On,
    /// Finishes its batches and takes no more.
    Draining,
    /// Told to exit, or killed. `fault` is set when a fault, rather than a surplus, ended it.
    Stopping { since: Time, killed: bool, fault: Option<Fault> },
    /// Let down by its device and holding nothing; tried again at `until`.
    Quarantined { since: Time, until: Time },
    /// Its worker was killed and does not go away: stuck in its driver. Never a second worker
    /// beside it, so this lasts until the process is reaped after all.
    Unreaped { since: Time, fault: Fault },
}

/// A model that is being loaded and warmed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loading {
    pub since: Time,
    pub progress: Time,
    pub model: ModelId,
}

/// A batch with the worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    /// Since when the worker can have run it: when it was handed over, or the one before was done.
    pub since: Time,
    pub batch: Batch,
    /// Whether the worker did nothing else meanwhile, so that the time it takes teaches something.
    pub alone: bool,
}

/// What an adapter is doing, derived from its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Off,
    Starting,
    Loading,
    Idle,
    Busy,
    Draining,
    Stopping,
    Quarantined,
    Unreaped,
}

impl Activity {
    pub const ALL: [Activity; 9] = [
        Activity::Off,
        Activity::Starting,
        Activity::Loading,
        Activity::Idle,
        Activity::Busy,
        Activity::Draining,
        Activity::Stopping,
        Activity::Quarantined,
        Activity::Unreaped,
    ];

    /// A word for JSON and the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Off => "off",
            Activity::Starting => "starting",
            Activity::Loading => "loading",
            Activity::Idle => "idle",
            Activity::Busy => "busy",
            Activity::Draining => "draining",
            Activity::Stopping => "stopping",
            Activity::Quarantined => "quarantined",
            Activity::Unreaped => "unreaped",
        }
    }
}

/// What an adapter does: where it is in its life, what it loads, what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub lifecycle: Lifecycle,
    /// Only while it is on.
    pub load: Option<Loading>,
    /// Batches with the worker, in the order in which it runs them; only while it is on or draining.
    pub running: Vec<Running>,
    /// Since when it has had nothing to do, if it is idle.
    pub(super) rested: Time,
}

impl State {
    /// Off, as at the beginning.
    pub(super) const OFF: State = State {
        lifecycle: Lifecycle::Off,
        load: None,
        running: Vec::new(),
        rested: Time(std::time::Duration::ZERO),
    };

    /// What it is doing, for operators.
    pub fn activity(&self) -> Activity {
        match self.lifecycle {
            Lifecycle::Off => Activity::Off,
            Lifecycle::Starting { .. } => Activity::Starting,
            Lifecycle::On if self.load.is_some() => Activity::Loading,
            Lifecycle::On if self.running.is_empty() => Activity::Idle,
            Lifecycle::On => Activity::Busy,
            Lifecycle::Draining => Activity::Draining,
            Lifecycle::Stopping { .. } => Activity::Stopping,
            Lifecycle::Quarantined { .. } => Activity::Quarantined,
            Lifecycle::Unreaped { .. } => Activity::Unreaped,
        }
    }

    /// Since when, where that is known.
    pub fn since(&self) -> Option<Time> {
        match self.lifecycle {
            Lifecycle::Off => None,
            Lifecycle::On | Lifecycle::Draining => {
                let load = self.load.map(|load| load.since);
                let running = self.running.first().map(|running| running.since);
                load.or(running).or(Some(self.rested))
            }
            Lifecycle::Starting { since, .. }
            | Lifecycle::Stopping { since, .. }
            | Lifecycle::Quarantined { since, .. }
            | Lifecycle::Unreaped { since, .. } => Some(since),
        }
    }

    pub fn is_off(&self) -> bool {
        self.lifecycle == Lifecycle::Off
    }

    /// Takes work, or will once it is ready.
    pub fn is_on(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Starting { .. } | Lifecycle::On)
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Starting { .. })
    }

    pub fn is_draining(&self) -> bool {
        self.lifecycle == Lifecycle::Draining
    }

    /// Has a worker that is to do something.
    pub fn has_worker(&self) -> bool {
        self.is_on() || self.is_draining()
    }

    /// On without work.
    pub fn is_idle(&self) -> bool {
        self.lifecycle == Lifecycle::On && self.load.is_none() && self.running.is_empty()
    }

    /// Since when it is idle, if it is.
    pub fn idle_since(&self) -> Option<Time> {
        self.is_idle().then_some(self.rested)
    }

    /// On, with nothing to load.
    pub fn serves(&self) -> bool {
        self.lifecycle == Lifecycle::On && self.load.is_none()
    }

    /// Gets ready for work that it will take.
    pub fn warms_up(&self) -> bool {
        self.is_starting() || self.load.is_some()
    }

    /// Whether it loads this model.
    pub fn loads(&self, model: ModelId) -> bool {
        self.load.is_some_and(|load| load.model == model)
    }

    /// The batch that the worker runs; the others wait for it.
    pub fn first(&self) -> Option<&Batch> {
        self.running.first().map(|running| &running.batch)
    }

    /// This batch, if the worker has it.
    pub fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.running.iter().map(|running| &running.batch).find(|batch| batch.id == id)
    }

    /// Whether the worker has a batch of this model.
    pub fn runs(&self, model: ModelId) -> bool {
        self.running.iter().any(|running| running.batch.model == model)
    }

    /// Whether the worker has this batch.
    pub fn has(&self, batch: BatchId) -> bool {
        self.batch(batch).is_some()
    }

    /// Whether a worker goes that is not to blame for anything.
    pub fn stops_for_good(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Stopping { fault: None, .. })
    }

    /// Whether it was let down and is not, or not yet, trusted again.
    pub fn is_faulty(&self) -> bool {
        match self.lifecycle {
            Lifecycle::Quarantined { .. } | Lifecycle::Unreaped { .. } => true,
            Lifecycle::Stopping { fault, .. } => fault.is_some(),
            Lifecycle::Off | Lifecycle::Starting { .. } | Lifecycle::On | Lifecycle::Draining => {
                false
            }
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
