//! Checks at every step and at rest.

use crate::world::World;
use schedule::*;
use std::time::Duration;

impl World {
    /// Checks the state after a step, including that the scheduler does not wake without end.
    pub(crate) fn check_step(&self) {
        self.check_bounds();
        for (id, adapter) in self.scheduler.adapters() {
            self.check_adapter(id, &adapter);
        }
        self.check_work_conserving();
        self.check_wake_up();
        self.check_waiting_requests();
        self.check_deadlines();
    }

    fn check_bounds(&self) {
        let (seed, max) = (self.seed, self.settings.max);
        let forced = self.modes.values().filter(|mode| **mode == AdapterMode::On).count();
        // An adapter in mode on may exceed the number that the load needs.
        if self.faults.operator == 0 {
            let on = self.scheduler.adapters();
            let on = on.filter(|(id, a)| a.state.is_on() && !self.is_standby(*id)).count();
            assert!(on <= max + forced, "{seed}: too many on\n{}", self.picture());
        }
    }

    fn check_adapter(&self, id: AdapterId, adapter: &AdapterView<'_>) {
        let seed = self.seed;
        let off = matches!(adapter.state.lifecycle, Lifecycle::Off | Lifecycle::Quarantined { .. });
        assert!(!off || !self.workers.contains_key(&id), "{seed}: off with a worker");
        if adapter.state.is_on() {
            assert_ne!(self.modes.get(&id), Some(&AdapterMode::Off), "{seed}: on in mode off");
            assert!(!self.excluded.contains(&id), "{seed}: on although it is excluded");
        }
        let here = self.present.contains(&id);
        if self.modes.get(&id) == Some(&AdapterMode::On) && here && !self.scheduler.is_closing() {
            let state = adapter.state;
            let kept = !(state.is_off() || state.is_draining() || state.stops_normally());
            let stopping = self.workers.get(&id).is_some_and(|w| w.asked_to_stop);
            assert!(kept || stopping || self.starts_blocked, "{seed}: off in mode on");
        }
        let serves = |a: &AdapterView<'_>| a.state.serves();
        if self.fallbacks.contains(&id)
            && adapter.mode == AdapterMode::Auto
            && adapter.state.is_on()
        {
            let mut others = self.scheduler.adapters();
            let replaced =
                others.any(|(o, a)| !self.is_standby(o) && serves(&a) && !a.replicas.is_empty());
            assert!(!replaced, "{seed}: a fallback stays on beside a regular adapter");
        }
        if let Lifecycle::Unreaped { .. } = adapter.state.lifecycle {
            assert!(self.workers[&id].killed, "{seed}: unreaped, but never killed");
        }
        assert!(self.fits(id, adapter.state), "{seed}: {id:?} is not {:?}", adapter.state);
        self.check_replicas(id, adapter);
    }

    /// Checks that every model that is loaded according to the scheduler is loaded, and fits.
    fn check_replicas(&self, id: AdapterId, adapter: &AdapterView<'_>) {
        let seed = self.seed;
        if let Some(budget) = adapter.profile.memory {
            assert!(adapter.bytes <= budget, "{seed}: models exceed the memory");
        }
        for model in adapter.replicas.keys() {
            let loaded = self.workers.get(&id).is_some_and(|w| w.loaded.contains_key(model));
            assert!(loaded, "{seed}: {model:?} is not loaded on {id:?}");
            let running = adapter.state.runs(*model);
            let known = self.models.contains_key(model) || running || !adapter.state.is_on();
            assert!(known, "{seed}: {model:?} is kept although it is withdrawn");
        }
    }

    /// Returns whether the scheduler's state of an adapter agrees with its worker.
    fn fits(&self, id: AdapterId, state: &State) -> bool {
        let worker = self.workers.get(&id);
        let mut batches = worker.into_iter().flat_map(|worker| &worker.running);
        let loading = worker.and_then(|worker| worker.loading);
        let busy = state.load.is_none() && !state.running.is_empty();
        if busy {
            return batches.all(|running| state.has(running.id));
        }
        match (state.load, state.is_idle()) {
            (Some(load), _) => loading.is_none_or(|loading| loading == load.model),
            (None, true) => batches.next().is_none() && loading.is_none(),
            (None, false) => true,
        }
    }

