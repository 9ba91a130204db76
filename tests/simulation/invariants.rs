//! What must hold at every step and at rest.

use crate::world::World;
use concertina::schedule::*;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    pub(crate) fn check_batch(&self, batch: &Batch) {
        let seed = self.seed;
        let rows: u32 = batch.requests.iter().map(|(_, rows)| rows).sum();
        assert!(
            (1..=self.models[&batch.model].max_rows).contains(&rows),
            "{seed}: batch too large"
        );
        let shapes: BTreeSet<_> =
            batch.requests.iter().map(|(id, _)| self.requests[id].shape).collect();
        assert_eq!(shapes.len(), 1, "{seed}: shapes mixed");
        assert!(batch.requests.is_sorted(), "{seed}: someone lost his place");
        if let [(id, rows)] = batch.requests[..]
            && rows < self.models[&batch.model].max_rows
            && self.workers.len() == 1
            && !self.ledger.runs.contains_key(&id)
            && !self.scheduler.is_closing()
            && self.scheduler.outstanding().queued.requests == 0
        {
            let due = self.ledger.arrived[&id] + self.models[&batch.model].delay;
            assert!(self.now >= due, "{seed}: {id:?} did not wait for company");
        }
        for (id, rows) in &batch.requests {
            let facts = &self.requests[id];
            assert_eq!((facts.model, facts.rows), (batch.model, *rows), "{seed}: wrong request");
            assert!(!self.answered.contains_key(id), "{seed}: {id:?} runs after its answer");
            assert!(!self.cancelled.contains(id), "{seed}: {id:?} runs for nobody");
        }
    }

    pub(crate) fn check_decision(&self, reason: &Reason) {
        let seed = self.seed;
        match *reason {
            Reason::IdleSurplus { wanted, on, lasted, .. } => {
                assert!(on > wanted, "{seed}: no surplus");
                let delay = if on == 1 {
                    self.settings.scale_to_zero_delay
                } else {
                    self.settings.scale_down_delay
                };
                assert!(lasted >= delay, "{seed}: let go too early");
            }
            Reason::Backlog { wanted, on, .. } => assert!(wanted > on, "{seed}: no backlog"),
            Reason::Min { min, on } => assert!(min > on, "{seed}: enough are on"),
            Reason::Fault { backoff, .. } => {
                assert!(backoff <= self.settings.backoff_max, "{seed}: backoff without bound");
            }
            Reason::Operator | Reason::Fallback | Reason::Shutdown => {}
        }
    }

    pub(crate) fn check_step(&self) {
        let seed = self.seed;
        let Policy::Concurrency { max, .. } = self.settings.policy;
        let forced = self.wishes.values().filter(|wish| **wish == Wish::On).count();
        // An adapter that the operator wants on may come on top of those the load brought on.
        if self.weather.operator == 0 {
            let on = self
                .scheduler
                .adapters()
                .filter(|(id, a)| a.state.is_on() && !self.fallbacks.contains(id))
                .count();
            assert!(on <= max + forced, "{seed}: too many on");
        }
        for (id, adapter) in self.scheduler.adapters() {
            let off = matches!(adapter.state, State::Off | State::Quarantined { .. });
            assert!(!off || !self.workers.contains_key(&id), "{seed}: off with a worker");
            if adapter.state.is_on() {
                assert_ne!(self.wishes.get(&id), Some(&Wish::Off), "{seed}: on against the wish");
            }
            if self.wishes.get(&id) == Some(&Wish::On) && !self.scheduler.is_closing() {
                let kept = !matches!(
                    adapter.state,
                    State::Off | State::Draining { .. } | State::Stopping { fault: None, .. }
                );
                let stopping = self.workers.get(&id).is_some_and(|w| w.asked_to_stop);
                assert!(kept || stopping, "{seed}: off against the wish");
            }
            let serves = |a: &concertina::schedule::AdapterView<'_>| {
                matches!(a.state, State::Idle { .. } | State::Busy { .. })
            };
            if self.fallbacks.contains(&id) && adapter.wish == Wish::Auto && adapter.state.is_on() {
                let replaced = self
                    .scheduler
                    .adapters()
                    .any(|(o, a)| !self.fallbacks.contains(&o) && serves(&a));
                assert!(!replaced, "{seed}: a fallback stays on");
            }
            if let State::Unreaped { .. } = adapter.state {
                assert!(self.workers[&id].killed, "{seed}: unreaped, but never killed");
            }
            assert!(self.fits(id, adapter.state), "{seed}: {id:?} is not {:?}", adapter.state);
        }
        self.check_work_conserving();
        self.check_wake_up();
        if self.scheduler.outstanding().queued.requests > 0 && self.on() == 0 {
            let usable = self.scheduler.adapters().any(|(id, a)| {
                !self.fallbacks.contains(&id) && a.wish != Wish::Off && !a.state.is_faulty()
            });
            let startable = self.scheduler.adapters().any(|(id, a)| {
                *a.state == State::Off
                    && a.wish != Wish::Off
                    && (!self.fallbacks.contains(&id) || !usable)
            });
            assert!(
                !startable,
                "{seed}: nobody is started for those who wait\n{}\nfallbacks {:?}",
                self.picture(),
                self.fallbacks
            );
        }
        let hopeless = self.scheduler.adapters().all(|(_, a)| {
            a.wish == Wish::Off || matches!(a.state, State::Unreaped { .. })
                || matches!(a.state, State::Quarantined { until, .. } if *until > self.now + self.settings.patience)
        });
        if self.ledger.discovered && hopeless {
            assert_eq!(self.scheduler.outstanding().queued.requests, 0, "{seed}: waits for nobody");
        }
    }

    /// The scheduler comes back in time for every bound, whatever else happens or not.
    pub(crate) fn check_wake_up(&self) {
        let (seed, bounds) = (self.seed, &self.settings.bounds);
        let next = self.scheduler.next_timeout().unwrap_or(Time(Duration::MAX));
        for (id, adapter) in self.scheduler.adapters() {
            let silent = self.ledger.alive.get(&id).map(|at| *at + bounds.silence);
            let due = match *adapter.state {
                State::Off | State::Unreaped { .. } => None,
                State::Starting { progress, .. } => {
                    silent.map(|at| at.min(progress + bounds.start))
                }
                State::Idle { .. } => silent,
                State::Busy { since, .. } | State::Draining { since, .. } => {
                    silent.map(|at| at.min(since + bounds.run))
                }
                State::Stopping { since, killed, .. } => {
                    Some(since + if killed { bounds.reap } else { bounds.stop })
                }
                State::Quarantined { until, .. } => Some(until),
            };
            assert!(
                due.is_none_or(|due| next <= due && due > self.now),
                "{seed}: {id:?} is forgotten"
            );
        }
        if let Some(deadline) =
            self.ledger.deadline.filter(|_| self.scheduler.outstanding().queued.requests > 0)
        {
            assert!(next <= deadline && deadline > self.now, "{seed}: the deadline is forgotten");
        }
    }

    /// The state that the scheduler believes in agrees with the worker that is there.
    pub(crate) fn fits(&self, id: AdapterId, state: &State) -> bool {
        let batch = self.workers.get(&id).and_then(|worker| worker.running.as_ref());
        match state {
            State::Busy { batch: believed, .. } | State::Draining { batch: believed, .. } => {
                batch.is_none_or(|running| running.id == believed.id)
            }
            State::Idle { .. } => batch.is_none(),
            State::Off
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => true,
        }
    }

    /// Nobody waits while an adapter that could serve him stands idle, but for the batch delay.
    pub(crate) fn check_work_conserving(&self) {
        let idle: Vec<_> = self
            .scheduler
            .adapters()
            .filter(|(_, adapter)| matches!(adapter.state, State::Idle { .. }))
            .collect();
        let owed = self.scheduler.outstanding().queued.requests;
        let quick = self.models.values().all(|model| model.delay.is_zero());
        let all = |models: &BTreeSet<ModelId>| models.len() == self.models.len();
        if quick && idle.iter().any(|(_, adapter)| all(adapter.models)) {
            assert_eq!(owed, 0, "{}: work waits beside an idle adapter", self.seed);
        }
    }

    pub(crate) fn check_rest(&self) {
        let seed = self.seed;
        for id in self.requests.keys() {
            let settled = self.answered.contains_key(id) || self.cancelled.contains(id);
            assert!(settled, "{seed}: {id:?} lost");
        }
        assert!(self.held.is_empty(), "{seed}: outputs left behind");
        let usable = self
            .scheduler
            .adapters()
            .any(|(id, a)| !self.fallbacks.contains(&id) && !a.state.is_faulty());
        for (id, a) in self.scheduler.adapters() {
            assert!(
                !(self.fallbacks.contains(&id) && usable && a.state.is_on()),
                "{seed}: a fallback rests beside a usable adapter"
            );
        }
        let (low, high) = self.on_at_rest();
        assert!((low..=high).contains(&self.on()), "{seed}: {} on at rest", self.on());
        if self.shutdown {
            assert!(self.scheduler.is_down(), "{seed}: not down after shutdown");
        }
    }
}
