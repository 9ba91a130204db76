//! The state machine: takes events in, remembers, and hands actions out.

use super::decision::{Change, Decision, Reason};
use super::policy::Load;
use super::queue::{Lane, Queue, Request};
use super::settings::{AdapterProfile, ModelProfile, Settings};
use super::state::{Adapter, AdapterView, Batch, State, Wish};
use super::types::{
    Action, AdapterId, BatchId, Event, Failure, Fault, Incarnation, ModelId, Reject, RequestId,
    Time,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

/// Decides which adapters are on and which requests run where.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) settings: Settings,
    pub(super) models: BTreeMap<ModelId, ModelProfile>,
    pub(super) adapters: BTreeMap<AdapterId, Adapter>,
    /// Every adapter, fastest first: work packs onto the first ones and the last fall idle.
    pub(super) order: Vec<AdapterId>,
    pub(super) queue: Queue,
    /// Requests in flight that are still owed an answer.
    pub(super) flying: BTreeMap<RequestId, Request>,
    pub(super) surplus_since: Option<Time>,
    /// Set once the server goes down: until when admitted requests may still be served.
    pub(super) closing: Option<Time>,
    pub(super) actions: VecDeque<Action>,
    discovered: bool,
    orders: u64,
    batches: u64,
}

/// What is owed at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    pub queued: Load,
    pub in_flight: Load,
}

impl Scheduler {
    pub fn new(settings: Settings, models: BTreeMap<ModelId, ModelProfile>) -> Scheduler {
        Scheduler {
            queue: Queue::new(&models),
            settings,
            models,
            adapters: BTreeMap::new(),
            order: Vec::new(),
            flying: BTreeMap::new(),
            surplus_since: None,
            closing: None,
            actions: VecDeque::new(),
            discovered: false,
            orders: 0,
            batches: 0,
        }
    }

    /// Takes in one event. Follow with `poll_action` until it gives `None`.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.record(now, event);
        // Whatever the event was, the same few steps decide what follows.
        self.watch(now);
        self.reject_hopeless(now);
        self.expel(now);
        self.grow(now);
        self.dispatch(now);
        self.expel(now);
        self.shrink(now);
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When `Event::Timeout` is next due, if ever.
    pub fn next_timeout(&self) -> Option<Time> {
        let bounds = &self.settings.bounds;
        let adapters = self.adapters.values().filter_map(|adapter| adapter.deadline(bounds));
        let closing = self.closing.filter(|_| self.queue.len() > 0);
        adapters.chain(self.ripe_at()).chain(self.surplus_until()).chain(closing).min()
    }

    /// Every adapter and what is believed of it.
    pub fn adapters(&self) -> impl Iterator<Item = (AdapterId, AdapterView<'_>)> {
        self.adapters.iter().map(|(id, adapter)| (*id, adapter.view()))
    }

    /// What is queued and in flight.
    pub fn outstanding(&self) -> Outstanding {
        let queued = Load { rows: self.queue.rows(), requests: self.queue.len() as u64 };
        let mut in_flight = Load::default();
        for batch in self.adapters.values().filter_map(|adapter| adapter.state.batch()) {
            in_flight.rows += batch.rows();
            in_flight.requests += batch.requests.len() as u64;
        }
        Outstanding { queued, in_flight }
    }

    /// Whether a request for any model can be served, now or after a start. Asking wakes nothing.
    pub fn is_ready(&self, now: Time) -> bool {
        self.closing.is_none()
            && self.adapters.values().any(|adapter| self.is_hopeful(now, adapter))
    }

    /// Whether a request for this model can be served, now or after a start.
    pub fn is_model_ready(&self, now: Time, model: ModelId) -> bool {
        self.closing.is_none() && self.can_load(now, model)
    }

    /// Whether the server goes down.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether nobody waits and every worker is gone, or cannot be made to go.
    pub fn is_down(&self) -> bool {
        let down = |adapter: &Adapter| {
            matches!(adapter.state, State::Off | State::Quarantined { .. } | State::Unreaped { .. })
        };
        self.queue.len() == 0 && self.adapters.values().all(down)
    }

