//! Turns adapters on under the goals `latency`, `balanced` and `energy`.
//!
//! Growth: whenever rows wait that the adapters that are on will not serve within their model's
//! target, the cheapest adapter that can carry them is turned on, or the fastest ones if none can
//! alone. No timer, no average: the late rows are planned exactly (`plan.rs`).
//!
//! When an adapter goes is in `wait.rs`.

use super::decision::Reason;
use super::event::Wish;
use super::forecast::{Slot, level};
use super::ids::{AdapterId, ModelId, Time};
use super::policy::Policy;
use super::scheduler::Scheduler;
use super::settings::Role;
use super::state::{Adapter, State};
use std::collections::BTreeMap;
use std::time::Duration;

/// An adapter that has just become ready is trusted with what it serves within so many times the
/// target.
const BACKLOG: f64 = 1.75;
/// Adapters that serve what waits within so many times the least time are taken for equally soon.
const SOON: f64 = 1.5;

/// Rows of one model that what is on will serve too late.
#[derive(Clone, Copy, Debug)]
struct Unmet {
    model: ModelId,
    size: u8,
    /// All that wait.
    waiting: u64,
    /// Those that will be late.
    rows: f64,
    /// How long the newest of them have waited.
    waited: Duration,
    /// Seconds until all are served; infinite if never.
    drain: f64,
}

impl Scheduler {
    /// Turns on what the waiting rows need to be served within their targets.
    pub(super) fn grow_by_cost(&mut self, now: Time) {
        self.start_at = None;
        self.replace(now);
        self.observe_bridges(now);
        // Each round turns one on, so that there are no more rounds than adapters.
        for _ in 0..self.order.len() {
            if self.queue.len() == 0 || !self.can_grow() {
                return;
            }
            let Some(unmet) = self.unmet(now) else { return };
            if !self.relieve(now, unmet) {
                return;
            }
        }
    }

    /// Rows of the first model, of those that wait, that what is on or starting will serve later
    /// than its target.
    pub fn unmet_rows(&self, now: Time) -> u64 {
        self.unmet(now).map_or(0, |unmet| unmet.rows.ceil() as u64)
    }

    fn can_grow(&self) -> bool {
        let sleeps = |a: &Adapter| matches!(a.state, State::Off | State::Draining { .. });
        self.adapters.iter().any(|(id, a)| sleeps(a) && self.is_eligible(*id))
            && self.on_for_good() < self.settings.max
    }

    /// The first model of which rows will be late.
    fn unmet(&self, now: Time) -> Option<Unmet> {
        // The share of each adapter's time that the models before need.
        let mut taken: BTreeMap<AdapterId, f64> = BTreeMap::new();
        for (model, waiting) in self.queue.waiting() {
            let aim = self.aim(model);
            let newest = self.queue.newest(model) + aim;
            let window = newest.since(now).as_secs_f64();
            // What stands in for one that is usable again is on its way out.
            let mut slots = self.slots(now, model, 0);
            let short = self.bridges_fall_short();
            slots.retain(|slot| self.counts(slot.adapter) && !(short && self.is_on_bridge(slot)));
            let capacity = |slot: &Slot| {
                let free = 1.0 - taken.get(&slot.adapter).copied().unwrap_or(0.0);
                self.rows_in_time(now, (model, slot), window, aim) * free
            };
            let sum: f64 = slots.iter().map(capacity).sum();
            let late = self.late_rows(now, model, &slots);
            let rows = (waiting as f64 - sum).max(late as f64);
            if rows > 0.0 {
                let drain = level(&slots, waiting);
                let waited = now.since(self.queue.newest(model));
                return Some(Unmet { model, size: 0, waiting, rows, waited, drain });
            }
            for slot in &slots {
                let taken = taken.entry(slot.adapter).or_default();
                *taken += (1.0 - *taken) * waiting as f64 / sum;
            }
        }
        None
    }

    pub(super) fn counts(&self, id: AdapterId) -> bool {
        self.adapters.get(&id).is_some_and(|adapter| {
            adapter.profile.role != Role::Fallback || adapter.wish == Wish::On || self.stands_in()
        })
    }

