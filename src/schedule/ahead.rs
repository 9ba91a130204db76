//! Starts an adapter just before a client is expected that comes regularly, and lets it go until
//! then: see `rhythm.rs`.
//!
//! Rhythms are kept for the clients of each model that were seen last, and for all requests
//! together. An idle adapter is let go before it has waited for long enough only if all that came
//! lately is expected at some time; else it may be somebody else who needs it.

use super::announced::UNMET_MAX;
use super::decision::Reason;
use super::event::Wish;
use super::ids::{AdapterId, ClientId, ModelId, Time};
use super::policy::Policy;
use super::recollection::LearnedClient;
use super::rhythm::{Costs, Rhythm, Window};
use super::scheduler::Scheduler;
use super::settings::Role;
use super::state::{Adapter, Expected, State};
use super::wait::HOUR;
use std::collections::BTreeMap;
use std::time::Duration;

/// Clients that are remembered, those of different models apart.
const KEYS_MAX: usize = 64;
/// A start is asked for so many times its usual length before it is needed.
const START_CAUTION: f64 = 1.1;

/// Whose requests: those of one client for one model, or all.
pub(super) type Key = Option<(ModelId, ClientId)>;

/// What is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) window: Window,
    pub(super) adapter: AdapterId,
    pub(super) model: ModelId,
    /// When the adapter is turned on; `None` once that was tried.
    pub(super) start_at: Option<Time>,
    /// Whether the client said so.
    pub(super) announced: bool,
}

/// When an adapter whose start takes so many seconds is turned on, to be ready for a window.
pub(super) fn start_at(now: Time, window: Window, start: f64) -> Time {
    let lead = Duration::from_secs_f64((start * START_CAUTION).min(1e6));
    Time(window.from.0.saturating_sub(lead)).max(now)
}

/// What is known of one client.
#[derive(Clone, Debug)]
struct Entry {
    rhythm: Rhythm,
    /// The model of the last request.
    model: ModelId,
    plan: Option<Plan>,
    /// Announcements in a row after which the client did not come.
    unmet: u8,
    /// When it last came or announced itself, in seconds.
    heard: f64,
}

/// All rhythms and plans.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead {
    entries: BTreeMap<Key, Entry>,
}

impl Ahead {
    /// The next time at which there is something to do.
    pub(super) fn due(&self) -> Option<Time> {
        let due = |entry: &Entry| {
            let plan = entry.plan.map(|plan| plan.start_at.unwrap_or(plan.window.until));
            plan.or_else(|| entry.rhythm.look_at())
        };
        self.entries.values().filter_map(due).min()
    }

    /// The entry of a key; the one that was not seen for longest makes way.
    fn entry(&mut self, key: Key, model: ModelId) -> &mut Entry {
        if !self.entries.contains_key(&key) && self.entries.len() > KEYS_MAX {
            let oldest = self.entries.iter().filter(|(key, _)| key.is_some());
            let oldest = oldest.min_by(|a, b| a.1.heard.total_cmp(&b.1.heard));
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.entries.remove(&oldest);
            }
        }
        let entry = || Entry { rhythm: Rhythm::default(), model, plan: None, unmet: 0, heard: 0.0 };
        self.entries.entry(key).or_insert_with(entry)
    }
}

impl Ahead {
    /// What is worth keeping of each client for the next run of the server.
    pub(super) fn learned(&self, now: Time) -> Vec<LearnedClient> {
        let learned = |(key, entry): (&Key, &Entry)| LearnedClient {
            client: key.map(|(_, client)| client),
            model: entry.model,
            ..entry.rhythm.learned(now)
        };
        self.entries.iter().map(learned).collect()
    }

