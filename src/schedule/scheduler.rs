//! The state machine: receives events, keeps the state and returns actions.

use super::action::Action;
use super::adapter::Adapter;
use super::event::Event;
use super::expected::ExpectedClient;
use super::ids::{AdapterId, ModelId, Time};
use super::learned_profile::{LearnedPolicy, LearnedProfile};
use super::outbox::Outbox;
use super::policy::Outstanding;
use super::settings::{ModelProfile, Settings};
use super::state::{AdapterView, Lifecycle};
use super::world::World;
use super::{
    admission, availability, bridge, cost, dispatch, early_start, learned, prepare, record,
    requests, scale, target, timeouts,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Decides which adapters are on, which models they hold and which requests run where.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) world: World,
    out: Outbox,
    /// Time of the next deadline of an adapter; possibly too early, never too late.
    due: Option<Time>,
}

impl Scheduler {
    pub fn new(settings: Settings, models: BTreeMap<ModelId, ModelProfile>) -> Scheduler {
        Scheduler { world: World::new(settings, models), out: Outbox::default(), due: None }
    }

    /// Handles one event. Then call `poll_action` until it returns `None`.
    pub fn handle(&mut self, now: Time, event: Event) {
        let arrival = matches!(event, Event::Arrived(_));
        record::record(&mut self.world, &mut self.out, now, event);
        requests::reject_late(&mut self.world, &mut self.out, now);
        if arrival {
            self.run_arrival_steps(now);
        }
        if !arrival || self.due.is_some_and(|due| due <= now) {
            self.run_steps(now);
        }
    }

    /// Decides on actions; the same steps follow every event.
    fn run_steps(&mut self, now: Time) {
        let (world, out) = (&mut self.world, &mut self.out);
        timeouts::expire(world, out, now);
        availability::reject_unservable(world, out, now);
        scale::stop_at_deadline(world, out, now);
        scale::drain_forbidden(world, out, now);
        scale::turn_on_by_mode(world, out, now);
        // Before growth, for which the capacity of bridges counts.
        bridge::turn_on_bridges(world, out, now);
        early_start::update_plans(world, out, now);
        scale::grow_to_min(world, out, now);
        scale::grow(world, out, now);
        dispatch::dispatch(world, out, now);
        prepare::prepare(world, out, now);
        // `|` evaluates both sides: both steps must run.
        if scale::drain_forbidden(world, out, now) | scale::shrink(world, out, now) {
            // After the end of draining, rows no longer wait for that adapter.
            dispatch::dispatch(world, out, now);
        }
        self.due = self.due(now);
    }

    /// Decides on actions after an arrival, the most frequent event. It changes only the number of
    /// adapters that are needed, so the other steps run only if something is due.
    fn run_arrival_steps(&mut self, now: Time) {
        let (world, out) = (&mut self.world, &mut self.out);
        let before = out.len();
        availability::reject_unservable(world, out, now);
        scale::grow(world, out, now);
        dispatch::dispatch(world, out, now);
        scale::end_surplus(world);
        if out.len() > before {
            self.due = self.due(now);
        }
    }

    /// Returns whether any request waits for an answer.
    fn has_requests(&self) -> bool {
        self.world.queue.len() + self.world.queue.in_flight() > 0
    }

    /// Returns whether an adapter is on, or finishes its batch.
    fn is_working(&self) -> bool {
        let works = |a: &Adapter| a.state().has_worker();
        self.world.adapters.values().any(works)
    }

    /// Returns the time of the next deadline of an adapter.
    fn due(&self, now: Time) -> Option<Time> {
        let world = &self.world;
        let timeouts = &world.settings.timeouts;
        let adapters = world.adapters.values().filter_map(|adapter| adapter.deadline(timeouts));
        let refusals =
            |a: &Adapter| a.refused_until.values().chain(a.no_memory_until.values()).min().copied();
        // Without these times a model that had lacked memory stayed rejected on an idle server
        // until another event.
        let refusals = world.adapters.values().filter_map(refusals);
        // Wrong files are not read again until the model is replaced.
        let refusals = refusals.filter(|until| *until < Time::NEVER);
        let due = adapters.chain(refusals).chain(scale::shrink_at(world));
        due.chain(prepare::next_ahead(world, now)).chain(early_start::plans_due(world)).min()
    }

