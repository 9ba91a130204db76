//! The state machine: takes events in, remembers, and hands actions out.

use super::action::{Action, Reject};
use super::ahead::Ahead;
use super::bridge::BridgeSpells;
use super::decision::{Change, Decision, Reason};
use super::event::Wish;
use super::event::{Event, Fault};
use super::ids::{AdapterId, Incarnation, ModelId, RequestId, Time};
use super::light::ArrivalRate;
use super::misses::Misses;
use super::places::Popularity;
use super::policy::Load;
use super::queue::Queue;
use super::settings::{ModelProfile, Settings};
use super::state::{Adapter, AdapterView, State};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

/// Decides which adapters are on, which models they hold and which requests run where.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) settings: Settings,
    pub(super) models: BTreeMap<ModelId, ModelProfile>,
    pub(super) adapters: BTreeMap<AdapterId, Adapter>,
    /// Every adapter, best first: by class, then by measured speed.
    pub(super) order: Vec<AdapterId>,
    pub(super) queue: Queue,
    pub(super) surplus_since: Option<Time>,
    /// When something is next due for an adapter; perhaps too early, never too late.
    due: Option<Time>,
    /// When what waits beside an idle adapter is looked at again.
    pub(super) look_again: Option<Time>,
    /// When an adapter must be turned on at the latest for what waits.
    pub(super) start_at: Option<Time>,
    pub(super) misses: Misses,
    pub(super) arrivals: ArrivalRate,
    pub(super) bridge_spells: BridgeSpells,
    pub(super) popularity: Popularity,
    pub(super) ahead: Ahead,
    /// Whether an adapter has just failed that had failed again and again before.
    pub(super) failed_again: bool,
    /// Whether no process can be started, for a cause in the server's environment; no adapter is
    /// turned on meanwhile.
    pub(super) starts_blocked: bool,
    /// Attempts to start a worker that failed for such causes, since one was ready.
    pub(super) failed_starts: u32,
    /// Set once the server goes down: until when admitted requests may still be served.
    pub(super) closing: Option<Time>,
    pub(super) actions: VecDeque<Action>,
    pub(super) discovered: bool,
    pub(super) numbers: Numbers,
}

/// What is given out once and never again.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) request: u64,
    pub(super) batch: u64,
    pub(super) group: u64,
}

/// What is owed at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Requests of which something waits, and the rows that wait.
    pub queued: Load,
    /// Requests that are wholly with workers, and the rows that are.
    pub in_flight: Load,
}

impl Scheduler {
    pub fn new(settings: Settings, models: BTreeMap<ModelId, ModelProfile>) -> Scheduler {
        Scheduler {
            queue: Queue::new(&models, &settings),
            settings,
            models,
            adapters: BTreeMap::new(),
            order: Vec::new(),
            surplus_since: None,
            due: None,
            look_again: None,
            start_at: None,
            misses: Misses::default(),
            arrivals: ArrivalRate::default(),
            bridge_spells: BridgeSpells::default(),
            popularity: Popularity::default(),
            ahead: Ahead::default(),
            failed_again: false,
            starts_blocked: false,
            failed_starts: 0,
            closing: None,
            actions: VecDeque::new(),
            discovered: false,
            numbers: Numbers::default(),
        }
    }

    /// Takes in one event. Follow with `poll_action` until it gives `None`.
    pub fn handle(&mut self, now: Time, event: Event) {
        let arrival = matches!(event, Event::Arrived(_));
        self.record(now, event);
        self.reject_late(now);
        if arrival {
            self.settle_arrival(now);
        }
        if !arrival || self.due.is_some_and(|due| due <= now) {
            self.settle(now);
        }
    }

    /// Whatever the event was, the same few steps decide what follows.
    fn settle(&mut self, now: Time) {
        self.watch(now);
        self.reject_hopeless(now);
        self.cut(now);
        self.expel(now);
        self.obey_on(now);
        self.keep_bridges(now);
        self.look_ahead(now);
        self.grow_to_min(now);
        self.grow(now);
        self.dispatch(now);
        self.prepare(now);
        if self.expel(now) | self.shrink(now) {
            // Nobody waits any longer for one that drains.
            self.dispatch(now);
        }
        self.due = self.due(now);
    }

