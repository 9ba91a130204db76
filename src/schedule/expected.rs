//! Expected clients and the times of their next requests.

use super::client_pattern::{ClientPattern, Window};
use super::ids::{AdapterId, ClientId, ModelId, Time};
use super::learned_profile::LearnedClient;
use std::collections::BTreeMap;
use std::time::Duration;

/// Consecutive announcements without a request after which the client's next ones are ignored.
pub(super) const MISSED_MAX: u8 = 3;
/// Limit of remembered clients; clients of several models count once for each.
const KEYS_MAX: usize = 64;
/// Factor of the usual time of a start by which it begins before it is needed.
const START_CAUTION: f64 = 1.1;

/// The requests of one client for one model, or all requests.
pub(super) type Key = Option<(ModelId, ClientId)>;

/// The expected window and the adapter for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) window: Window,
    pub(super) adapter: AdapterId,
    pub(super) model: ModelId,
    /// When the adapter is turned on; `None` once that was tried.
    pub(super) start_at: Option<Time>,
    /// True if the client announced it.
    pub(super) announced: bool,
}

/// An expected client, as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedClient {
    /// True for one client, false for all together.
    pub is_one: bool,
    pub model: ModelId,
    /// The adapter to be ready.
    pub adapter: AdapterId,
    /// When it is turned on; `None` once that was tried.
    pub start_at: Option<Time>,
    /// The window in which the next request is expected.
    pub from: Time,
    pub until: Time,
    /// True if the client announced it; else it is a forecast.
    pub announced: bool,
}

/// Returns the time to turn on an adapter with this start time in seconds, to be ready for a
/// window.
pub(super) fn start_at(now: Time, window: Window, start: f64) -> Time {
    let lead = Duration::from_secs_f64((start * START_CAUTION).min(1e6));
    Time(window.from.0.saturating_sub(lead)).max(now)
}

/// The record of one client.
#[derive(Clone, Debug)]
pub(super) struct ClientRecord {
    pub(super) pattern: ClientPattern,
    /// The model of the last request.
    pub(super) model: ModelId,
    pub(super) plan: Option<Plan>,
    /// Consecutive announcements without a request.
    pub(super) missed_announcements: u8,
    /// True if its last busy period was announced: the next one is not expected before its
    /// announcement.
    pub(super) announces: bool,
    /// True if it was decided after its last request whether adapters turn off early.
    pub(super) released: bool,
    /// Time of its last request or announcement, in seconds.
    pub(super) last_seen: f64,
}

impl ClientRecord {
    fn new(model: ModelId) -> ClientRecord {
        let (pattern, plan) = (ClientPattern::default(), None);
        let (missed_announcements, announces, released, last_seen) = (0, false, false, 0.0);
        ClientRecord { pattern, model, plan, missed_announcements, announces, released, last_seen }
    }

    /// Handles a request that begins a busy period or not. It ends the plan that expected it.
    pub(super) fn arrived(&mut self, now: Time, begins: bool) {
        let announced = self.plan.filter(|plan| plan.announced);
        let met = announced.is_some_and(|plan| begins || plan.window.from <= now);
        if begins || met {
            (self.plan, self.announces) = (None, met);
        }
        self.released = false;
    }

    /// Ends a plan after its window.
    pub(super) fn end_plan(&mut self, plan: Plan) {
        self.plan = None;
        if plan.announced {
            (self.missed_announcements, self.announces) =
                (self.missed_announcements.saturating_add(1), false);
        }
    }

    /// Returns the time at which adapters may be turned off early after this client, if it
    /// announces its requests.
    pub(super) fn release_at(&self) -> Option<Time> {
        let is_known = self.announces || self.plan.is_some_and(|plan| plan.announced);
        (is_known && !self.released).then(|| self.pattern.paused_at()).flatten()
    }
}

/// All client patterns and plans.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientRecords {
    pub(super) entries: BTreeMap<Key, ClientRecord>,
}

impl ClientRecords {
    /// Returns the next time at which a plan is due.
    pub(super) fn due(&self) -> Option<Time> {
        let due = |entry: &ClientRecord| {
            let plan = entry.plan.map(|plan| plan.start_at.unwrap_or(plan.window.until));
            let due = plan.or_else(|| entry.pattern.forecast_at());
            due.into_iter().chain(entry.release_at()).min()
        };
        self.entries.values().filter_map(due).min()
    }

    /// Returns the entry of a key; a new entry replaces the least recently seen one.
    pub(super) fn entry(&mut self, key: Key, model: ModelId) -> &mut ClientRecord {
        // One more than `KEYS_MAX`: the entry of all clients together is always kept.
        if !self.entries.contains_key(&key) && self.entries.len() > KEYS_MAX {
            let oldest = self.entries.iter().filter(|(key, _)| key.is_some());
            let oldest = oldest.min_by(|a, b| a.1.last_seen.total_cmp(&b.1.last_seen));
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.entry(key).or_insert_with(|| ClientRecord::new(model))
    }
}

impl ClientRecords {
    /// Returns the expected clients.
    pub(super) fn expected(&self) -> impl Iterator<Item = ExpectedClient> {
        self.entries.iter().filter_map(|(key, entry)| {
            let Plan { window, adapter, model, start_at, announced } = entry.plan?;
            let (is_one, Window { from, until }) = (key.is_some(), window);
            Some(ExpectedClient { is_one, model, adapter, start_at, from, until, announced })
        })
    }

    /// Returns the learned values of each client for the next run of the server.
    pub(super) fn learned(&self, now: Time) -> Vec<LearnedClient> {
        let learned = |(key, entry): (&Key, &ClientRecord)| LearnedClient {
            client: key.map(|(_, client)| client),
            model: entry.model,
            ..entry.pattern.learned(now)
        };
        self.entries.iter().map(learned).collect()
    }

    /// Restores the values of clients without requests in this run.
    pub(super) fn restore(&mut self, now: Time, learned: &LearnedClient, down: Duration) {
        let (key, model) = (learned.client.map(|client| (learned.model, client)), learned.model);
        if !self.entries.contains_key(&key) {
            let entry = self.entry(key, model);
            entry.pattern = ClientPattern::restored(now, learned, down);
            entry.last_seen = entry.pattern.ended();
        }
    }
}

impl ClientRecords {
    /// Returns the late requests of a busy period of a client, if its announcements are reliable.
    pub(super) fn expected_late_requests(&self, model: ModelId, client: ClientId) -> Option<f64> {
        let Some(entry) = self.entries.get(&Some((model, client))) else { return Some(0.0) };
        (entry.missed_announcements < MISSED_MAX).then(|| entry.pattern.late_requests())
    }

    /// Sets the plan of a client that announced a request.
    pub(super) fn plan(&mut self, now: Time, (model, client): (ModelId, ClientId), plan: Plan) {
        let entry = self.entry(Some((model, client)), model);
        // An announcement that is postponed after its time counts as one that was not met.
        let was_missed = |plan: Plan| plan.announced && plan.window.from <= now;
        entry.missed_announcements =
            entry.missed_announcements.saturating_add(entry.plan.is_some_and(was_missed).into());
        (entry.plan, entry.last_seen) = (Some(plan), now.0.as_secs_f64());
    }
}
