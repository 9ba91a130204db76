//! What happens to admitted requests: answered, taken apart, run again, turned away.

use super::action::{Action, Reject};
use super::batch::{Batch, Part};
use super::event::{Failure, Fault};
use super::ids::{AdapterId, BatchId, Incarnation, ModelId, RequestId, Time};
use super::queue::Request;
use super::scheduler::Scheduler;
use super::service::bucket;
use super::state::State;
use std::mem;
use std::time::Duration;

impl Scheduler {
    pub(super) fn done(
        &mut self,
        now: Time,
        id: AdapterId,
        incarnation: Incarnation,
        batch: BatchId,
    ) {
        let Some((since, batch)) = self.finish(now, id, incarnation, batch) else {
            return self.actions.push_back(Action::Discard { batch });
        };
        if let Some(since) = since {
            self.learn(id, &batch, now.since(since));
        }
        if batch.repeats.is_some() {
            self.agreed(id);
            return self.actions.push_back(Action::Discard { batch: batch.id });
        }
        if let Some(adapter) = self.adapters.get_mut(&id) {
            adapter.strikes = 0;
        }
        self.shadow(now, id, &batch);
        let parts = batch.parts.clone();
        self.actions.push_back(Action::Collect { adapter: id, batch });
        for part in parts {
            if let Some(request) = self.queue.done(part) {
                self.score(now, &request);
                self.actions.push_back(Action::Answer { request: part.request });
            }
        }
    }

    /// Learns from a measured batch.
    fn learn(&mut self, id: AdapterId, batch: &Batch, took: Duration) {
        let max_rows = self.max_rows(id, batch.model);
        // What is known of other adapters is where a first guess comes from.
        let service = self.service(id, batch.model, batch.size);
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        let known = adapter.known.entry(batch.model).or_default();
        let service = known.services.entry(batch.size).or_insert(service);
        service.observe(bucket(batch.rows(), max_rows), took);
    }

    pub(super) fn failed(
        &mut self,
        now: Time,
        (id, incarnation): (AdapterId, Incarnation),
        batch: BatchId,
        failure: Failure,
    ) {
        match failure {
            Failure::Input => {
                let finished = self.finish(now, id, incarnation, batch);
                if let Some((_, batch)) = finished.filter(|(_, batch)| batch.repeats.is_none()) {
                    self.bisect(batch);
                }
            }
            Failure::Device => {
                let current = self.current(id, incarnation);
                if current.is_some_and(|adapter| holds(&adapter.state, batch)) {
                    self.let_down(now, id, Fault::Device);
                }
            }
            Failure::Memory => {
                let held = self.current(id, incarnation).and_then(|a| a.state.batch());
                if let Some(held) = held.filter(|held| held.id == batch) {
                    let (model, rows) = (held.model, held.rows());
                    self.no_memory(now, id, (model, rows));
                }
            }
        }
    }

    /// So many rows of a model do not fit: from now on this adapter runs half as many at once, or
    /// leaves the model to others. What it was doing runs again; its device is opened anew, since
    /// nobody knows in what state it was left.
    pub(super) fn no_memory(&mut self, now: Time, id: AdapterId, (model, rows): (ModelId, u32)) {
        self.limit_rows(now, id, (model, rows));
        self.let_down(now, id, Fault::Memory);
    }

    /// Limits the rows of a model on an adapter to half of those that had no memory.
    pub(super) fn limit_rows(&mut self, now: Time, id: AdapterId, (model, rows): (ModelId, u32)) {
        let bucket = bucket(rows, self.max_rows(id, model));
        let strikes = self.adapters.get(&id).map_or(0, |adapter| adapter.strikes);
        // Others may give memory back soon, or not for long.
        let soon = now + self.backoff(strikes.saturating_add(1));
        // Longer than until the next try, which would else be for as many rows as this one.
        let until = soon + self.settings.backoff_max;
        if let Some(adapter) = self.adapters.get_mut(&id) {
            if rows == 0 || bucket <= 1 {
                adapter.crowded.insert(model, soon);
            } else {
                let half = bucket.div_ceil(2).next_power_of_two().min(bucket - 1).max(1);
                adapter.known.entry(model).or_default().rows_max = Some((half, until));
            }
        }
    }