    /// Returns the next action, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop()
    }

    /// Returns the time at which `Event::Timeout` is next due, if ever.
    pub fn next_timeout(&self) -> Option<Time> {
        let closing = self.world.closing.filter(|_| self.has_requests() || self.is_working());
        let deadline = self.world.queue.next_deadline().map(|(deadline, _)| deadline);
        let again = self.world.recheck_at.into_iter().chain(self.world.start_at);
        let again = again.filter(|_| self.world.queue.len() > 0);
        self.due.into_iter().chain(closing).chain(deadline).chain(again).min()
    }

    /// Returns every adapter and its estimated state.
    pub fn adapters(&self) -> impl Iterator<Item = (AdapterId, AdapterView<'_>)> {
        self.world.adapters.iter().map(|(id, adapter)| (*id, adapter.view()))
    }

    /// Returns the queued and the in-flight work.
    pub fn outstanding(&self) -> Outstanding {
        self.world.outstanding()
    }

    /// Returns whether requests for all models can be served, now or after a start; starts nothing.
    pub fn is_ready(&self, now: Time) -> bool {
        availability::is_ready(&self.world, now)
    }

    /// Returns whether a request for this model can be served, now or after a start.
    pub fn is_model_ready(&self, now: Time, model: ModelId) -> bool {
        availability::is_model_ready(&self.world, now, model)
    }

    /// Returns the latency target that scheduling uses for this model.
    pub fn target(&self, model: ModelId) -> Option<Duration> {
        Some(self.world.models.get(&model)?.slo)
    }

    /// Returns the latency that scheduling aims at for a request of one row: at least the target.
    pub fn effective_target(&self, model: ModelId) -> Duration {
        target::effective(&self.world, model)
    }

    /// Returns the least predicted time of one row; `None` where no adapter has been measured.
    pub fn best(&self, model: ModelId) -> Option<Duration> {
        target::best(&self.world, model)
    }

    /// Returns the time that the active adapters will need for the waiting rows.
    pub fn drain(&self, now: Time) -> Duration {
        admission::drain(&self.world, now)
    }

    /// Returns the clients with expected requests, announced or learned.
    pub fn expected(&self) -> impl Iterator<Item = ExpectedClient> {
        self.world.clients.expected().filter(|_| early_start::is_enabled(&self.world))
    }

    /// Returns the values of the policy to keep for the next run.
    pub fn learned(&self, now: Time) -> LearnedPolicy {
        learned::policy(&self.world, now)
    }

    /// Returns the values of an adapter to keep for the next run.
    pub fn learned_profile(&self, now: Time, id: AdapterId) -> Option<LearnedProfile> {
        learned::adapter(&self.world, now, id)
    }

    /// Returns the rows of the first waiting model that active and starting adapters will serve
    /// later than its target.
    pub fn unmet_rows(&self, now: Time) -> u64 {
        cost::unmet_rows(&self.world, now)
    }

    /// Returns whether the server is shutting down.
    pub fn is_closing(&self) -> bool {
        self.world.closing.is_some()
    }

    /// Returns whether no request waits and every worker has exited, or cannot be stopped.
    pub fn is_down(&self) -> bool {
        // A process that does not exit after its kill must not keep the server from ending.
        let down = |adapter: &Adapter| {
            matches!(
                adapter.state().lifecycle,
                Lifecycle::Off | Lifecycle::Quarantined { .. } | Lifecycle::Unreaped { .. }
            )
        };
        self.world.queue.len() == 0 && self.world.adapters.values().all(down)
    }
}
