//! Reactions of the world to the scheduler's actions: workers start, load, run, answer, fail, exit.

use crate::world::{HEARTBEAT, Worker, World};
use schedule::*;
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    pub(crate) fn live_worker(
        &mut self,
        id: AdapterId,
        incarnation: Incarnation,
    ) -> Option<&mut Worker> {
        self.workers.get_mut(&id).filter(|w| w.incarnation == incarnation && !w.frozen)
    }

    /// Ends a batch, done or failed; `None` if its worker cannot report it.
    pub(crate) fn batch_ends(&mut self, event: &Event) -> Option<()> {
        match *event {
            Event::Done { adapter, incarnation, batch } => {
                if !self.rng.percent(self.faults.late) {
                    self.live_worker(adapter, incarnation)?;
                }
                let body = self.ledger_batch(batch)?;
                self.finish_batch(adapter, batch);
                self.held.insert(batch, body);
            }
            Event::Failed { adapter, incarnation, batch, failure } => {
                self.live_worker(adapter, incarnation)?;
                if failure == Failure::Input {
                    let running = self.workers.get(&adapter).into_iter().flat_map(|w| &w.running);
                    let own = running.filter(|own| own.id == batch && own.repeats.is_none());
                    for part in own.flat_map(|batch| &batch.parts) {
                        self.ledger.parts.entry(part.request).or_default().2 += 1;
                    }
                }
                self.finish_batch(adapter, batch);
            }
            _ => {}
        }
        Some(())
    }

    fn ledger_batch(&self, batch: BatchId) -> Option<Batch> {
        self.batches.get(&batch).cloned()
    }

    fn finish_batch(&mut self, id: AdapterId, batch: BatchId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.running.retain(|running| running.id != batch);
        }
    }

    pub(crate) fn perform(&mut self, action: Action) {
        let seed = self.seed;
        match action {
            Action::Start { adapter, incarnation } => self.spawn(adapter, incarnation),
            Action::Load { adapter, incarnation, model, max_rows } => {
                self.load(adapter, incarnation, model);
                self.worker(adapter, incarnation).rows_max.insert(model, max_rows);
            }
            Action::Unload { adapter, incarnation, model } => {
                let worker = self.worker(adapter, incarnation);
                if worker.loading.take_if(|loading| *loading == model).is_some() {
                    return;
                }
                let loaded = worker.loaded.remove(&model);
                assert!(loaded.is_some(), "{seed}: unloaded a model that is not loaded");
                let runs = worker.running.iter().any(|batch| batch.model == model);
                assert!(!runs, "{seed}: unloaded a model that is running");
                self.last_unloaded = loaded.map(|(_, since)| since);
            }
            Action::Run { adapter, incarnation, batch } => self.take(adapter, incarnation, batch),
            Action::Stop { adapter, incarnation } => {
                let over = self.ledger.deadline.is_some_and(|deadline| deadline <= self.now);
                let worker = self.worker(adapter, incarnation);
                assert!(worker.running.is_empty() || over, "{seed}: stopped while running");
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
                let stuck = self.rng.percent(self.faults.unkillable);
                let at = if stuck { self.after(500, 3000) } else { self.after(1, 20) };
                self.post(at, Event::Exited { adapter, incarnation });
            }
            Action::Collect { adapter, batch } => self.collect(adapter, &batch),
            Action::Answer { request } => self.check_answer(request),
            Action::Discard { batch } => {
                assert!(
                    self.held.remove(&batch).is_some(),
                    "{seed}: discarded outputs that are not held"
                );
            }
            Action::Reject { request, reason } => self.check_reject(request, reason),
            Action::Decided(decision) => {
                self.note_fault(decision.adapter, &decision.reason);
                self.check_decision(&decision);
            }
        }
    }

    fn collect(&mut self, adapter: AdapterId, batch: &Batch) {
        let seed = self.seed;
        self.ledger.faults.insert(adapter, 0);
        let held = self.held.remove(&batch.id);
        assert_eq!(held.as_ref(), Some(batch), "{seed}: collected outputs that are not held");
        for part in &batch.parts {
            self.ledger.parts.entry(part.request).or_default().1 += 1;
            let gone =
                self.answered.contains_key(&part.request) || self.cancelled.contains(&part.request);
            if gone {
                continue;
            }
            let rows = self.ledger.collected.entry(part.request).or_default();
            for row in part.first..part.first + part.rows {
                assert!(rows.insert(row), "{seed}: row {row} of {:?} twice", part.request);
            }
        }
    }

    pub(crate) fn backoff(&self, faults: u32) -> Duration {
        let wait = self.settings.backoff.saturating_mul(1 << (faults - 1).min(20));
        wait.min(self.settings.backoff_max)
    }

    fn note_fault(&mut self, adapter: AdapterId, reason: &Reason) {
        let seed = self.seed;
        let Reason::Fault { consecutive_faults, backoff, .. } = *reason else { return };
        let counted = self.ledger.faults.entry(adapter).or_default();
        *counted += 1;
        assert_eq!(consecutive_faults, *counted, "{seed}: miscounted faults");
        assert_eq!(backoff, self.backoff(consecutive_faults), "{seed}: wrong backoff");
        if self.workers.contains_key(&adapter) {
            self.ledger.pending_backoff.insert(adapter, backoff);
        } else {
            self.ledger.not_before.insert(adapter, self.now + backoff);
        }
    }

    fn worker(&mut self, id: AdapterId, incarnation: Incarnation) -> &mut Worker {
        let seed = self.seed;
        let worker = self.workers.get_mut(&id);
        let worker = worker.unwrap_or_else(|| panic!("{seed}: no worker on {id:?}"));
        assert_eq!(worker.incarnation, incarnation, "{seed}: wrong incarnation");
        worker
    }

    fn spawn(&mut self, adapter: AdapterId, incarnation: Incarnation) {
        self.check_spawn(adapter);
        self.ledger.alive.insert(adapter, self.now);
        *self.ledger.starts.entry(adapter).or_default() += 1;
        let frozen = self.rng.percent(self.faults.hang);
        let worker = Worker {
            incarnation,
            ready: false,
            loaded: BTreeMap::new(),
            loading: None,
            running: Vec::new(),
            free_at: self.now,
            frozen,
            killed: false,
            asked_to_stop: false,
            rows_max: BTreeMap::new(),
        };
        self.workers.insert(adapter, worker);
        if !self.ledger.without_heartbeats {
            self.post(self.now + HEARTBEAT, Event::Heartbeat { adapter, incarnation });
        }
        let at = self.make_progress(adapter, incarnation) + self.rng.ms(1, 150);
        if self.rng.percent(self.faults.crash) {
            // No further random number is drawn, so that existing seeds keep their worlds.
            self.post(
                at,
                match at.0.as_millis() % 2 {
                    0 => Event::NotStarted { adapter, incarnation },
                    _ => Event::Exited { adapter, incarnation },
                },
            );
        } else if self.rng.percent(self.faults.crash) {
            self.post(at, Event::Faulted { adapter, incarnation, fault: Fault::WrongAnswer });
        } else if !self.rng.percent(self.faults.stuck_compute) {
            let speed = self.rng.below(5);
            self.post(at, Event::Ready { adapter, incarnation, speed });
        }
    }

    /// Posts progress reports, at intervals of at most the timeout; sometimes many.
    fn make_progress(&mut self, adapter: AdapterId, incarnation: Incarnation) -> Time {
        let mut at = self.after(1, 40);
        self.post(at, Event::Progress { adapter, incarnation });
        let more = if self.rng.percent(10) { 6 } else { 0 };
        for _ in 0..more {
            at = at + Duration::from_millis(90);
            self.post(at, Event::Progress { adapter, incarnation });
        }
        at
    }

    fn load(&mut self, adapter: AdapterId, incarnation: Incarnation, model: ModelId) {
        let (seed, profile) = (self.seed, self.profiles[&adapter]);
        // At most the size of the files, so that the budget can be kept from the first load on.
        let bytes = self.all_models[&model].bytes * (3 + u64::from(model.0) % 3) / 5;
        let worker = self.worker(adapter, incarnation);
        assert!(worker.ready && !worker.killed && !worker.asked_to_stop, "{seed}: loads while off");
        assert!(worker.running.is_empty(), "{seed}: loads beside a batch");
        assert!(worker.loading.replace(model).is_none(), "{seed}: two loads at once");
        assert!(!worker.loaded.contains_key(&model), "{seed}: loaded twice");
        let held: u64 = worker.loaded.values().map(|(bytes, _)| bytes).sum();
        let fits = profile.memory.is_none_or(|budget| held + bytes <= budget);
        assert!(fits, "{seed}: models exceed the memory");
        let at = self.make_progress(adapter, incarnation) + self.rng.ms(1, 100);
        if self.rng.percent(self.faults.crash) {
            self.post(at, exit_event(at, adapter, incarnation, Some(model)));
        } else if self.rng.percent(self.faults.load_failure) {
            // No further random number is drawn, so that existing seeds keep their worlds.
            let retry = match at.0.as_millis() % 3 {
                0 => LoadRetry::Now,
                1 => LoadRetry::Never,
                _ => LoadRetry::Later,
            };
            self.post(at, Event::LoadFailed { adapter, incarnation, model, retry });
        } else if self.rng.percent(self.faults.memory) {
            let rows = self.rng.below(9) as u32;
            self.post(at, Event::NoMemory { adapter, incarnation, model, rows });
        } else if !self.rng.percent(self.faults.stuck_compute) {
            let measured = self.measured(adapter, model);
            self.post(
                at,
                Event::Loaded { adapter, incarnation, model, bytes, measured, tuning: None },
            );
        }
    }

    fn take(&mut self, adapter: AdapterId, incarnation: Incarnation, batch: Batch) {
        self.check_batch(&batch);
        match batch.repeats {
            Some(other) => {
                let held = self.held.contains_key(&other);
                assert!(held, "{}: repeats a batch that was not just done", self.seed);
            }
            None => {
                for part in &batch.parts {
                    self.ledger.parts.entry(part.request).or_default().0 += 1;
                }
            }
        }
        let (seed, id, model) = (self.seed, batch.id, batch.model);
        let repeats = batch.repeats.is_some();
        let poisoned = batch.parts.iter().any(|part| self.requests[&part.request].poison);
        let (now, took) = (self.now, self.batch_time(adapter, &batch));
        let slots = self.profiles[&adapter].slots as usize;
        self.batches.insert(id, batch.clone());
        let worker = self.worker(adapter, incarnation);
        assert!(worker.ready && !worker.killed && !worker.asked_to_stop, "{seed}: ran while off");
        assert!(worker.loaded.contains_key(&model), "{seed}: ran a model that is not loaded");
        assert_ne!(worker.loading, Some(model), "{seed}: ran a model that is loading");
        assert!(batch.rows() <= worker.rows_max[&model], "{seed}: more rows than the warm-up");
        let begin = if worker.running.is_empty() { now } else { worker.free_at };
        worker.running.push(batch);
        assert!(worker.running.len() <= slots, "{seed}: too many batches at once");
        worker.free_at = begin + took;
        let (at, batch) = (begin + took, id);
        if self.rng.percent(self.faults.crash) {
            let loading = self.workers.get(&adapter).and_then(|worker| worker.loading);
            self.post(at, exit_event(at, adapter, incarnation, loading));
        } else if self.rng.percent(self.faults.hang) {
            if let Some(worker) = self.workers.get_mut(&adapter) {
                worker.frozen = true;
            }
        } else if self.rng.percent(self.faults.stuck_compute) {
            // The link stays open, and the answer arrives after the run timeout.
            let at = self.after(1000, 1500);
            if let Some(worker) = self.workers.get_mut(&adapter) {
                worker.free_at = at;
            }
            self.post(at, Event::Done { adapter, incarnation, batch });
        } else if repeats && self.rng.percent(50) {
            self.post(at, Event::Faulted { adapter, incarnation, fault: Fault::WrongAnswer });
        } else if poisoned {
            let failure = Failure::Input;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else if self.rng.percent(self.faults.crash) {
            let failure = Failure::Device;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else if self.rng.percent(self.faults.memory) {
            let failure = Failure::Memory;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else {
            self.post(at, Event::Done { adapter, incarnation, batch });
        }
    }
}

/// Returns the end of a process, sometimes by lack of memory; no random number is drawn.
fn exit_event(
    at: Time,
    adapter: AdapterId,
    incarnation: Incarnation,
    model: Option<ModelId>,
) -> Event {
    match at.0.as_millis() % 3 {
        0 => Event::OutOfMemory { adapter, incarnation, model },
        _ => Event::Exited { adapter, incarnation },
    }
}
