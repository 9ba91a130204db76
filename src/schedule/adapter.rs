//! One adapter with all that is remembered of it. Only this file changes its state.

use super::batch::Batch;
use super::event::{Fault, Wish};
use super::helped::Helped;
use super::ids::{BatchId, Incarnation, ModelId, Time};
use super::known::{Known, learn};
use super::recollection::Recollection;
use super::regret::Regret;
use super::settings::{AdapterProfile, Bounds};
use super::spells::Spells;
use super::state::{AdapterView, Replica, State};
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Batches in which an adapter must have agreed with others before it answers again.
pub(super) const SHADOWED: u32 = 3;
/// Weight of the last start in what is believed of the next.
const MISSES_GAIN: f64 = 0.8;
/// Weight of the last start in the long average of requests that starts make late.
const MISSES_GAIN_LONG: f64 = 0.2;

/// A client that comes regularly, and for which an adapter is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) model: ModelId,
    /// It is not waited for any longer than until then.
    pub(super) until: Time,
}

/// One adapter with all that is remembered of it.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) profile: AdapterProfile,
    state: State,
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

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn is_off(&self) -> bool {
        self.state == State::Off
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

/// What an adapter does that takes no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// It ends its batch.
    Batch,
    /// The same; it gives up loading this model.
    Unload(ModelId),
    /// It stops, since it has no batch.
    Stop,
}

/// A batch that an adapter has finished.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) batch: Batch,
    /// When it began, if the adapter did nothing else meanwhile.
    pub(super) since: Option<Time>,
    /// Whether the adapter stops now, since it was draining.
    pub(super) stops: bool,
}

/// Transitions: one method for each row of the table at [`State`].
impl Adapter {
    /// Off, wanted. `waited_for` tells whether requests wait for this start.
    pub(super) fn start(&mut self, now: Time, waited_for: bool) -> Incarnation {
        self.misses_long += MISSES_GAIN_LONG * (self.missed - self.misses_long);
        self.misses = self.late_requests();
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        self.alive = now;
        self.replicas.clear();
        // Others may have given memory back. While a worker lives its models stay as they are.
        for known in self.known.values_mut() {
            known.rows_max = known.rows_max.filter(|(_, until)| *until > now);
        }
        self.starts.push_back(now + HOUR);
        self.end_spell(now);
        self.expected = None;
        (self.early, self.served) = (!waited_for, false);
        self.missed = 0.0;
        self.state = State::Starting { since: now, progress: now };
        self.incarnation
    }

    /// Starting, could not be started: no fault of the adapter. Tells whether it was starting.
    pub(super) fn cancel_start(&mut self) -> bool {
        let starting = matches!(self.state, State::Starting { .. });
        if starting {
            self.state = State::Off;
            // It was no activation.
            self.starts.pop_back();
        }
        starting
    }

    /// Starting, or loading: the worker made progress.
    pub(super) fn progressed(&mut self, now: Time) {
        self.alive = now;
        if let State::Starting { progress, .. } | State::Loading { progress, .. } = &mut self.state
        {
            *progress = now;
        }
    }

    /// Starting, ready. Tells whether it was starting.
    pub(super) fn opened(&mut self, now: Time, speed: u64) -> bool {
        let State::Starting { since, .. } = self.state else { return false };
        (self.alive, self.ready, self.speed) = (now, now, speed);
        learn(&mut self.cold_start, now.since(since));
        self.state = State::Idle { since: now };
        true
    }

    /// Idle, a model is due.
    pub(super) fn begin_load(&mut self, now: Time, model: ModelId) {
        debug_assert!(self.is_idle(), "{:?}", self.state);
        self.state = State::Loading { since: now, progress: now, model, batch: None };
    }

    /// Loading, loaded or failed. Tells since when it loaded this model, if it did.
    pub(super) fn end_load(&mut self, now: Time, expected: ModelId) -> Option<Time> {
        let State::Loading { since, model, batch, .. } = &mut self.state else { return None };
        if *model != expected {
            return None;
        }
        let (since, batch) = (*since, batch.take());
        self.alive = now;
        self.state = match batch {
            Some((_, batch)) => State::Busy { since: now, batch },
            None => State::Idle { since: now },
        };
        Some(since)
    }

