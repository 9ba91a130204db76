//! One adapter: its profile, state, models and learned values. Only this file changes its state.

use super::batch::Batch;
use super::economy::Economy;
use super::event::{AdapterMode, Fault};
use super::ids::{BatchId, Incarnation, ModelId, Time};
use super::known::{Known, learn};
use super::learned_profile::LearnedProfile;
use super::settings::{AdapterProfile, Timeouts};
use super::state::{AdapterView, Lifecycle, Loading, Replica, Running, State};
use std::collections::BTreeMap;
use std::time::Duration;

/// Batches with outputs equal to those of other adapters before the adapter answers again.
pub(super) const SHADOW_BATCHES: u32 = 3;
/// One adapter: its profile, state, models and learned values.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) profile: AdapterProfile,
    state: State,
    pub(super) mode: AdapterMode,
    /// True if the last discovery listed it.
    pub(super) present: bool,
    /// True if the last discovery listed it as excluded from use.
    pub(super) excluded: bool,
    pub(super) incarnation: Incarnation,
    /// Time of the last heartbeat of the worker.
    pub(super) last_heartbeat: Time,
    /// Consecutive faults; a successful batch resets them.
    pub(super) consecutive_faults: u32,
    pub(super) last_fault: Option<Fault>,
    /// Batches still to be compared with other adapters before it answers requests itself.
    pub(super) shadow_batches: u32,
    pub(super) replicas: BTreeMap<ModelId, Replica>,
    /// Bytes available to models at the present memory use of other programs; `None` if unknown.
    pub(super) memory_budget: Option<u64>,
    /// Models that failed to load here, and the time of the next attempt.
    pub(super) refused_until: BTreeMap<ModelId, Time>,
    /// Models without memory for even one row here, and the time of the next attempt.
    pub(super) no_memory_until: BTreeMap<ModelId, Time>,
    pub(super) known: BTreeMap<ModelId, Known>,
    /// Speed measured by the probe; 0 until then.
    pub(super) speed: u64,
    /// Learned seconds from the start of the process to an open device.
    pub(super) cold_start: Option<f64>,
    /// Time at which it became ready in its present incarnation.
    pub(super) ready: Time,
    pub(super) economy: Economy,
}

impl Adapter {
    pub(super) fn new(profile: AdapterProfile) -> Adapter {
        Adapter {
            profile,
            state: State::OFF,
            mode: AdapterMode::Auto,
            present: true,
            excluded: false,
            incarnation: Incarnation(0),
            last_heartbeat: Time::default(),
            consecutive_faults: 0,
            last_fault: None,
            shadow_batches: 0,
            replicas: BTreeMap::new(),
            memory_budget: None,
            refused_until: BTreeMap::new(),
            no_memory_until: BTreeMap::new(),
            known: BTreeMap::new(),
            speed: 0,
            cold_start: None,
            ready: Time::default(),
            economy: Economy::default(),
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Returns true if it is listed, or is still on without being excluded.
    pub(super) fn is_available(&self) -> bool {
        self.present || (self.state.is_on() && !self.excluded)
    }

    /// Returns the time of the next timeout of the present state, if it has one.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Option<Time> {
        let heartbeat_end = self.last_heartbeat + timeouts.heartbeat;
        match self.state.lifecycle {
            Lifecycle::Off | Lifecycle::Unreaped { .. } => None,
            Lifecycle::Starting { progress, .. } => {
                Some(heartbeat_end.min(progress + timeouts.start))
            }
            Lifecycle::On | Lifecycle::Draining => Some(heartbeat_end.min(self.stuck_at(timeouts))),
            Lifecycle::Stopping { since, killed: false, .. } => Some(since + timeouts.stop),
            Lifecycle::Stopping { since, killed: true, .. } => Some(since + timeouts.kill),
            Lifecycle::Quarantined { until, .. } => Some(until),
        }
    }

    /// Returns the timeout of a load without progress or of a batch. A batch beside a load waits
    /// for its steps, so that only the load counts.
    fn stuck_at(&self, timeouts: &Timeouts) -> Time {
        match (self.state.load, self.state.running.first()) {
            (Some(load), _) => load.progress + timeouts.start,
            (None, Some(running)) => running.since + timeouts.run,
            (None, None) => Time::NEVER,
        }
    }

    /// Returns true if it accepts a batch of a loaded model: during a load of another model, one at
    /// a time.
    pub(super) fn takes_batches(&self) -> bool {
        let slots = if self.state.load.is_some() { 1 } else { self.profile.slots.max(1) };
        self.state.lifecycle == Lifecycle::On && self.state.running.len() < slots as usize
    }

    /// Returns true if this model is loaded or being loaded.
    pub(super) fn holds(&self, model: ModelId) -> bool {
        self.state.loads(model) || self.replicas.contains_key(&model)
    }

    /// Returns the seconds of a cold start: learned, or else estimated by class.
    pub(super) fn cold_start(&self) -> f64 {
        self.cold_start.unwrap_or(self.profile.cold_start.as_secs_f64())
    }

    /// Returns the bytes that models may use now.
    pub(super) fn budget(&self) -> Option<u64> {
        // `Option::min` would take an unknown limit for the smaller one.
        self.profile.memory.into_iter().chain(self.memory_budget).min()
    }

    /// Returns the bytes of all loaded models.
    pub(super) fn bytes(&self) -> u64 {
        self.replicas.values().map(|replica| replica.bytes).fold(0, u64::saturating_add)
    }

    pub(super) fn view(&self) -> AdapterView<'_> {
        AdapterView {
            state: &self.state,
            mode: self.mode,
            incarnation: self.incarnation,
            replicas: &self.replicas,
            last_fault: self.last_fault,
            shadow_batches: self.shadow_batches,
            profile: &self.profile,
            cold_start: self.cold_start.map(Duration::from_secs_f64),
            bytes: self.bytes(),
            budget: self.budget(),
        }
    }
}