    fn record(&mut self, now: Time, event: Event) {
        match event {
            Event::Discovered { adapters } => self.discovered(adapters),
            Event::ModelAdded { model, profile } => {
                self.models.insert(model, profile);
                self.queue.set_max_rows(model, profile.max_rows);
            }
            Event::ModelRemoved { model } => {
                self.models.remove(&model);
                self.reject_all(self.queue.ids_of(model), Reject::ModelGone);
            }
            Event::Arrived { request, model, shape, rows } => {
                self.admit(now, request, Lane { model, shape }, rows);
            }
            Event::Cancelled { request } => self.cancel(request),
            Event::Progress { adapter, incarnation } => self.progress(now, adapter, incarnation),
            Event::Ready { adapter, incarnation, loaded, failed, speed } => {
                self.ready(now, adapter, incarnation, (loaded, failed), speed);
            }
            Event::Alive { adapter, incarnation } => {
                if let Some(adapter) = self.current(adapter, incarnation) {
                    adapter.alive = now;
                }
            }
            Event::Done { adapter, incarnation, batch } => {
                self.done(now, adapter, incarnation, batch);
            }
            Event::Failed { adapter, incarnation, batch, failure } => {
                self.failed(now, adapter, incarnation, batch, failure);
            }
            Event::Faulted { adapter, incarnation, fault } => {
                if self.current(adapter, incarnation).is_some() {
                    self.let_down(now, adapter, fault);
                }
            }
            Event::Exited { adapter, incarnation } => self.exited(now, adapter, incarnation),
            Event::Wished { adapter, wish } => {
                if let Some(adapter) = self.adapters.get_mut(&adapter) {
                    adapter.wish = wish;
                }
            }
            Event::Timeout => {}
            Event::Shutdown { deadline } => self.closing = Some(deadline),
        }
    }

    /// The adapter, if the message is of its present life.
    fn current(&mut self, id: AdapterId, incarnation: Incarnation) -> Option<&mut Adapter> {
        self.adapters.get_mut(&id).filter(|adapter| adapter.incarnation == incarnation)
    }

    fn discovered(&mut self, adapters: Vec<(AdapterId, AdapterProfile)>) {
        self.discovered = true;
        for (id, profile) in adapters {
            self.adapters.entry(id).or_insert_with(|| Adapter::new(profile));
        }
        self.sort();
    }

    /// Brings `order` up to date: by class, then by measured speed, then by id.
    fn sort(&mut self) {
        let key = |id: &AdapterId| {
            let adapter = self.adapters.get(id);
            (adapter.map(|a| a.profile.rank), Reverse(adapter.map(|a| a.speed)), *id)
        };
        let mut order: Vec<_> = self.adapters.keys().copied().collect();
        order.sort_by_key(key);
        self.order = order;
    }

    fn admit(&mut self, now: Time, id: RequestId, lane: Lane, rows: u32) {
        let settings = &self.settings;
        let full = self.queue.len() >= settings.queue_requests_max
            || self.queue.rows().saturating_add(u64::from(rows)) > settings.queue_rows_max;
        if self.closing.is_some() {
            return self.reject(id, Reject::ShuttingDown);
        }
        if full {
            return self.reject(id, Reject::QueueFull);
        }
        if !self.models.contains_key(&lane.model) {
            return self.reject(id, Reject::ModelGone);
        }
        self.orders += 1;
        let order = self.orders;
        let request = Request { lane, order, rows, arrived: now, retries: 0, alone: false };
        self.queue.push(id, request);
    }

    /// Forgets a request; if it is in flight its rows run to their end, unanswered.
    fn cancel(&mut self, id: RequestId) {
        self.queue.remove(id);
        self.flying.remove(&id);
    }