    /// Idle or loading, a batch is due.
    pub(super) fn run(&mut self, now: Time, held: Batch) {
        debug_assert!(self.takes_batches(), "{:?}", self.state);
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

    /// Busy, loading or draining: done with this batch, if it has it.
    pub(super) fn finish(&mut self, now: Time, id: BatchId) -> Option<Finished> {
        self.state.batch().filter(|batch| batch.id == id)?;
        (self.alive, self.workless) = (now, Some(now));
        let alone = !self.disturbed;
        match mem::replace(&mut self.state, State::Idle { since: now }) {
            State::Busy { since, batch } => {
                Some(Finished { batch, since: alone.then_some(since), stops: false })
            }
            State::Draining { since, batch } => {
                self.stop(now);
                Some(Finished { batch, since: alone.then_some(since), stops: true })
            }
            State::Loading { since, progress, model, batch: Some((_, batch)) } => {
                self.state = State::Loading { since, progress, model, batch: None };
                Some(Finished { batch, since: None, stops: false })
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Starting, idle, loading or busy, unwanted.
    pub(super) fn drain(&mut self, now: Time) -> Option<Drained> {
        match mem::replace(&mut self.state, State::Off) {
            State::Busy { since, batch } => {
                self.state = State::Draining { since, batch };
                Some(Drained::Batch)
            }
            State::Loading { model, batch: Some((_, batch)), .. } => {
                // It may have waited for a step of the load so far.
                self.state = State::Draining { since: now, batch };
                Some(Drained::Unload(model))
            }
            State::Starting { .. } | State::Loading { .. } | State::Idle { .. } => {
                self.stop(now);
                Some(Drained::Stop)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Draining, wanted. Tells whether it was draining.
    pub(super) fn resume(&mut self) -> bool {
        let State::Draining { since, batch } = &self.state else { return false };
        self.state = State::Busy { since: *since, batch: batch.clone() };
        true
    }

    /// Idle or draining, told to exit.
    pub(super) fn stop(&mut self, now: Time) {
        self.replicas.clear();
        self.state = State::Stopping { since: now, killed: false, fault: None };
    }

    /// A fault, in whatever state it works: its process has to go. Gives back the batch that it had.
    pub(super) fn fail(&mut self, now: Time, fault: Fault) -> Option<Batch> {
        self.strikes = self.strikes.saturating_add(1);
        self.last_fault = Some(fault);
        self.replicas.clear();
        if fault == Fault::WrongAnswer {
            self.trial = SHADOWED;
        }
        let stopping = State::Stopping { since: now, killed: true, fault: Some(fault) };
        mem::replace(&mut self.state, stopping).into_batch()
    }

    /// Idle, loading, busy or draining, killed for want of memory. Gives back the batch that it had;
    /// `None` if it was in another state.
    pub(super) fn killed_for_memory(&mut self) -> Option<Option<Batch>> {
        if !self.state.serves()
            && !matches!(self.state, State::Loading { .. } | State::Draining { .. })
        {
            return None;
        }
        self.replicas.clear();
        self.last_fault = Some(Fault::Memory);
        Some(mem::replace(&mut self.state, State::Off).into_batch())
    }

    /// Stopping, no exit for too long: it is killed.
    pub(super) fn kill(&mut self, now: Time) {
        if let State::Stopping { since, killed, .. } = &mut self.state {
            (*since, *killed) = (now, true);
        }
    }

    /// Stopping, killed and no exit for too long.
    pub(super) fn give_up(&mut self, now: Time, fault: Fault) {
        self.state = State::Unreaped { since: now, fault };
    }

    /// Stopping after a fault, or unreaped: its process is gone. Tried again at `until`.
    pub(super) fn quarantine(&mut self, now: Time, until: Time) {
        self.state = State::Quarantined { since: now, until };
    }

    /// Stopping: its process is gone; or quarantined: its time has come.
    pub(super) fn turn_off(&mut self) {
        self.state = State::Off;
    }
}

impl Adapter {
    /// Takes in what an earlier run learned of starts, unless it was started in this one.
    pub(super) fn recall(&mut self, now: Time, memory: &Recollection) {
        if self.incarnation.0 > 0 || !self.spells.is_empty() {
            return;
        }
        self.misses = memory.late_permille.map_or(self.misses, |late| f64::from(late) * 1e-3);
        for (spell, break_even) in &memory.spells {
            self.spells.record(spell.as_secs_f64(), break_even.as_secs_f64());
        }
        self.helped = memory.helped.map_or(self.helped, |helped| Helped::recalled(now, helped));
        self.starts = memory.starts.iter().map(|left| now + (*left).min(HOUR)).collect();
    }
}
