//! What happens to adapters: found, started, loaded, let down, gone.

use super::action::Action;
use super::decision::{Change, Reason};
use super::event::{Again, Fault};
use super::ids::{AdapterId, Incarnation, ModelId, Time};
use super::recollection::{Recollection, ReplicaMemory, Took};
use super::scheduler::Scheduler;
use super::service::{Service, bucket};
use super::settings::AdapterProfile;
use super::shadow::SHADOWED;
use super::state::{Adapter, Known, Replica, State};
use std::mem;
use std::time::Duration;

/// Share by which a learned duration moves towards a longer and towards a shorter one: what takes
/// long is believed sooner, since promising too much costs more than promising too little.
const UP: f64 = 0.5;
const DOWN: f64 = 0.2;

/// A load without tuning is estimated to take at least one part in so many of one with it.
const LOAD_SHARE_MIN: u32 = 40;

impl Scheduler {
    pub(super) fn discovered(&mut self, adapters: Vec<(AdapterId, AdapterProfile)>) {
        self.discovered = true;
        for adapter in self.adapters.values_mut() {
            adapter.present = false;
        }
        for (id, profile) in adapters {
            let adapter = self.adapters.entry(id).or_insert_with(|| Adapter::new(profile));
            adapter.present = true;
            adapter.profile = profile;
        }
        self.sort();
    }

    /// The operator excludes these adapters, and no others.
    pub(super) fn exclude(&mut self, adapters: &[AdapterId]) {
        for (id, adapter) in &mut self.adapters {
            adapter.excluded = adapters.contains(id);
            adapter.present &= !adapter.excluded;
        }
    }