    fn progress(&mut self, now: Time, id: AdapterId, incarnation: Incarnation) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        adapter.alive = now;
        if let State::Starting { progress, .. } = &mut adapter.state {
            *progress = now;
        }
    }

    fn ready(
        &mut self,
        now: Time,
        id: AdapterId,
        incarnation: Incarnation,
        (loaded, failed): (Vec<ModelId>, Vec<ModelId>),
        speed: u64,
    ) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        if !matches!(adapter.state, State::Starting { .. }) {
            return;
        }
        adapter.alive = now;
        adapter.loaded = loaded.into_iter().collect();
        adapter.refused = failed.into_iter().collect();
        adapter.speed = speed;
        adapter.state = State::Idle { since: now };
        self.sort();
    }

    fn done(&mut self, now: Time, id: AdapterId, incarnation: Incarnation, batch: BatchId) {
        let Some(batch) = self.finish(now, id, incarnation, batch) else {
            return self.actions.push_back(Action::Discard { batch });
        };
        if let Some(adapter) = self.adapters.get_mut(&id) {
            adapter.strikes = 0;
        }
        for (request, _) in &batch.requests {
            self.flying.remove(request);
        }
        self.actions.push_back(Action::Answer { adapter: id, batch });
    }

    fn failed(
        &mut self,
        now: Time,
        id: AdapterId,
        incarnation: Incarnation,
        batch: BatchId,
        failure: Failure,
    ) {
        match failure {
            Failure::Input => {
                if let Some(batch) = self.finish(now, id, incarnation, batch) {
                    self.separate(batch);
                }
            }
            Failure::Device => {
                let holds = |adapter: &mut Adapter| holds(&adapter.state, batch);
                if self.current(id, incarnation).is_some_and(holds) {
                    self.let_down(now, id, Fault::Device);
                }
            }
        }
    }

    /// Frees the adapter of its batch, if it holds this one.
    fn finish(
        &mut self,
        now: Time,
        id: AdapterId,
        incarnation: Incarnation,
        batch: BatchId,
    ) -> Option<Batch> {
        let adapter = self.current(id, incarnation).filter(|a| holds(&a.state, batch))?;
        adapter.alive = now;
        match mem::replace(&mut adapter.state, State::Idle { since: now }) {
            State::Busy { batch, .. } => Some(batch),
            State::Draining { batch, .. } => {
                self.ask_to_stop(now, id);
                Some(batch)
            }
            other => {
                adapter.state = other;
                None
            }
        }
    }

    /// One request of the batch made it fail: each runs again alone, so that the poisonous one
    /// cannot fail its neighbours. Who fails alone is told so.
    fn separate(&mut self, batch: Batch) {
        let single = batch.requests.len() == 1;
        for (id, _) in batch.requests {
            let Some(mut request) = self.flying.remove(&id) else { continue };
            if single {
                self.reject(id, Reject::Input { batch: batch.id });
            } else {
                request.alone = true;
                self.queue.push(id, request);
            }
        }
    }

    fn exited(&mut self, now: Time, id: AdapterId, incarnation: Incarnation) {
        let Some(adapter) = self.current(id, incarnation) else { return };
        match adapter.state {
            State::Off | State::Quarantined { .. } => {}
            State::Stopping { fault: None, .. } => adapter.state = State::Off,
            State::Stopping { fault: Some(_), .. } | State::Unreaped { .. } => {
                self.quarantine(now, id);
            }
            State::Starting { .. }
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
        adapter.loaded.clear();
        let strikes = adapter.strikes;
        let state = mem::replace(&mut adapter.state, State::Idle { since: now });
        if let State::Busy { batch, .. } | State::Draining { batch, .. } = state {
            self.retry(batch, fault);
        }
        let backoff = self.backoff(strikes);
        let reason = Reason::Fault { fault, strikes, backoff };
        self.decide(now, id, Change::Quarantine, reason);
    }

    /// Puts the requests of a lost batch back to their places, or gives up on them.
    fn retry(&mut self, batch: Batch, fault: Fault) {
        for (id, _) in batch.requests {
            let Some(mut request) = self.flying.remove(&id) else { continue };
            request.retries += 1;
            // It may be the one that brings workers down: its neighbours must not pay for it.
            request.alone |= request.retries >= 2;
            if request.retries > self.settings.retries_max {
                self.reject(id, Reject::RetriesExhausted { fault });
            } else {
                self.queue.push(id, request);
            }
        }
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
            adapter.loaded.clear();
            adapter.state = state;
        }
    }

    /// Turns away what can no longer be served.
    fn reject_hopeless(&mut self, now: Time) {
        if self.queue.len() == 0 {
            return;
        }
        if self.closing.is_some_and(|deadline| deadline <= now) {
            return self.reject_all(self.queue.ids(), Reject::ShuttingDown);
        }
        if !self.discovered {
            return;
        }
        if !self.adapters.values().any(|adapter| self.is_hopeful(now, adapter)) {
            let retry_after = self.retry_after(now);
            return self.reject_all(self.queue.ids(), Reject::NoAdapter { retry_after });
        }
        if self.adapters.values().any(|adapter| !adapter.refused.is_empty()) {
            self.reject_unloadable(now);
        }
    }

    fn reject_unloadable(&mut self, now: Time) {
        let models: Vec<ModelId> = self.models.keys().copied().collect();
        for model in models {
            if !self.can_load(now, model) {
                self.reject_all(self.queue.ids_of(model), Reject::ModelFailed);
            }
        }
    }

    /// Whether some adapter may load this model, soon enough for a request to wait for it.
    fn can_load(&self, now: Time, model: ModelId) -> bool {
        self.adapters.iter().any(|(id, adapter)| {
            let comes = adapter.state.is_on() || adapter.wish == Wish::On || self.is_eligible(*id);
            comes && self.is_hopeful(now, adapter) && !adapter.refused.contains(&model)
        })
    }

    /// Whether this adapter may serve, soon enough for a request to wait for it.
    fn is_hopeful(&self, now: Time, adapter: &Adapter) -> bool {
        let patience = self.settings.patience;
        adapter.wish != Wish::Off
            && match adapter.state {
                State::Unreaped { .. } => false,
                State::Quarantined { until, .. } => until <= now + patience,
                State::Stopping { fault: Some(_), .. } => self.backoff(adapter.strikes) <= patience,
                State::Off
                | State::Starting { .. }
                | State::Idle { .. }
                | State::Busy { .. }
                | State::Draining { .. }
                | State::Stopping { fault: None, .. } => true,
            }
    }

    /// How long until some quarantined adapter is tried again.
    fn retry_after(&self, now: Time) -> Option<Duration> {
        let tried_again = self.adapters.values().filter_map(|adapter| match adapter.state {
            State::Quarantined { until, .. } if adapter.wish != Wish::Off => Some(until.since(now)),
            State::Stopping { fault: Some(_), .. } if adapter.wish != Wish::Off => {
                Some(self.backoff(adapter.strikes))
            }
            _ => None,
        });
        tried_again.min()
    }

    pub(super) fn next_batch(&mut self) -> BatchId {
        self.batches += 1;
        BatchId(self.batches)
    }

    pub(super) fn decide(&mut self, at: Time, adapter: AdapterId, change: Change, reason: Reason) {
        self.actions.push_back(Action::Decided(Decision { at, adapter, change, reason }));
    }

    fn reject(&mut self, request: RequestId, reason: Reject) {
        self.actions.push_back(Action::Reject { request, reason });
    }

    pub(super) fn reject_all(&mut self, requests: Vec<RequestId>, reason: Reject) {
        for request in requests {
            self.queue.remove(request);
            self.reject(request, reason);
        }
    }
}

fn holds(state: &State, id: BatchId) -> bool {
    state.batch().is_some_and(|batch| batch.id == id)
}