    /// Frees the adapter of its batch, if it holds this one; tells since when it did, if it did
    /// nothing else.
    fn finish(
        &mut self,
        now: Time,
        id: AdapterId,
        incarnation: Incarnation,
        batch: BatchId,
    ) -> Option<(Option<Time>, Batch)> {
        let adapter = self.current(id, incarnation).filter(|a| holds(&a.state, batch))?;
        adapter.alive = now;
        adapter.workless = Some(now);
        let alone = !adapter.disturbed;
        match mem::replace(&mut adapter.state, State::Idle { since: now }) {
            State::Busy { since, batch } => Some((alone.then_some(since), batch)),
            State::Draining { since, batch } => {
                self.ask_to_stop(now, id);
                Some((alone.then_some(since), batch))
            }
            State::Loading { since, progress, model, batch: Some((_, batch)) } => {
                adapter.state = State::Loading { since, progress, model, batch: None };
                Some((None, batch))
            }
            other => {
                adapter.state = other;
                None
            }
        }
    }

    /// One request of the batch made it fail: it is taken apart into halves that run apart, so
    /// that the poisonous one is found and cannot fail its neighbours. Who fails alone is told so.
    fn bisect(&mut self, batch: Batch) {
        let mut requests: Vec<RequestId> = batch.parts.iter().map(|part| part.request).collect();
        // Parts of one need not stand side by side.
        requests.sort_unstable();
        requests.dedup();
        requests.retain(|id| self.queue.get(*id).is_some());
        if let [alone] = requests[..]
            && batch.parts.iter().all(|part| part.request == alone)
        {
            self.queue.forget(alone);
            return self.reject(alone, Reject::Input { batch: batch.id });
        }
        let (first, second) = requests.split_at(requests.len().div_ceil(2));
        for half in [first, second] {
            self.numbers.group += 1;
            let group = self.numbers.group;
            for part in batch.parts.iter().filter(|part| half.contains(&part.request)) {
                self.put_back(*part, |request| request.lane.group = group);
            }
        }
    }

    /// Puts the parts of a lost batch back to their places, or gives up on their requests.
    pub(super) fn retry(&mut self, batch: &Batch, fault: Fault) {
        for part in &batch.parts {
            self.retry_part(*part, fault);
        }
    }

    fn retry_part(&mut self, part: Part, fault: Fault) {
        let Some(request) = self.queue.get(part.request) else { return };
        // Halving the batches ends by itself, and is no fault of the request.
        let retries = request.retries + u32::from(fault != Fault::Memory);
        if retries > self.settings.retries_max {
            self.queue.forget(part.request);
            return self.reject(part.request, Reject::RetriesExhausted { fault });
        }
        self.numbers.group += 1;
        let group = self.numbers.group;
        self.put_back(part, |request| {
            request.retries = retries;
            // It may be the one that brings workers down: its neighbours must not pay for it.
            if retries >= 2 {
                request.lane.group = group;
            }
        });
    }

    /// A part waits again, if its model is still served.
    fn put_back(&mut self, part: Part, change: impl FnOnce(&mut Request)) {
        let model = self.queue.get(part.request).map(|request| request.lane.model);
        if model.is_some_and(|model| !self.models.contains_key(&model)) {
            self.queue.forget(part.request);
            return self.reject(part.request, Reject::ModelGone);
        }
        self.queue.put_back(part, change);
    }

    /// The model is served no more.
    pub(super) fn withdraw(&mut self, model: ModelId) {
        self.models.remove(&model);
        self.reject_all(self.queue.ids_of(model), Reject::ModelGone);
        self.queue.remove_model(model);
        self.popularity.forget(model);
        for adapter in self.adapters.values_mut() {
            adapter.known.remove(&model);
            adapter.refused.remove(&model);
            adapter.crowded.remove(&model);
        }
    }

    /// Turns away those whose own deadline has passed, wherever they are.
    pub(super) fn reject_late(&mut self, now: Time) {
        while let Some((deadline, id)) = self.queue.next_deadline()
            && deadline <= now
        {
            self.queue.forget(id);
            self.reject(id, Reject::Deadline);
        }
    }
}

fn holds(state: &State, id: BatchId) -> bool {
    state.batch().is_some_and(|batch| batch.id == id)
}