    /// Takes in what an earlier run learned.
    pub(super) fn recall(&mut self, now: Time, id: AdapterId, memory: Recollection) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        adapter.recall(now, &memory);
        adapter.cold_start = adapter.cold_start.or(memory.cold_start.map(|d| d.as_secs_f64()));
        for (model, replica) in memory.replicas {
            let known = adapter.known.entry(model).or_default();
            known.load = known.load.or(replica.load.map(|load| load.time.as_secs_f64()));
            known.estimated |= replica.load.is_some_and(|load| load.estimated);
            known.first_load = known.first_load.or(replica.first_load.map(|d| d.as_secs_f64()));
            known.bytes = known.bytes.or(replica.bytes);
            for (size, line) in replica.lines {
                known.services.entry(size).or_insert_with(|| Service::told(line));
            }
        }
    }

    /// What is worth keeping of an adapter for the next run.
    pub fn recollection(&self, now: Time, id: AdapterId) -> Option<Recollection> {
        let adapter = self.adapters.get(&id)?;
        let replicas = adapter.known.iter().map(|(model, known)| {
            let lines = known.services.iter().map(|(size, service)| (*size, service.line()));
            let took =
                |load| Took { time: Duration::from_secs_f64(load), estimated: known.estimated };
            let (load, bytes) = (known.load.map(took), known.bytes);
            let first_load = known.first_load.map(Duration::from_secs_f64);
            (*model, ReplicaMemory { load, first_load, bytes, lines: lines.collect() })
        });
        let cold_start = adapter.cold_start.map(Duration::from_secs_f64);
        Some(Recollection {
            cold_start,
            replicas: replicas.collect(),
            late_permille: Some((adapter.late_requests() * 1e3) as u32),
            spells: adapter.spells.learned(),
            helped: adapter.helped.learned(now),
            starts: adapter.starts.iter().map(|until| until.since(now)).collect(),
        })
    }

    pub(super) fn progress(&mut self, now: Time, id: AdapterId, incarnation: Incarnation) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        adapter.alive = now;
        if let State::Starting { progress, .. } | State::Loading { progress, .. } =
            &mut adapter.state
        {
            *progress = now;
        }
    }

    pub(super) fn ready(&mut self, now: Time, id: AdapterId, incarnation: Incarnation, speed: u64) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        let State::Starting { since, .. } = adapter.state else { return };
        adapter.alive = now;
        adapter.speed = speed;
        adapter.ready = now;
        learn(&mut adapter.cold_start, now.since(since));
        adapter.state = State::Idle { since: now };
        self.sort();
        self.failed_starts = 0;
    }

    pub(super) fn loaded(
        &mut self,
        now: Time,
        (id, incarnation): (AdapterId, Incarnation),
        model: ModelId,
        (bytes, tuning): (u64, Option<Duration>),
        measured: &[(u32, Duration)],
    ) {
        let Some(since) = self.load_ended(now, id, incarnation, model) else { return };
        let bytes = if bytes == 0 { self.bytes_of(id, model) } else { bytes };
        let (served, max_rows) = (self.models.contains_key(&model), self.rows_limit(id, model));
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        adapter.replicas.insert(model, Replica { bytes, used: now, loaded: now });
        if !served {
            return;
        }
        let known = adapter.known.entry(model).or_default();
        known.learn_load(now.since(since), tuning);
        known.bytes = Some(bytes);
        known.grown_rows = measured.iter().map(|(rows, _)| *rows).max();
        // The sizes of rows that clients send are not known yet: 0 stands for any.
        let service = known.services.entry(0).or_default();
        for (rows, took) in measured {
            service.observe(bucket(*rows, max_rows), *took);
        }
    }

    pub(super) fn load_failed(
        &mut self,
        now: Time,
        (id, incarnation): (AdapterId, Incarnation),
        (model, again): (ModelId, Again),
    ) {
        // A disk may recover; wrong files stay wrong until they are replaced.
        let until = now + self.settings.backoff_max;
        let until = if again == Again::Never { Time::NEVER } else { until };
        if self.load_ended(now, id, incarnation, model).is_some()
            && again != Again::Now
            && let Some(adapter) = self.adapters.get_mut(&id)
        {
            adapter.refused.insert(model, until);
        }
    }

    /// Since when the adapter loaded this model, if it did; it loads nothing now.
    fn load_ended(
        &mut self,
        now: Time,
        id: AdapterId,
        incarnation: Incarnation,
        expected: ModelId,
    ) -> Option<Time> {
        let adapter = self.current(id, incarnation)?;
        let State::Loading { since, model, batch, .. } = &mut adapter.state else { return None };
        if *model != expected {
            return None;
        }
        let (since, batch) = (*since, batch.take());
        adapter.alive = now;
        adapter.state = match batch {
            Some((_, batch)) => State::Busy { since: now, batch },
            None => State::Idle { since: now },
        };
        Some(since)
    }

    /// Takes a start back whose process could not be started: no fault of the adapter.
    pub(super) fn not_started(&mut self, now: Time, id: AdapterId, incarnation: Incarnation) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        match adapter.state {
            State::Starting { .. } => {
                adapter.state = State::Off;
                // It was no activation.
                adapter.starts.pop_back();
                self.starts_blocked = true;
                self.failed_starts = self.failed_starts.saturating_add(1);
                self.decide(now, id, Change::Drain, Reason::Environment);
            }
            _ => self.exited(now, id, incarnation),
        }
    }

    /// Takes back the work of a worker that the kernel killed for want of memory. The adapter works:
    /// the model that was being loaded, or so many rows of the one that ran, take too much.
    pub(super) fn out_of_memory(
        &mut self,
        now: Time,
        (id, incarnation): (AdapterId, Incarnation),
        model: Option<ModelId>,
    ) {
        let again = now + self.settings.backoff_max;
        let Some(adapter) = self.current(id, incarnation) else { return };
        let batch = match mem::replace(&mut adapter.state, State::Off) {
            State::Loading { batch, .. } => batch.map(|(_, batch)| batch),
            State::Busy { batch, .. } => Some(batch),
            State::Draining { batch, .. } => Some(batch),
            State::Idle { .. } => None,
            other => {
                adapter.state = other;
                return self.exited(now, id, incarnation);
            }
        };
        adapter.replicas.clear();
        adapter.last_fault = Some(Fault::Memory);
        let single = batch.as_ref().filter(|batch| batch.rows() == 1).map(|batch| batch.model);
        if let Some(model) = model.or(single) {
            adapter.crowded.insert(model, again);
        } else if let Some(batch) = &batch {
            self.limit_rows(now, id, (batch.model, batch.rows()));
        }
        if let Some(batch) = batch.filter(|batch| batch.repeats.is_none()) {
            self.retry(&batch, Fault::Memory);
        }
        self.decide(now, id, Change::Drain, Reason::OutOfMemory);
    }

    pub(super) fn exited(&mut self, now: Time, id: AdapterId, incarnation: Incarnation) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        match adapter.state {
            State::Off | State::Quarantined { .. } => {}
            State::Stopping { fault: None, .. } => adapter.state = State::Off,
            State::Stopping { fault: Some(_), .. } | State::Unreaped { .. } => {
                self.quarantine(now, id);
            }
            State::Starting { .. }
            | State::Loading { .. }
            | State::Idle { .. }
            | State::Busy { .. }
            | State::Draining { .. } => {
                self.strike(now, id, Fault::Crashed);
                self.quarantine(now, id);
            }
        }
    }

    /// A worker that can no longer be trusted is killed; its work runs elsewhere.
    pub(super) fn let_down(&mut self, now: Time, id: AdapterId, fault: Fault) {
        let Some(adapter) = self.adapters.get(&id) else { return };
        let incarnation = adapter.incarnation;
        match adapter.state {
            State::Starting { .. }
            | State::Loading { .. }
            | State::Idle { .. }
            | State::Busy { .. }
            | State::Draining { .. } => {}
            State::Off
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => return,
        }
        self.strike(now, id, fault);
        self.become_stopping(id, State::Stopping { since: now, killed: true, fault: Some(fault) });
        self.actions.push_back(Action::Kill { adapter: id, incarnation });
    }

    /// Counts a fault, says so, and takes the work back.
    fn strike(&mut self, now: Time, id: AdapterId, fault: Fault) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        adapter.strikes = adapter.strikes.saturating_add(1);
        adapter.last_fault = Some(fault);
        adapter.replicas.clear();
        let strikes = adapter.strikes;
        let state = mem::replace(&mut adapter.state, State::Idle { since: now });
        if fault == Fault::WrongAnswer {
            adapter.trial = SHADOWED;
        }
        if let Some(batch) = state.batch().filter(|batch| batch.repeats.is_none()) {
            self.retry(batch, fault);
        }
        self.failed_again |= self.adapters.get(&id).is_some_and(|a| !self.is_trusted(a));
        let backoff = self.backoff(strikes);
        let reason = Reason::Fault { fault, strikes, backoff };
        self.decide(now, id, Change::Quarantine, reason);
    }

    fn quarantine(&mut self, now: Time, id: AdapterId) {
        let Some(adapter) = self.adapters.get(&id) else { return };
        let until = now + self.backoff(adapter.strikes);
        if let Some(adapter) = self.adapters.get_mut(&id) {
            adapter.state = State::Quarantined { since: now, until };
        }
    }

    /// The wait after so many faults in a row: doubling, bounded.
    pub(super) fn backoff(&self, strikes: u32) -> Duration {
        let doublings = strikes.saturating_sub(1).min(20);
        self.settings.backoff.saturating_mul(1 << doublings).min(self.settings.backoff_max)
    }

    pub(super) fn ask_to_stop(&mut self, now: Time, id: AdapterId) {
        let Some(incarnation) = self.adapters.get(&id).map(|a| a.incarnation) else { return };
        self.become_stopping(id, State::Stopping { since: now, killed: false, fault: None });
        self.actions.push_back(Action::Stop { adapter: id, incarnation });
    }

    fn become_stopping(&mut self, id: AdapterId, state: State) {
        if let Some(adapter) = self.adapters.get_mut(&id) {
            adapter.replicas.clear();
            adapter.state = state;
        }
    }
}

impl Known {
    /// Learns how long a load takes. One that tuned kernels tells of the others only what is left
    /// without the tuning, which the first of them corrects.
    fn learn_load(&mut self, took: Duration, tuning: Option<Duration>) {
        let Some(tuning) = tuning else {
            if std::mem::take(&mut self.estimated) {
                self.load = None;
            }
            return learn(&mut self.load, took);
        };
        learn(&mut self.first_load, took);
        if self.load.is_none() || self.estimated {
            // Kernels that were tuned are compiled again, which takes part of that time.
            let left = took.saturating_sub(tuning).max(took / LOAD_SHARE_MIN);
            self.load = Some(left.as_secs_f64());
            self.estimated = true;
        }
    }
}

/// Moves a learned duration towards a measured one.
fn learn(known: &mut Option<f64>, took: Duration) {
    let took = took.as_secs_f64();
    let share = |known: f64| if took > known { UP } else { DOWN };
    *known = Some(known.map_or(took, |known| known + (took - known) * share(known)));
}