    /// Rows that an adapter which is on serves within the window.
    fn rows_in_time(
        &self,
        now: Time,
        (model, slot): (ModelId, &Slot),
        window: f64,
        slo: Duration,
    ) -> f64 {
        let trusted = self.trusted_rows(now, (model, slot), window, slo);
        trusted.unwrap_or_else(|| slot.rows_by(window))
    }

    /// Rows that an adapter which is coming, or has just come, is trusted with although it will be
    /// late for them: what arrives during its start. It was turned on for that, and until it had
    /// its chance nobody else is. One that comes in time for what waits needs no trust.
    pub(super) fn trusted_rows(
        &self,
        now: Time,
        (model, slot): (ModelId, &Slot),
        window: f64,
        slo: Duration,
    ) -> Option<f64> {
        let adapter = self.adapters.get(&slot.adapter)?;
        let start = adapter.cold_start() + self.load_time(slot.adapter, model);
        let slo = slo.as_secs_f64();
        let comes_late = start + slot.batch(1) * slot.caution > slo;
        let young = adapter.state.warms_up() || now.since(adapter.ready).as_secs_f64() < start;
        let trusted = comes_late && (young || !slot.loaded);
        if !trusted {
            return None;
        }
        // Once it serves, what it does not serve soon is more than it was turned on for.
        let seconds = start.max(slo).max(window);
        let briefly = slot.loaded || self.starts_together(now);
        let seconds = if briefly { seconds.min(BACKLOG * slo) } else { seconds };
        Some(Slot { free: 0.0, ..*slot }.rows_by(seconds))
    }

    /// Returns true if several adapters may start together: no regular adapter serves yet, and one was
    /// not enough lately.
    fn starts_together(&self, now: Time) -> bool {
        let serves =
            |adapter: &Adapter| adapter.profile.role == Role::Regular && adapter.state.serves();
        self.adapters.keys().any(|id| self.needed_help(now, *id))
            && !self.adapters.values().any(serves)
    }

    /// Turns on one adapter for the rows that will be late: a draining one, else the cheapest
    /// that can carry them, else the fastest.
    fn relieve(&mut self, now: Time, unmet: Unmet) -> bool {
        for at in 0..self.order.len() {
            let id = self.order[at];
            let helps = |adapter| self.helps_with(adapter, unmet.model);
            let ready_in = Duration::ZERO;
            if self.adapters.get(&id).is_some_and(helps)
                && self.is_eligible(id)
                && self.turn_on(now, id, true, self.why(unmet, ready_in))
            {
                return true;
            }
        }
        let Some((id, ready_in)) = self.cheapest(now, unmet) else { return false };
        // What is on will be done before this one could begin: it would come for nothing, unless
        // more follows for which it could not be started then.
        let slo = self.aim(unmet.model);
        let could_wait = self.closing.is_some() || ready_in * 2 <= slo;
        if could_wait && unmet.drain <= ready_in.as_secs_f64() {
            return false;
        }
        // The later it starts the more rows it will serve at once, and the less it idles.
        let at = self.last_start(now, (unmet.model, unmet.waiting), (id, ready_in.as_secs_f64()));
        if !unmet.drain.is_finite() && at > now {
            self.start_at = Some(at);
            return false;
        }
        let turned_on = self.turn_on(now, id, false, self.why(unmet, ready_in));
        if turned_on {
            let served = self.adapters.iter().filter(|(_, adapter)| {
                adapter.state.serves() && adapter.replicas.contains_key(&unmet.model)
            });
            let served: Vec<AdapterId> = served.map(|(id, _)| *id).collect();
            self.note_help(now, &served);
        }
        turned_on
    }

    fn why(&self, unmet: Unmet, ready_in: Duration) -> Reason {
        let target = self.aim(unmet.model);
        let drain = unmet.drain.is_finite().then(|| Duration::from_secs_f64(unmet.drain.min(1e6)));
        let Unmet { model, waiting: rows, waited, .. } = unmet;
        Reason::LatencyTarget { model, rows, drain, waited, target, ready_in }
    }