/// The result of draining an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// It finishes its batches, and aborts the load of this model if there is one.
    Batches(Option<ModelId>),
    /// It stops, since it has no batch.
    Stop,
}

/// A batch that an adapter has finished.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) batch: Batch,
    /// Time at which it began, if nothing else ran beside it.
    pub(super) since: Option<Time>,
    /// True if the adapter was draining and now stops.
    pub(super) stops: bool,
}

/// Transitions: one method for each row of the table at [`Lifecycle`].
impl Adapter {
    /// Off, wanted. `waited_for` is true if requests wait for this start.
    pub(super) fn start(&mut self, now: Time, waited_for: bool) -> Incarnation {
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        self.last_heartbeat = now;
        self.replicas.clear();
        // Other programs may have freed memory. While a worker lives, its models stay as they are.
        for known in self.known.values_mut() {
            known.rows_max = known.rows_max.filter(|(_, until)| *until > now);
        }
        self.economy.started(now, waited_for);
        self.become_only(Lifecycle::Starting { since: now, progress: now });
        self.incarnation
    }

    /// Starting, failed to start for a cause outside the adapter. Returns true if it was starting.
    pub(super) fn cancel_start(&mut self) -> bool {
        let starting = self.state.is_starting();
        if starting {
            self.turn_off();
            // It does not count as an activation.
            self.economy.starts.pop_back();
        }
        starting
    }

    /// Starting, or loading: the worker made progress.
    pub(super) fn progressed(&mut self, now: Time) {
        self.last_heartbeat = now;
        if let Lifecycle::Starting { progress, .. } = &mut self.state.lifecycle {
            *progress = now;
        }
        if let Some(load) = &mut self.state.load {
            load.progress = now;
        }
    }

    /// Starting, ready. Returns true if it was starting.
    pub(super) fn opened(&mut self, now: Time, speed: u64) -> bool {
        let Lifecycle::Starting { since, .. } = self.state.lifecycle else { return false };
        (self.last_heartbeat, self.ready, self.speed) = (now, now, speed);
        learn(&mut self.cold_start, now.since(since));
        self.become_only(Lifecycle::On);
        self.state.idle_from = now;
        true
    }

    /// Idle, a model is due.
    pub(super) fn begin_load(&mut self, now: Time, model: ModelId) {
        debug_assert!(self.state.is_idle(), "{:?}", self.state);
        self.state.load = Some(Loading { since: now, progress: now, model });
    }

    /// Loading, loaded or failed. Returns the time at which the load of this model began, if it
    /// ran.
    pub(super) fn end_load(&mut self, now: Time, expected: ModelId) -> Option<Time> {
        let load = self.state.load.take_if(|load| load.model == expected)?;
        (self.last_heartbeat, self.state.idle_from) = (now, now);
        if let Some(running) = self.state.running.first_mut() {
            running.since = now;
        }
        Some(load.since)
    }

    /// On, a batch is due.
    pub(super) fn run(&mut self, now: Time, batch: Batch) {
        debug_assert!(self.takes_batches(), "{:?}", self.state);
        self.economy.ran();
        // The time of a batch beside a load includes steps of the load, and is not learned.
        let alone = self.state.load.is_none();
        self.state.running.push(Running { since: now, batch, alone });
    }