    /// Takes in what an earlier run learned of clients that were not seen in this one.
    pub(super) fn recall(&mut self, now: Time, learned: &LearnedClient, down: Duration) {
        let (key, model) = (learned.client.map(|client| (learned.model, client)), learned.model);
        if !self.entries.contains_key(&key) {
            let entry = self.entry(key, model);
            entry.rhythm = Rhythm::of(now, learned, down);
            entry.heard = entry.rhythm.worked();
        }
    }
}

impl Ahead {
    /// Late requests of a spell of a client, if it keeps its word.
    pub(super) fn believed(&self, model: ModelId, client: ClientId) -> Option<f64> {
        let Some(entry) = self.entries.get(&Some((model, client))) else { return Some(0.0) };
        (entry.unmet < UNMET_MAX).then(|| entry.rhythm.misses())
    }

    /// Plans for a client that announced itself.
    pub(super) fn plan(&mut self, now: Time, (model, client): (ModelId, ClientId), plan: Plan) {
        let entry = self.entry(Some((model, client)), model);
        // An announcement that is postponed after its time counts as one that was not met.
        let did_not_come = |plan: Plan| plan.announced && plan.window.from <= now;
        entry.unmet = entry.unmet.saturating_add(entry.plan.is_some_and(did_not_come).into());
        (entry.plan, entry.heard) = (Some(plan), now.0.as_secs_f64());
    }
}

impl Scheduler {
    pub(super) fn looks_ahead(&self) -> bool {
        self.settings.ahead
            && self.closing.is_none()
            && matches!(self.settings.policy, Policy::Cost { .. })
    }

    /// When there is next something to do for clients that are expected.
    pub(super) fn ahead_due(&self) -> Option<Time> {
        self.ahead.due().filter(|_| self.looks_ahead())
    }

    /// A request was admitted.
    pub(super) fn note_arrival(&mut self, now: Time, model: ModelId, client: ClientId) {
        if !self.looks_ahead() {
            return;
        }
        let serves =
            |adapter: &Adapter| adapter.state.serves() && adapter.profile.role == Role::Regular;
        let serves = self.adapters.values().any(serves);
        for key in [None, Some((model, client))] {
            let entry = self.ahead.entry(key, model);
            (entry.model, entry.unmet) = (model, 0);
            entry.heard = now.0.as_secs_f64();
            let ready = serves || entry.plan.is_some_and(|plan| plan.start_at.is_none());
            if entry.rhythm.arrived(now, ready) {
                entry.plan = None;
            }
        }
    }

    /// A request was answered, late because of a start or not.
    pub(super) fn note_answer(&mut self, now: Time, model: ModelId, client: ClientId, late: bool) {
        for key in [None, Some((model, client))] {
            if let Some(entry) = self.ahead.entries.get_mut(&key) {
                entry.rhythm.answered(now, late);
            }
        }
    }

    /// Makes plans and carries them out.
    pub(super) fn look_ahead(&mut self, now: Time) {
        if !self.looks_ahead() || self.ahead.due().is_none_or(|due| due > now) {
            return;
        }
        let keys: Vec<Key> = self.ahead.entries.keys().copied().collect();
        for key in &keys {
            self.make_plan(now, *key);
        }
        for key in keys {
            self.carry_out(now, key);
        }
    }

    fn make_plan(&mut self, now: Time, key: Key) {
        let Some(entry) = self.ahead.entries.get_mut(&key) else { return };
        if entry.rhythm.look_at().is_none_or(|at| at > now) {
            return;
        }
        entry.rhythm.looked = true;
        // An announcement takes precedence over what was learned.
        if entry.plan.is_some_and(|plan| plan.announced) {
            return;
        }
        let (model, rhythm) = (entry.model, entry.rhythm.clone());
        let watch = self.watch_for(now, model, rhythm.misses());
        let Some((adapter, costs, start)) = watch else { return };
        let Some(window) = rhythm.forecast(costs) else { return };
        let start_at = Some(start_at(now, window, start));
        if let Some(entry) = self.ahead.entries.get_mut(&key) {
            entry.plan = Some(Plan { window, adapter, model, start_at, announced: false });
        }
        self.let_go_early(now);
    }

