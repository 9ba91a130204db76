//! What the world does when the scheduler acts: workers start, run, answer, fail and go.

use crate::world::{HEARTBEAT, Worker, World};
use concertina::schedule::*;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    pub(crate) fn speaker(
        &mut self,
        id: AdapterId,
        incarnation: Incarnation,
    ) -> Option<&mut Worker> {
        self.workers.get_mut(&id).filter(|w| w.incarnation == incarnation && !w.frozen)
    }

    pub(crate) fn finish_batch(&mut self, id: AdapterId, batch: BatchId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.running.take_if(|running| running.id == batch);
        }
    }

    pub(crate) fn perform(&mut self, action: Action) {
        let seed = self.seed;
        match action {
            Action::Start { adapter, incarnation } => self.spawn(adapter, incarnation),
            Action::Run { adapter, incarnation, batch } => self.take(adapter, incarnation, batch),
            Action::Stop { adapter, incarnation } => {
                let worker = self.worker(adapter, incarnation);
                assert!(worker.running.is_none(), "{seed}: stopped while running");
                worker.asked_to_stop = true;
                if !worker.frozen {
                    let at = self.after(1, 20);
                    self.post(at, Event::Exited { adapter, incarnation });
                }
            }
            Action::Kill { adapter, incarnation } => {
                let worker = self.worker(adapter, incarnation);
                assert!(!worker.killed, "{seed}: killed twice");
                worker.killed = true;
                let stuck = self.rng.percent(self.weather.unkillable);
                let at = if stuck { self.after(500, 3000) } else { self.after(1, 20) };
                self.post(at, Event::Exited { adapter, incarnation });
            }
            Action::Answer { adapter, batch } => {
                self.ledger.strikes.insert(adapter, 0);
                assert!(self.held.remove(&batch.id), "{seed}: answered without outputs");
                for (request, _) in batch.requests {
                    self.settle(request, None);
                }
            }
            Action::Discard { batch } => {
                assert!(self.held.remove(&batch), "{seed}: discarded what nobody holds");
            }
            Action::Reject { request, reason } => {
                let poison = self.requests[&request].poison;
                assert_eq!(
                    matches!(reason, Reject::Input { .. }),
                    poison && matches!(reason, Reject::Input { .. }),
                    "{seed}: a neighbour was blamed"
                );
                if let Reject::RetriesExhausted { .. } = reason {
                    let tries = self.settings.retries_max
                        + 1
                        + u32::from(self.ledger.separated.contains(&request));
                    assert_eq!(self.ledger.runs[&request], tries, "{seed}: gave up too early");
                }
                self.settle(request, Some(reason));
            }
            Action::Decided(decision) => {
                self.note_decision(decision.adapter, &decision.reason);
                self.check_decision(&decision.reason);
            }
        }
    }

    pub(crate) fn note_decision(&mut self, adapter: AdapterId, reason: &Reason) {
        let seed = self.seed;
        let Reason::Fault { strikes, backoff, .. } = *reason else { return };
        let counted = self.ledger.strikes.entry(adapter).or_default();
        *counted += 1;
        assert_eq!(strikes, *counted, "{seed}: miscounted faults");
        let wait = self.settings.backoff.saturating_mul(1 << (strikes - 1).min(20));
        assert_eq!(backoff, wait.min(self.settings.backoff_max), "{seed}: wrong backoff");
        if self.workers.contains_key(&adapter) {
            self.ledger.owed_wait.insert(adapter, backoff);
        } else {
            self.ledger.not_before.insert(adapter, self.now + backoff);
        }
    }

    pub(crate) fn worker(&mut self, id: AdapterId, incarnation: Incarnation) -> &mut Worker {
        let seed = self.seed;
        let worker = self.workers.get_mut(&id);
        let worker = worker.unwrap_or_else(|| panic!("{seed}: no worker on {id:?}"));
        assert_eq!(worker.incarnation, incarnation, "{seed}: wrong life");
        worker
    }

    pub(crate) fn settle(&mut self, request: RequestId, outcome: Option<Reject>) {
        if self.cancelled.contains(&request) {
            return;
        }
        let before = self.answered.insert(request, outcome);
        assert_eq!(before, None, "{}: {request:?} answered twice", self.seed);
    }

    pub(crate) fn spawn(&mut self, adapter: AdapterId, incarnation: Incarnation) {
        let seed = self.seed;
        assert!(!self.workers.contains_key(&adapter), "{seed}: second worker on {adapter:?}");
        assert_ne!(self.wishes.get(&adapter), Some(&Wish::Off), "{seed}: started against the wish");
        let going_down =
            self.scheduler.is_closing() && self.scheduler.outstanding().queued.requests == 0;
        assert!(!going_down, "{seed}: started while going down");
        let until = self.ledger.not_before.get(&adapter).copied().unwrap_or_default();
        assert!(self.now >= until, "{seed}: tried again too early");
        if self.fallbacks.contains(&adapter) && self.wishes.get(&adapter) != Some(&Wish::On) {
            let usable = self.scheduler.adapters().any(|(id, a)| {
                !self.fallbacks.contains(&id) && a.wish != Wish::Off && !a.state.is_faulty()
            });
            assert!(!usable, "{seed}: a fallback started beside a usable adapter");
        }
        self.ledger.alive.insert(adapter, self.now);
        let frozen = self.rng.percent(self.weather.hang);
        let worker = Worker {
            incarnation,
            ready: false,
            loaded: BTreeSet::new(),
            running: None,
            frozen,
            killed: false,
            asked_to_stop: false,
        };
        self.workers.insert(adapter, worker);
        if !self.ledger.silent_world {
            self.post(self.now + HEARTBEAT, Event::Alive { adapter, incarnation });
        }
        let mut at = self.after(1, 40);
        self.post(at, Event::Progress { adapter, incarnation });
        if self.rng.percent(10) {
            // Slow, but never without progress for longer than the bound.
            for _ in 0..3 {
                at = at + Duration::from_millis(90);
                self.post(at, Event::Progress { adapter, incarnation });
            }
            for _ in 0..3 {
                at = at + Duration::from_millis(90);
                self.post(at, Event::Progress { adapter, incarnation });
            }
        }
        let at = at + self.rng.ms(1, 150);
        if self.rng.percent(self.weather.crash) {
            self.post(at, Event::Exited { adapter, incarnation });
        } else if self.rng.percent(self.weather.crash) {
            self.post(at, Event::Faulted { adapter, incarnation, fault: Fault::WrongAnswer });
        } else if !self.rng.percent(self.weather.stuck_compute) {
            let models: Vec<_> = self.models.keys().copied().collect();
            let (failed, loaded) =
                models.into_iter().partition(|_| self.rng.percent(self.weather.load_failure));
            let speed = self.rng.below(5);
            self.post(at, Event::Ready { adapter, incarnation, loaded, failed, speed });
        }
    }

    pub(crate) fn take(&mut self, adapter: AdapterId, incarnation: Incarnation, batch: Batch) {
        self.check_batch(&batch);
        for (request, _) in &batch.requests {
            let runs = self.ledger.runs.entry(*request).or_default();
            *runs += 1;
            let most =
                self.settings.retries_max + 1 + u32::from(self.ledger.separated.contains(request));
            assert!(*runs <= most, "{}: {request:?} runs too often", self.seed);
        }
        let (seed, id, model) = (self.seed, batch.id, batch.model);
        let poisoned = batch.requests.iter().any(|(request, _)| self.requests[request].poison);
        let worker = self.worker(adapter, incarnation);
        assert!(worker.ready && !worker.killed && !worker.asked_to_stop, "{seed}: ran while off");
        assert!(worker.loaded.contains(&model), "{seed}: ran what is not loaded");
        assert!(worker.running.is_none(), "{seed}: two batches at once");
        worker.running = Some(batch);
        let at = self.after(1, 30);
        let batch = id;
        if self.rng.percent(self.weather.crash) {
            self.post(at, Event::Exited { adapter, incarnation });
        } else if self.rng.percent(self.weather.hang) {
            if let Some(worker) = self.workers.get_mut(&adapter) {
                worker.frozen = true;
            }
        } else if self.rng.percent(self.weather.stuck_compute) {
            // The link lives on, the answer comes after the patience has run out.
            let at = self.after(500, 900);
            self.post(at, Event::Done { adapter, incarnation, batch });
        } else if poisoned {
            let failure = Failure::Input;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else if self.rng.percent(self.weather.crash) {
            let failure = Failure::Device;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else {
            self.post(at, Event::Done { adapter, incarnation, batch });
        }
    }
}