    /// On or draining: finished this batch, if it has it.
    pub(super) fn finish(&mut self, now: Time, id: BatchId) -> Option<Finished> {
        let at = self.state.running.iter().position(|running| running.batch.id == id)?;
        let Running { since, batch, alone } = self.state.running.remove(at);
        self.last_heartbeat = now;
        if let Some(next) = self.state.running.first_mut() {
            // The worker runs one batch at a time: the next one begins when the first one ends.
            next.since = if at == 0 { now } else { next.since };
        } else {
            (self.economy.no_work_since, self.state.idle_from) = (Some(now), now);
        }
        let stops = self.state.is_draining() && self.state.running.is_empty();
        if stops {
            self.stop(now);
        }
        Some(Finished { batch, since: alone.then_some(since), stops })
    }

    /// Starting or on, unwanted.
    pub(super) fn drain(&mut self, now: Time) -> Option<Drained> {
        if !self.state.is_on() {
            return None;
        }
        let Some(first) = self.state.running.first_mut() else {
            self.stop(now);
            return Some(Drained::Stop);
        };
        let load = self.state.load.take();
        if load.is_some() {
            // It may have waited for steps of the load so far.
            first.since = now;
        }
        self.state.lifecycle = Lifecycle::Draining;
        Some(Drained::Batches(load.map(|load| load.model)))
    }

    /// Draining, wanted. Returns true if it was draining.
    pub(super) fn resume(&mut self) -> bool {
        let draining = self.state.is_draining();
        if draining {
            self.state.lifecycle = Lifecycle::On;
        }
        draining
    }

    /// The worker is requested to exit.
    pub(super) fn stop(&mut self, now: Time) {
        self.replicas.clear();
        self.become_only(Lifecycle::Stopping { since: now, killed: false, fault: None });
    }

    /// A fault in any state with a worker: its process must exit. Returns the batches that it had.
    pub(super) fn fail(&mut self, now: Time, fault: Fault) -> Vec<Batch> {
        debug_assert!(self.state.has_worker(), "{:?}", self.state);
        self.consecutive_faults = self.consecutive_faults.saturating_add(1);
        self.last_fault = Some(fault);
        self.replicas.clear();
        if fault == Fault::WrongAnswer {
            self.shadow_batches = SHADOW_BATCHES;
        }
        self.become_only(Lifecycle::Stopping { since: now, killed: true, fault: Some(fault) })
    }

    /// On or draining, killed by the kernel for lack of memory. Returns the batches that it had;
    /// `None` in another state.
    pub(super) fn killed_for_memory(&mut self) -> Option<Vec<Batch>> {
        if !matches!(self.state.lifecycle, Lifecycle::On | Lifecycle::Draining) {
            return None;
        }
        self.replicas.clear();
        self.last_fault = Some(Fault::Memory);
        // Not a fault of the adapter, so that it is not quarantined.
        Some(self.become_only(Lifecycle::Off))
    }

    /// Stopping, no exit within the stop timeout: it is killed.
    pub(super) fn kill(&mut self, now: Time) {
        if let Lifecycle::Stopping { since, killed, .. } = &mut self.state.lifecycle {
            (*since, *killed) = (now, true);
        }
    }

    /// Stopping, killed and no exit within the kill timeout.
    pub(super) fn mark_unreaped(&mut self, now: Time, fault: Fault) {
        self.become_only(Lifecycle::Unreaped { since: now, fault });
    }

    /// Stopping after a fault, or unreaped: its process has exited. The next start is at `until`.
    pub(super) fn quarantine(&mut self, now: Time, until: Time) {
        self.become_only(Lifecycle::Quarantined { since: now, until });
    }

    /// Stopping: its process has exited; or quarantined: the quarantine is over.
    pub(super) fn turn_off(&mut self) {
        self.become_only(Lifecycle::Off);
    }

    /// Ends the load and all batches. Returns the batches that it had.
    fn become_only(&mut self, lifecycle: Lifecycle) -> Vec<Batch> {
        (self.state.lifecycle, self.state.load) = (lifecycle, None);
        self.state.running.drain(..).map(|running| running.batch).collect()
    }
}

impl Adapter {
    /// Restores the values of starts from an earlier run, unless it was started in this one.
    pub(super) fn restore(&mut self, now: Time, profile: &LearnedProfile) {
        if self.incarnation.0 == 0 {
            self.economy.restore(now, profile);
        }
    }
}