    /// The steps that matter to an arrival, the most frequent event: it changes nothing about
    /// adapters but how many are needed. They lead to the others if something is due.
    fn settle_arrival(&mut self, now: Time) {
        let before = self.actions.len();
        self.reject_hopeless(now);
        self.grow(now);
        self.dispatch(now);
        self.end_surplus();
        if self.actions.len() > before {
            self.due = self.due(now);
        }
    }

    /// Whether anybody waits for an answer.
    fn is_owed(&self) -> bool {
        self.queue.len() + self.queue.flying() > 0
    }

    /// Whether an adapter is on, or was and ends its batch.
    fn is_working(&self) -> bool {
        let works = |a: &Adapter| a.state.is_on() || matches!(a.state, State::Draining { .. });
        self.adapters.values().any(works)
    }

    /// When something is next due for an adapter.
    fn due(&self, now: Time) -> Option<Time> {
        let bounds = &self.settings.bounds;
        let adapters = self.adapters.values().filter_map(|adapter| adapter.deadline(bounds));
        let refusals = |a: &Adapter| a.refused.values().chain(a.crowded.values()).min().copied();
        let refusals = self.adapters.values().filter_map(refusals);
        let refusals = refusals.filter(|until| *until < Time::NEVER);
        let due = adapters.chain(refusals).chain(self.shrink_at());
        due.chain(self.next_ahead(now)).chain(self.ahead_due()).min()
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When `Event::Timeout` is next due, if ever.
    pub fn next_timeout(&self) -> Option<Time> {
        let closing = self.closing.filter(|_| self.is_owed() || self.is_working());
        let deadline = self.queue.next_deadline().map(|(deadline, _)| deadline);
        let again = self.look_again.into_iter().chain(self.start_at);
        let again = again.filter(|_| self.queue.len() > 0);
        self.due.into_iter().chain(closing).chain(deadline).chain(again).min()
    }

    /// Every adapter and what is believed of it.
    pub fn adapters(&self) -> impl Iterator<Item = (AdapterId, AdapterView<'_>)> {
        self.adapters.iter().map(|(id, adapter)| (*id, adapter.view()))
    }

    /// What is queued and in flight.
    pub fn outstanding(&self) -> Outstanding {
        let queue = &self.queue;
        Outstanding {
            queued: Load { rows: queue.rows(), requests: queue.len() as u64 },
            in_flight: Load { rows: queue.flying_rows(), requests: queue.flying() as u64 },
        }
    }

    /// Whether a request for any model can be served, now or after a start. Asking wakes nothing.
    pub fn is_ready(&self, now: Time) -> bool {
        self.closing.is_none()
            && self.adapters.values().any(|adapter| self.is_hopeful(now, adapter))
    }

    /// Whether a request for this model can be served, now or after a start.
    pub fn is_model_ready(&self, now: Time, model: ModelId) -> bool {
        self.closing.is_none() && self.models.contains_key(&model) && self.can_load(now, model)
    }

    /// The latency that scheduling aims at for this model.
    pub fn target(&self, model: ModelId) -> Option<Duration> {
        Some(self.models.get(&model)?.slo)
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
            Event::Recalled { adapter, memory } => self.recall(now, adapter, memory),
            Event::Learned { policy, down } => self.recall_policy(now, &policy, down),
            Event::Excluded { adapters } => self.exclude(&adapters),
            Event::Room { adapter, bytes } => {
                if let Some(adapter) = self.adapters.get_mut(&adapter) {
                    adapter.left = bytes;
                }
            }
            Event::Configured { settings } => self.configure(now, settings),
            Event::ModelAdded { model, profile } => {
                self.models.insert(model, profile);
                self.queue.set_max_rows(model, profile.max_rows);
            }
            Event::ModelRemoved { model } => self.withdraw(model),
            Event::Arrived(arrival) => self.admit(now, arrival),
            Event::Cancelled { request } => {
                self.queue.forget(request);
            }
            Event::Progress { adapter, incarnation } => self.progress(now, adapter, incarnation),
            Event::Ready { adapter, incarnation, speed } => {
                self.ready(now, adapter, incarnation, speed);
            }
            Event::Loaded { adapter, incarnation, model, bytes, measured, tuning } => {
                self.loaded(now, (adapter, incarnation), model, (bytes, tuning), &measured);
            }
            Event::NoMemory { adapter, incarnation, model, rows } => {
                if self.current(adapter, incarnation).is_some() {
                    self.no_memory(now, adapter, (model, rows));
                }
            }
            Event::LoadFailed { adapter, incarnation, model, again } => {
                self.load_failed(now, (adapter, incarnation), (model, again));
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
                self.failed(now, (adapter, incarnation), batch, failure);
            }
            Event::Faulted { adapter, incarnation, fault } => {
                if self.current(adapter, incarnation).is_some() {
                    self.let_down(now, adapter, fault);
                }
            }
            event @ (Event::NotStarted { .. }
            | Event::StartTried { .. }
            | Event::OutOfMemory { .. }
            | Event::Exited { .. }) => self.record_process(now, event),
            Event::Wished { adapter, wish } => {
                if let Some(adapter) = self.adapters.get_mut(&adapter) {
                    adapter.wish = wish;
                }
            }
            Event::Announced { model, client, within } => {
                self.announced(now, (model, client), within);
            }
            Event::Timeout => {}
            Event::Shutdown { deadline } => self.closing = Some(deadline),
        }
    }