    /// Checks that no request waits while every adapter that is on is idle with all models, except
    /// for the batching delay; and that a wake-up is due soon while a request waits beside an idle
    /// adapter.
    fn check_work_conserving(&self) {
        if self.scheduler.outstanding().queued.requests == 0 {
            return;
        }
        let on: Vec<_> = self.scheduler.adapters().filter(|(_, a)| a.state.is_on()).collect();
        let idle = |a: &AdapterView<'_>| a.state.is_idle();
        // An adapter that computed wrong results leaves the work to others.
        let all = |a: &AdapterView<'_>| {
            a.shadow_batches == 0 && self.models.keys().all(|model| a.replicas.contains_key(model))
        };
        // Under this goal rows wait for a larger batch as long as their target allows.
        let waits = matches!(self.settings.policy, Policy::Cost { goal: Goal::Energy, .. });
        let quick = !waits && self.all_models.values().all(|model| model.delay.is_zero());
        if quick && on.iter().all(|(_, a)| idle(a)) && on.iter().any(|(_, a)| all(a)) {
            panic!("{}: work waits beside idle adapters\n{}", self.seed, self.picture());
        }
        if on.iter().any(|(_, a)| idle(a) && all(a)) {
            let next = self.scheduler.next_timeout().unwrap_or(Time::NEVER);
            let slo = self.all_models.values().map(|model| model.slo).max().unwrap_or_default();
            let soon =
                self.now + Duration::from_secs(2).max(if waits { slo } else { Duration::ZERO });
            assert!(next <= soon, "{}: held back for too long\n{}", self.seed, self.picture());
        }
    }

    /// Checks that the next wake-up is in time for every timeout, even without further events.
    fn check_wake_up(&self) {
        let (seed, timeouts) = (self.seed, &self.settings.timeouts);
        let next = self.scheduler.next_timeout().unwrap_or(Time::NEVER);
        assert!(
            next > self.now,
            "{seed}: the next wake-up is not in the future\n{}",
            self.picture()
        );
        for (id, adapter) in self.scheduler.adapters() {
            let heartbeat_end = self.ledger.alive.get(&id).map(|at| *at + timeouts.heartbeat);
            let state = adapter.state;
            let due = match state.lifecycle {
                Lifecycle::Off | Lifecycle::Unreaped { .. } => None,
                Lifecycle::Starting { progress, .. } => {
                    heartbeat_end.map(|at| at.min(progress + timeouts.start))
                }
                Lifecycle::On | Lifecycle::Draining => {
                    let load = state.load.map(|load| load.progress + timeouts.start);
                    let run = state.running.first().map(|running| running.since + timeouts.run);
                    heartbeat_end.map(|at| load.or(run).map_or(at, |due| due.min(at)))
                }
                Lifecycle::Stopping { since, killed, .. } => {
                    Some(since + if killed { timeouts.kill } else { timeouts.stop })
                }
                Lifecycle::Quarantined { until, .. } => Some(until),
            };
            let kept = due.is_none_or(|due| next <= due && due > self.now);
            assert!(kept, "{seed}: no wake-up for a timeout of {id:?}");
        }
        if let Some(deadline) =
            self.ledger.deadline.filter(|_| self.scheduler.outstanding().queued.requests > 0)
        {
            assert!(
                next <= deadline && deadline > self.now,
                "{seed}: no wake-up for the shutdown deadline"
            );
        }
    }

    /// The `energy` goal starts an adapter as late as the target of the waiting requests allows.
    fn may_delay_a_start(&self) -> bool {
        let energy = matches!(self.settings.policy, Policy::Cost { goal: Goal::Energy, .. });
        let latest = self.models.values().map(|model| self.now + model.slo).max();
        energy && self.scheduler.next_timeout() <= latest && self.scheduler.next_timeout().is_some()
    }

    fn check_waiting_requests(&self) {
        let seed = self.seed;
        if self.scheduler.outstanding().queued.requests == 0 {
            return;
        }
        // A model that failed to load on an adapter is not tried there again at once.
        let refused = self.faults.load_failure + self.faults.memory > 0;
        if self.on() == 0 && !refused && self.now >= self.refused_until {
            let usable = self.scheduler.adapters().any(|(id, a)| {
                let stands = !self.is_standby(id) && self.present.contains(&id);
                stands && a.mode != AdapterMode::Off && !a.state.is_faulty()
            });
            let startable = self.scheduler.adapters().any(|(id, a)| {
                a.state.is_off()
                    && self.present.contains(&id)
                    && a.mode != AdapterMode::Off
                    && a.shadow_batches == 0
                    && (!self.is_standby(id) || !usable)
            });
            assert!(
                !startable || self.starts_blocked || self.may_delay_a_start(),
                "{seed}: no adapter is started for waiting requests\n{}",
                self.picture()
            );
        }
        let hopeless = self.scheduler.adapters().all(|(id, a)| {
            let late = self.now + self.settings.quarantine_wait_max;
            (!self.present.contains(&id) && !a.state.is_on())
                || a.mode == AdapterMode::Off
                || matches!(a.state.lifecycle, Lifecycle::Unreaped { .. })
                || matches!(a.state.lifecycle, Lifecycle::Quarantined { until, .. } if until > late)
        });
        assert!(
            !(self.ledger.discovered && hopeless),
            "{seed}: requests wait without a usable adapter"
        );
    }

    /// Checks that no request is open after its client's deadline.
    fn check_deadlines(&self) {
        for (id, facts) in &self.requests {
            let Some(deadline) = facts.arrival.deadline else { continue };
            let arrived = self.ledger.arrived.contains_key(id);
            let settled = self.answered.contains_key(id) || self.cancelled.contains(id);
            assert!(
                !arrived || settled || deadline > self.now,
                "{}: {id:?} waits beyond its deadline",
                self.seed
            );
        }
    }

    pub(crate) fn check_rest(&self) {
        let seed = self.seed;
        for id in self.requests.keys() {
            let settled = self.answered.contains_key(id) || self.cancelled.contains(id);
            assert!(settled, "{seed}: {id:?} lost");
        }
        assert!(self.held.is_empty(), "{seed}: outputs were not collected");
        assert_eq!(self.scheduler.outstanding(), Outstanding::default(), "{seed}: miscounted");
        let mut others = self.scheduler.adapters();
        let usable = others.any(|(id, a)| !self.is_standby(id) && !a.state.is_faulty());
        for (id, a) in self.scheduler.adapters() {
            let stands = self.fallbacks.contains(&id) && usable && a.state.is_on();
            assert!(
                !stands || self.fallback_may_be_on_at_rest(),
                "{seed}: a fallback is on at rest beside a usable adapter"
            );
        }
        let (low, high) = self.on_at_rest();
        assert!((low..=high).contains(&self.on()), "{seed}: {} on at rest", self.on());
        if self.shutdown {
            assert!(self.scheduler.is_down(), "{seed}: not down after shutdown");
        }
    }
}
