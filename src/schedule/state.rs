//! What the scheduler believes about one adapter.

use super::batch::Batch;
use super::event::{Fault, Wish};
use super::ids::{Incarnation, ModelId, Time};
use super::light::Helped;
use super::replace::Regret;
use super::service::Service;
use super::settings::{AdapterProfile, Bounds};
use super::spells::Spells;
use std::collections::{BTreeMap, VecDeque};
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

/// What was learned of a model on an adapter; outlives the worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Time to load and warm up, in seconds.
    pub(super) load: Option<f64>,
    /// Whether that is estimated from a load that tuned kernels.
    pub(super) estimated: bool,
    /// Time to load and warm up where kernels must be tuned first, in seconds.
    pub(super) first_load: Option<f64>,
    pub(super) bytes: Option<u64>,
    /// Service models by the size of a row.
    pub(super) services: BTreeMap<u8, Service>,
    /// Rows of the largest batch that the memory is believed to hold, and until when; without it
    /// those of the model.
    pub(super) rows_max: Option<(u32, Time)>,
    /// Rows of the largest batch that the worker measured when it loaded the model.
    pub(super) grown_rows: Option<u32>,
}

/// A client that comes regularly, and for which an adapter is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) model: ModelId,
    /// It is not waited for any longer than until then.
    pub(super) until: Time,
}

/// Weight of the last start in what is believed of the next.
const MISSES_GAIN: f64 = 0.8;

/// One adapter with all that is remembered of it.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) profile: AdapterProfile,
    pub(super) state: State,
    pub(super) wish: Wish,
    /// Whether the last listing had it.
    pub(super) present: bool,
    /// Whether it had it as one that is not to be used.
    pub(super) excluded: bool,
    pub(super) incarnation: Incarnation,
    /// The last sign of life of the worker's link thread.
    pub(super) alive: Time,
    /// Faults in a row; a batch that succeeds clears them.
    pub(super) strikes: u32,
    pub(super) last_fault: Option<Fault>,
    /// Batches in which it must still agree with others before it answers itself.
    pub(super) trial: u32,
    pub(super) replicas: BTreeMap<ModelId, Replica>,
    /// Bytes that models may take as long as other programs use what they use now; `None` where
    /// nobody can tell.
    pub(super) left: Option<u64>,
    /// Models that could not be loaded here, and until when that is believed.
    pub(super) refused: BTreeMap<ModelId, Time>,
    /// Models that not even one row of had memory here, and until when that is believed.
    pub(super) crowded: BTreeMap<ModelId, Time>,
    pub(super) known: BTreeMap<ModelId, Known>,
    /// Whether its batch had to share the device with a load: how long it takes teaches nothing.
    pub(super) disturbed: bool,
    /// Measured by the probe; 0 until then.
    pub(super) speed: u64,
    /// Learned time from spawning the worker to an open device, in seconds.
    pub(super) cold_start: Option<f64>,
    /// When it became ready in this life.
    pub(super) ready: Time,
    /// When the activations of the last hour for the load's sake will be an hour old.
    pub(super) starts: VecDeque<Time>,
    /// Since when it has had no work, on or off; none while it has, or is started for some.
    pub(super) workless: Option<Time>,
    pub(super) spells: Spells,
    pub(super) regret: Regret,
    /// Requests that an activation makes miss their target, on average; and so far this time.
    pub(super) misses: f64,
    pub(super) missed: f64,
    /// The same over more starts, for adapters whose start fits into the target: there it is a price
    /// that must not change with each start.
    pub(super) misses_long: f64,
    /// The client that it is on for, who has not come yet.
    pub(super) expected: Option<Expected>,
    /// Whether it was last turned on before anybody waited for it: that start made nobody late.
    pub(super) early: bool,
    /// Whether it has run a batch since it was last turned on.
    pub(super) served: bool,
    pub(super) helped: Helped,
    /// Since when it was idle when it was found worth keeping for its models, and for how many
    /// seconds from then on.
    pub(super) kept: Option<(Time, f64)>,
    /// Seconds of idling that cost as much as the last activation would have.
    pub(super) break_even: f64,
}