    /// The adapter to be ready for the next request of a model, what it costs, and the seconds of
    /// its start, if a cold start makes so many requests late.
    pub(super) fn watch_for(
        &self,
        now: Time,
        model: ModelId,
        late: f64,
    ) -> Option<(AdapterId, Costs, f64)> {
        let aim = self.aim(model).as_secs_f64();
        let watches = self.adapters.iter().filter(|(id, adapter)| {
            self.is_eligible(**id) && self.takes(adapter, model) && !adapter.state.is_faulty()
        });
        let (id, adapter) = watches.min_by_key(|(id, _)| {
            let slot = self.warm_slot(**id, model, 0);
            (slot.batch(1) * slot.caution > aim, self.cost_rank(now, &slot, true))
        })?;
        let start = adapter.cold_start() + self.load_time(*id, model);
        let miss = self.late_joules(late);
        let costs = Costs {
            idle: adapter.profile.power.idle_mw.max(1) as f64 * 1e-3,
            start: self.activation_joules(adapter, start),
            miss,
            wait: self.wait(*id, adapter).seconds,
        };
        // Who is on anyway, or carries it without a start, needs no plan.
        (miss > costs.start).then_some((*id, costs, start))
    }

    /// Lets idle adapters go if all that came lately is expected at some time.
    fn let_go_early(&mut self, now: Time) {
        let planned = |entry: &Entry| entry.plan.is_some();
        let all = self.ahead.entries.get(&None).is_some_and(planned);
        let recent = self
            .ahead
            .entries
            .iter()
            .filter(|(key, entry)| key.is_some() && entry.rhythm.was_seen(now, HOUR));
        if !all && !recent.clone().all(|(_, entry)| planned(entry)) {
            return;
        }
        for at in 0..self.order.len() {
            let id = self.order[at];
            let lets_go = self.adapters.get(&id).is_some_and(|adapter| {
                matches!(adapter.state, State::Idle { .. })
                    && adapter.wish == Wish::Auto
                    && adapter.profile.role == Role::Regular
                    && adapter.expected.is_none()
            });
            if lets_go && self.on_for_good() > self.settings.min {
                let next = self.ahead.entries.values().filter_map(|entry| entry.plan);
                let next = next.map(|plan| plan.window.from).min().unwrap_or(now);
                self.let_go(now, id, Reason::NotExpected { until: next });
            }
        }
    }

    /// Turns the adapter of a plan on in time, and ends a plan that has passed.
    fn carry_out(&mut self, now: Time, key: Key) {
        let Some(plan) = self.ahead.entries.get(&key).and_then(|entry| entry.plan) else { return };
        if plan.window.until <= now || !self.models.contains_key(&plan.model) {
            if let Some(entry) = self.ahead.entries.get_mut(&key) {
                entry.plan = None;
                entry.unmet = entry.unmet.saturating_add(plan.announced.into());
            }
            return;
        }
        if plan.start_at.is_none_or(|at| at > now) {
            return;
        }
        if let Some(plan) = self.ahead.entries.get_mut(&key).and_then(|entry| entry.plan.as_mut()) {
            plan.start_at = None;
        }
        let reason = Reason::Expected {
            model: plan.model,
            from: plan.window.from,
            until: plan.window.until,
            announced: plan.announced,
        };
        let starts = self.on_for_good() < self.settings.max && self.is_eligible(plan.adapter);
        let may = |a| self.may_start(now, a);
        if starts && self.adapters.get(&plan.adapter).is_some_and(may) {
            self.turn_on(now, plan.adapter, false, reason);
        }
        if let Some(adapter) = self.adapters.get_mut(&plan.adapter)
            && adapter.state.is_on()
        {
            adapter.expected = Some(Expected { model: plan.model, until: plan.window.until });
        }
    }
}
