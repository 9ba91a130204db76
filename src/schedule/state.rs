//! State of one adapter, as known to the scheduler.

use super::batch::Batch;
use super::event::{AdapterMode, Fault};
use super::ids::{BatchId, Incarnation, ModelId, Time};
use super::settings::AdapterProfile;
use std::collections::BTreeMap;
use std::time::Duration;

/// Lifecycle of an adapter. `tests/states.rs` contains a test for every row.
///
/// *Wanted* means that too few adapters are on for the load or the minimum, or that the operator
/// turned it on; *unwanted* that too many have been on for long enough, that the operator or the
/// shutdown turns it off, or that it is a fallback for an adapter that serves again. While it is
/// `On` it may load a model and run batches: `load` and `running` of [`State`].
///
/// ```text
///   from             on                            to
///   Off              wanted                        Starting     emits Start
///   Starting         Ready                         On
///   Starting         could not be started          Off
///   Starting         unwanted, but for a surplus   Stopping     emits Stop
///   On, idle         a model is due                On, loads    emits Load
///   On               a batch is due                On, runs it  emits Run
///   On               Done, or Failed by input      On
///   On, loads        Loaded, LoadFailed            On
///   On, no batch     unwanted                      Stopping     emits Stop
///   On, batches      unwanted                      Draining     emits Unload if it loads
///   Draining         wanted                        On
///   Draining         Done, or Failed by input,
///                    and it was the last batch     Stopping     emits Stop
///   Starting, On,
///   Draining         a fault                       Stopping     emits Kill
///   Starting, On,
///   Draining         Exited                        Quarantined
///   On, Draining     killed for lack of memory     Off
///   Stopping         Exited                        Off, or Quarantined after a fault
///   Stopping         no exit for too long          Stopping     emits Kill
///   Stopping         killed, no exit for too long  Unreaped
///   Unreaped         Exited                        Quarantined
///   Quarantined      its time is over              Off
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// It has no worker process.
    Off,
    /// The worker is spawned, opens the device and checks it.
    Starting { since: Time, progress: Time },
    /// The device is open.
    On,
    /// Finishes its batches and takes no further ones.
    Draining,
    /// Requested to exit, or killed. `fault` is set when a fault, rather than a surplus, ended it.
    Stopping { since: Time, killed: bool, fault: Option<Fault> },
    /// Without a worker after a fault of the device; tried again at `until`.
    Quarantined { since: Time, until: Time },
    /// The worker was killed and does not exit: it is stuck in its driver. A second worker is never
    /// started beside it, so this lasts until the process is reaped.
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
    /// Time from which the worker can have run it: it was handed over, or the previous one was
    /// done.
    pub since: Time,
    pub batch: Batch,
    /// The worker did nothing else meanwhile, so that its time can be learned from.
    pub alone: bool,
}

/// Activity of an adapter, derived from its state.
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

    /// Returns a word for JSON and the web page.
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

/// State of an adapter: its lifecycle, its load and its batches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub lifecycle: Lifecycle,
    /// The load; only while it is on.
    pub load: Option<Loading>,
    /// Batches with the worker, in the order in which it runs them; only while it is on or draining.
    pub running: Vec<Running>,
    /// Time since which it has had no work, if it is idle.
    pub(super) idle_from: Time,
}

impl State {
    /// Off, as at the beginning.
    pub(super) const OFF: State = State {
        lifecycle: Lifecycle::Off,
        load: None,
        running: Vec::new(),
        idle_from: Time(std::time::Duration::ZERO),
    };

    /// Returns its activity, for operators.
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

    /// Returns the time since which it is in this state, where that is known.
    pub fn since(&self) -> Option<Time> {
        match self.lifecycle {
            Lifecycle::Off => None,
            Lifecycle::On | Lifecycle::Draining => {
                let load = self.load.map(|load| load.since);
                let running = self.running.first().map(|running| running.since);
                load.or(running).or(Some(self.idle_from))
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

    /// Returns whether it takes work, or will once it is ready.
    pub fn is_on(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Starting { .. } | Lifecycle::On)
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Starting { .. })
    }

    pub fn is_draining(&self) -> bool {
        self.lifecycle == Lifecycle::Draining
    }

    /// Returns whether it has a worker that should do work.
    pub fn has_worker(&self) -> bool {
        self.is_on() || self.is_draining()
    }

    /// Returns whether it is on without work.
    pub fn is_idle(&self) -> bool {
        self.lifecycle == Lifecycle::On && self.load.is_none() && self.running.is_empty()
    }

    /// Returns the time since which it is idle, if it is.
    pub fn idle_since(&self) -> Option<Time> {
        self.is_idle().then_some(self.idle_from)
    }

    /// Returns whether it is on without a load.
    pub fn serves(&self) -> bool {
        self.lifecycle == Lifecycle::On && self.load.is_none()
    }

    /// Returns whether it is getting ready for work.
    pub fn warms_up(&self) -> bool {
        self.is_starting() || self.load.is_some()
    }

    /// Returns whether it loads this model.
    pub fn loads(&self, model: ModelId) -> bool {
        self.load.is_some_and(|load| load.model == model)
    }

    /// Returns the batch that the worker runs; the others wait for it.
    pub fn first(&self) -> Option<&Batch> {
        self.running.first().map(|running| &running.batch)
    }

    /// Returns this batch, if the worker has it.
    pub fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.running.iter().map(|running| &running.batch).find(|batch| batch.id == id)
    }

    /// Returns whether the worker has a batch of this model.
    pub fn runs(&self, model: ModelId) -> bool {
        self.running.iter().any(|running| running.batch.model == model)
    }

    /// Returns whether the worker has this batch.
    pub fn has(&self, batch: BatchId) -> bool {
        self.batch(batch).is_some()
    }

    /// Returns whether its worker stops without a fault.
    pub fn stops_normally(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Stopping { fault: None, .. })
    }

    /// Returns whether it is off or stopping after a fault.
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

/// Public view of one adapter.
#[derive(Clone, Copy, Debug)]
pub struct AdapterView<'a> {
    pub state: &'a State,
    pub mode: AdapterMode,
    pub incarnation: Incarnation,
    /// Models that are loaded.
    pub replicas: &'a BTreeMap<ModelId, Replica>,
    pub last_fault: Option<Fault>,
    /// Validation batches in which its results must still agree with others before it answers
    /// itself.
    pub shadow_batches: u32,
    pub profile: &'a AdapterProfile,
    /// Learned time from spawning the worker to an open device.
    pub cold_start: Option<Duration>,
    /// Bytes that loaded models hold.
    pub bytes: u64,
    /// Bytes that models may take now; `None` if it is unknown.
    pub budget: Option<u64>,
}

/// One model loaded on one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Bytes on the device, as measured, or else as estimated from the files.
    pub bytes: u64,
    /// Time at which it last ran a batch, or was loaded.
    pub used: Time,
    pub loaded: Time,
}