    /// Records the start or the end of a process.
    fn record_process(&mut self, now: Time, event: Event) {
        match event {
            Event::NotStarted { adapter, incarnation } => {
                self.not_started(now, adapter, incarnation);
            }
            Event::StartTried { works } => {
                self.starts_blocked = !works;
                self.failed_starts = self.failed_starts.saturating_add(u32::from(!works));
            }
            Event::OutOfMemory { adapter, incarnation, model } => {
                self.out_of_memory(now, (adapter, incarnation), model);
            }
            Event::Exited { adapter, incarnation } => self.exited(now, adapter, incarnation),
            _ => {}
        }
    }

    fn configure(&mut self, now: Time, settings: Settings) {
        self.queue.set_limits(&settings);
        self.settings = settings;
        // Another policy may be in force.
        (self.start_at, self.surplus_since) = (None, None);
        self.fall_to_max(now);
    }

    /// The adapter, if the message is of its present life.
    pub(super) fn current(
        &mut self,
        id: AdapterId,
        incarnation: Incarnation,
    ) -> Option<&mut Adapter> {
        self.adapters.get_mut(&id).filter(|adapter| adapter.incarnation == incarnation)
    }

    /// Brings `order` up to date: by class, then by measured speed, then by id.
    pub(super) fn sort(&mut self) {
        let key = |id: &AdapterId| {
            let adapter = self.adapters.get(id);
            (adapter.map(|a| a.profile.rank), Reverse(adapter.map(|a| a.speed)), *id)
        };
        let mut order: Vec<_> = self.adapters.keys().copied().collect();
        order.sort_by_key(key);
        self.order = order;
    }

    /// Turns away what can no longer be served.
    fn reject_hopeless(&mut self, now: Time) {
        let failed_again = mem::take(&mut self.failed_again);
        if self.closing.is_some_and(|deadline| deadline <= now) {
            return self.reject_all(self.queue.all_ids(), Reject::ShuttingDown);
        }
        if self.queue.len() == 0 {
            return;
        }
        if !self.discovered {
            return;
        }
        let tries_on = || self.adapters.iter().any(|(id, a)| self.is_promising(now, *id, a));
        let hopeful = self.adapters.values().any(|adapter| self.is_hopeful(now, adapter));
        if !hopeful || (failed_again && !tries_on()) {
            let retry_after = self.retry_after(now);
            return self.reject_all(self.queue.ids(), Reject::NoAdapter { retry_after });
        }
        let lost = |model: &ModelId| !self.can_load(now, *model);
        let waiting = self.queue.waiting().map(|(model, _)| model);
        let lost: Vec<ModelId> = waiting.filter(lost).collect();
        for model in lost {
            self.reject_all(self.queue.ids_of(model), Reject::ModelFailed);
        }
    }