impl Adapter {
    pub(super) fn new(profile: AdapterProfile) -> Adapter {
        Adapter {
            profile,
            state: State::Off,
            wish: Wish::Auto,
            present: true,
            excluded: false,
            incarnation: Incarnation(0),
            alive: Time::default(),
            strikes: 0,
            last_fault: None,
            trial: 0,
            replicas: BTreeMap::new(),
            left: None,
            refused: BTreeMap::new(),
            crowded: BTreeMap::new(),
            known: BTreeMap::new(),
            disturbed: false,
            speed: 0,
            cold_start: None,
            ready: Time::default(),
            starts: VecDeque::new(),
            workless: None,
            spells: Spells::default(),
            regret: Regret::default(),
            misses: 1.0,
            missed: 0.0,
            misses_long: 1.0,
            expected: None,
            early: false,
            served: false,
            helped: Helped::default(),
            kept: None,
            break_even: 1.0,
        }
    }

    /// Whether it is in the machine, or works as if it were, and may be used.
    pub(super) fn is_there(&self) -> bool {
        self.present || (self.state.is_on() && !self.excluded)
    }

    /// When this adapter's patience runs out, if it waits for anything.
    pub(super) fn deadline(&self, bounds: &Bounds) -> Option<Time> {
        let silent = self.alive + bounds.silence;
        match self.state {
            State::Off | State::Unreaped { .. } => None,
            State::Starting { progress, .. } | State::Loading { progress, .. } => {
                Some(silent.min(progress + bounds.start))
            }
            State::Idle { .. } => Some(silent),
            State::Busy { since, .. } | State::Draining { since, .. } => {
                Some(silent.min(since + bounds.run))
            }
            State::Stopping { since, killed: false, .. } => Some(since + bounds.stop),
            State::Stopping { since, killed: true, .. } => Some(since + bounds.reap),
            State::Quarantined { until, .. } => Some(until),
        }
    }

    /// It has work again, or is started for some.
    pub(super) fn end_spell(&mut self, now: Time) {
        if let Some(since) = self.workless.take() {
            self.spells.record(now.since(since).as_secs_f64(), self.break_even);
        }
    }

    /// Holds a batch from now on.
    pub(super) fn run(&mut self, now: Time, held: Batch) {
        (self.expected, self.served) = (None, true);
        match &mut self.state {
            State::Loading { batch, .. } => {
                *batch = Some((now, held));
                self.disturbed = true;
            }
            state => {
                *state = State::Busy { since: now, batch: held };
                self.disturbed = false;
            }
        }
    }

    /// Whether it takes a batch of a model that it has.
    pub(super) fn takes_batches(&self) -> bool {
        self.is_idle() || matches!(self.state, State::Loading { batch: None, .. })
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle { .. })
    }

    /// Whether it has this model, or loads it.
    pub(super) fn holds(&self, model: ModelId) -> bool {
        let loads = matches!(self.state, State::Loading { model: loads, .. } if loads == model);
        loads || self.replicas.contains_key(&model)
    }

    /// Requests that a start makes late, as far as is known: on average over those that requests
    /// waited for, the last one included.
    pub(super) fn late_requests(&self) -> f64 {
        if self.early || self.incarnation.0 == 0 {
            return self.misses;
        }
        self.misses + MISSES_GAIN * (self.missed - self.misses)
    }

    /// Seconds from spawning the worker to an open device: learned, or else guessed by class.
    pub(super) fn cold_start(&self) -> f64 {
        self.cold_start.unwrap_or(self.profile.cold_start.as_secs_f64())
    }

    /// Bytes that models may take now.
    pub(super) fn budget(&self) -> Option<u64> {
        self.profile.memory.into_iter().chain(self.left).min()
    }

    /// Bytes that loaded models hold.
    pub(super) fn bytes(&self) -> u64 {
        self.replicas.values().map(|replica| replica.bytes).fold(0, u64::saturating_add)
    }

    pub(super) fn view(&self) -> AdapterView<'_> {
        AdapterView {
            state: &self.state,
            wish: self.wish,
            incarnation: self.incarnation,
            replicas: &self.replicas,
            last_fault: self.last_fault,
            trial: self.trial,
            profile: &self.profile,
            cold_start: self.cold_start.map(Duration::from_secs_f64),
            bytes: self.bytes(),
            budget: self.budget(),
        }
    }
}