    /// Which adapter that is off to turn on, and how soon it will be ready.
    fn cheapest(&self, now: Time, unmet: Unmet) -> Option<(AdapterId, Duration)> {
        let slo = self.aim(unmet.model).as_secs_f64();
        let mut all: Vec<(Rank, Slot, f64)> = Vec::new();
        for id in &self.order {
            let Some(adapter) = self.adapters.get(id) else { continue };
            let off = adapter.state == State::Off && self.is_eligible(*id);
            let helps = off && self.helps_with(adapter, unmet.model);
            if !helps || !self.may_start(now, adapter) {
                continue;
            }
            let slot = self.slot(now, *id, adapter, unmet.model, unmet.size);
            let ready = adapter.cold_start() + self.load_time(*id, unmet.model);
            let slot = Slot { free: 0.0, ..slot };
            let rank = self.rank(adapter, &slot, unmet, (ready, slo));
            all.push((rank, slot, ready));
        }
        let best =
            all.iter().reduce(|best, one| if one.0.is_better(&best.0) { one } else { best })?;
        let (_, slot, ready) = self.watch_among(now, &all, best).unwrap_or(best);
        Some((slot.adapter, Duration::from_secs_f64(ready.min(1e6))))
    }

    /// Of adapters that would all come too late, and not much later than the soonest, the one that
    /// will take the least energy for a row.
    fn watch_among<'a>(
        &self,
        now: Time,
        all: &'a [(Rank, Slot, f64)],
        (best, ..): &(Rank, Slot, f64),
    ) -> Option<&'a (Rank, Slot, f64)> {
        if !best.alone || best.in_time || !self.packs() {
            return None;
        }
        let soon = all
            .iter()
            .filter(|(rank, ..)| rank.carries == best.carries && rank.finish <= SOON * best.finish);
        soon.min_by_key(|(_, slot, _)| self.cost_rank(now, slot, true))
    }

    fn rank(&self, adapter: &Adapter, slot: &Slot, unmet: Unmet, (ready, slo): (f64, f64)) -> Rank {
        let carries = slot.rows_by(ready.max(slo)) >= unmet.rows;
        let finish = ready + slot.finish(unmet.waiting);
        let joules = self.activation_joules(adapter, ready)
            + slot.finish(unmet.waiting) * adapter.profile.power.active_mw as f64 * 1e-3;
        // If nothing is on, all that waits waits for this start.
        let alone = !unmet.drain.is_finite();
        let hurry = self.hurries().then(|| slot.batch(1));
        let in_time = !alone || finish <= slo;
        Rank { in_time, carries, joules, finish, rate: slot.rate(), alone, hurry }
    }

    /// What one activation costs, with its price.
    pub(super) fn activation_joules(&self, adapter: &Adapter, seconds: f64) -> f64 {
        let Policy::Cost { price_mj, .. } = self.settings.policy else { return 0.0 };
        (price_mj as f64 + seconds * adapter.profile.power.start_mw as f64) * 1e-3
    }

    /// Whether the cap on activations allows another; the only adapter may always start.
    pub(super) fn may_start(&self, now: Time, adapter: &Adapter) -> bool {
        let Policy::Cost { starts_per_hour, .. } = self.settings.policy else { return true };
        let recent = adapter.starts.iter().filter(|until| **until > now).count();
        (recent as u64) < u64::from(starts_per_hour) || self.on() == 0
    }
}

/// How good it would be to turn an adapter on.
#[derive(Clone, Copy, Debug)]
struct Rank {
    in_time: bool,
    carries: bool,
    joules: f64,
    finish: f64,
    rate: f64,
    /// Whether nothing else is on.
    alone: bool,
    /// Seconds of one row, where short answer times come first.
    hurry: Option<f64>,
}

impl Rank {
    fn is_better(&self, other: &Rank) -> bool {
        let merit = |rank: &Rank| (rank.in_time, rank.carries);
        if merit(self) != merit(other) {
            return merit(self) > merit(other);
        }
        if self.alone && !self.in_time {
            return self.finish < other.finish;
        }
        if let (Some(own), Some(others)) = (self.hurry, other.hurry) {
            return own < others;
        }
        if self.carries { self.joules < other.joules } else { self.rate > other.rate }
    }
}