    /// Whether some adapter may load this model, soon enough for a request to wait for it.
    pub(super) fn can_load(&self, now: Time, model: ModelId) -> bool {
        self.adapters.iter().any(|(id, adapter)| {
            let comes = adapter.state.is_on() || adapter.wish == Wish::On || self.is_eligible(*id);
            let patience = now + self.settings.patience;
            let room = adapter.crowded.get(&model).is_none_or(|until| {
                *until <= patience && adapter.strikes <= self.settings.retries_max.max(1)
            });
            comes && room && self.is_hopeful(now, adapter) && self.may_take(adapter, model)
        })
    }

    /// Whether this adapter may serve, soon enough for a request to wait for it.
    fn is_hopeful(&self, now: Time, adapter: &Adapter) -> bool {
        let patience = self.settings.patience;
        // Who has failed again and again is not waited for any more, however soon it is tried.
        let trusted = self.is_trusted(adapter);
        // Requests wait for a second attempt to start a process, not for a third.
        let starts = !self.starts_blocked || self.failed_starts < 2;
        adapter.is_there()
            && adapter.wish != Wish::Off
            && match adapter.state {
                State::Unreaped { .. } => false,
                State::Quarantined { until, .. } => starts && trusted && until <= now + patience,
                State::Stopping { fault: Some(_), .. } => {
                    starts && trusted && self.backoff(adapter.strikes) <= patience
                }
                State::Off | State::Stopping { fault: None, .. } => starts,
                State::Starting { .. }
                | State::Loading { .. }
                | State::Idle { .. }
                | State::Busy { .. }
                | State::Draining { .. } => true,
            }
    }

    /// Whether an adapter has not failed again and again.
    pub(super) fn is_trusted(&self, adapter: &Adapter) -> bool {
        let retries = self.settings.retries_max.max(1);
        let retries = match adapter.last_fault {
            // It does less the next time, as often as that can be.
            Some(Fault::Memory) => retries + self.halvings_max(),
            // Each costs minutes, on one adapter after the other.
            Some(Fault::StartStuck) => 1,
            _ => retries,
        };
        adapter.strikes <= retries
    }

    /// Whether this adapter is worth waiting for although others have failed again and again.
    fn is_promising(&self, now: Time, id: AdapterId, adapter: &Adapter) -> bool {
        let state = &adapter.state;
        let comes = state.is_on() || adapter.wish == Wish::On || self.is_eligible(id);
        let serves = state.serves() && !adapter.replicas.is_empty();
        self.is_hopeful(now, adapter) && (serves || (comes && self.is_trusted(adapter)))
    }

    /// How often the largest batch can be halved.
    fn halvings_max(&self) -> u32 {
        let rows = self.models.values().map(|model| model.max_rows).max();
        rows.and_then(u32::checked_ilog2).map_or(0, |log| log + 1)
    }

    /// How long until some quarantined adapter is tried again.
    fn retry_after(&self, now: Time) -> Option<Duration> {
        let tried_again = self.adapters.values().filter(|a| a.present && a.wish != Wish::Off);
        let tried_again = tried_again.filter_map(|adapter| match adapter.state {
            State::Quarantined { until, .. } => Some(until.since(now)),
            State::Stopping { fault: Some(_), .. } => Some(self.backoff(adapter.strikes)),
            _ => None,
        });
        tried_again.min()
    }

    pub(super) fn decide(&mut self, at: Time, adapter: AdapterId, change: Change, reason: Reason) {
        self.actions.push_back(Action::Decided(Decision { at, adapter, change, reason }));
    }

    pub(super) fn reject(&mut self, request: RequestId, reason: Reject) {
        self.actions.push_back(Action::Reject { request, reason });
    }

    pub(super) fn reject_all(&mut self, requests: Vec<RequestId>, reason: Reject) {
        for request in requests {
            self.queue.forget(request);
            self.reject(request, reason);
        }
    }
}
