//! Turns adapters on and off under the goals `latency`, `balanced` and `energy`.
//!
//! Growth: whenever rows wait that the adapters that are on will not serve within their model's
//! target, the cheapest adapter that can carry them is turned on, or the fastest ones if none can
//! alone. No timer, no average: the late rows are planned exactly (`plan.rs`).
//!
//! Shrinking is ski rental (Karlin et al., *Competitive randomized algorithms for nonuniform
//! problems*, 1994): an adapter goes when it stood idle for as long as idling costs what turning
//! it on again will, so that it never wastes more than twice the least energy. The last one may
//! be busy all the time, since it serves whatever comes: it goes when nothing does. Part of what a
//! start costs are the requests that it makes miss their target (`misses.rs`).

use super::decision::Reason;
use super::forecast::{Slot, level};
use super::policy::Policy;
use super::scheduler::Scheduler;
use super::state::{Adapter, State, Wish};
use super::types::{AdapterId, ModelId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
/// Nothing stays on longer than this without need, whatever the numbers say.
const BREAK_EVEN_MAX: f64 = 3600.0;
/// The `latency` goal keeps adapters on so many times longer.
const LINGER: f64 = 3.0;
/// What misses are worth at most while an adapter waits for work: two watt-hours, or ten minutes.
/// What a start makes miss says nothing of how much came at once.
const PATIENCE_JOULES: f64 = 7200.0;
const PATIENCE_MAX: f64 = 600.0;
/// Nor does anything go sooner than its start took, or this: drivers are not cycled within a breath.
const BREATH: f64 = 1.0;
/// No start is for nothing, in seconds of idling.
const BREAK_EVEN_MIN: f64 = 1e-3;

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

/// The adapter to let go next, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispensable {
    adapter: AdapterId,
    pub(super) until: Time,
    since: Time,
    break_even: f64,
    patience: f64,
}

impl Scheduler {
    /// Turns on what the waiting rows need to be served within their targets.
    pub(super) fn grow_by_cost(&mut self, now: Time) {
        self.start_at = None;
        self.replace(now);
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
            let profile = self.models.get(&model)?;
            let newest = self.queue.newest(model) + profile.slo;
            let window = newest.since(now).as_secs_f64();
            // What stands in for one that is usable again is on its way out.
            let mut slots = self.slots(now, model, 0);
            slots.retain(|slot| self.counts(slot.adapter));
            let capacity = |slot: &Slot| {
                let free = 1.0 - taken.get(&slot.adapter).copied().unwrap_or(0.0);
                self.rows_in_time(now, (model, slot), window, profile.slo) * free
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
            !adapter.profile.fallback || adapter.wish == Wish::On || self.stands_in()
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
        trusted.then(|| Slot { free: 0.0, ..*slot }.rows_by(start.max(slo).max(window)))
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
        let slo = self.models.get(&unmet.model).map_or(Duration::ZERO, |model| model.slo);
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
        self.turn_on(now, id, false, self.why(unmet, ready_in))
    }

    fn why(&self, unmet: Unmet, ready_in: Duration) -> Reason {
        let target = self.models.get(&unmet.model).map_or(Duration::ZERO, |model| model.slo);
        let drain = unmet.drain.is_finite().then(|| Duration::from_secs_f64(unmet.drain.min(1e6)));
        let Unmet { model, waiting: rows, waited, .. } = unmet;
        Reason::LatencyTarget { model, rows, drain, waited, target, ready_in }
    }

    /// Which adapter that is off to turn on, and how soon it will be ready.
    fn cheapest(&self, now: Time, unmet: Unmet) -> Option<(AdapterId, Duration)> {
        let slo = self.models.get(&unmet.model)?.slo.as_secs_f64();
        let mut best: Option<(Rank, AdapterId, f64)> = None;
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
            if best.as_ref().is_none_or(|(other, ..)| rank.is_better(other)) {
                best = Some((rank, *id, ready));
            }
        }
        best.map(|(_, id, ready)| (id, Duration::from_secs_f64(ready.min(1e6))))
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
        let recent = adapter.starts.iter().filter(|at| now.since(**at) < HOUR).count();
        (recent as u64) < u64::from(starts_per_hour) || self.on() == 0
    }

    /// When the cap on activations allows another. Until then an adapter stays on: let go, it would
    /// be missing when it is needed.
    fn may_start_again(&self, adapter: &Adapter) -> Time {
        let Policy::Cost { starts_per_hour, .. } = self.settings.policy else {
            return Time::default();
        };
        let oldest = adapter.starts.len().checked_sub(starts_per_hour as usize);
        let oldest = oldest.and_then(|at| adapter.starts.get(at));
        oldest.map_or(Time::default(), |at| *at + HOUR)
    }

    /// Lets adapters go that have not been needed for their break-even time.
    pub(super) fn shrink_by_cost(&mut self, now: Time) -> bool {
        for id in &self.order {
            let Some(adapter) = self.adapters.get(id) else { continue };
            let joules = self.priced_joules(adapter, self.start_seconds(*id, adapter));
            let break_even = self.break_even(adapter, joules);
            let Some(adapter) = self.adapters.get_mut(id) else { continue };
            adapter.break_even = break_even;
            while adapter.starts.front().is_some_and(|at| now.since(*at) >= HOUR) {
                adapter.starts.pop_front();
            }
        }
        let mut any = false;
        while let Some(go) = self.dispensable().filter(|go| go.until <= now) {
            let reason = Reason::BreakEven {
                unneeded: now.since(go.since),
                break_even: Duration::from_secs_f64(go.break_even),
                patience_permille: (go.patience * 1e3) as u64,
            };
            self.let_go(now, go.adapter, reason);
            any = true;
        }
        any
    }

    /// The adapter that goes first if nothing changes.
    pub(super) fn dispensable(&self) -> Option<Dispensable> {
        let on = self.on();
        if on <= self.settings.min && self.closing.is_none() {
            return None;
        }
        // Who still warms up is no reason to let go of those that serve.
        let serving = self.adapters.values().filter(|adapter| adapter.state.serves()).count();
        let candidates = self.order.iter().rev().filter_map(|id| self.until(*id, serving));
        candidates.min_by_key(|candidate| candidate.until)
    }

    /// Until when this adapter stays although nothing needs it.
    fn until(&self, id: AdapterId, serving: usize) -> Option<Dispensable> {
        let adapter = self.adapters.get(&id)?;
        if adapter.wish != Wish::Auto || !adapter.state.serves() {
            return None;
        }
        // Rows go to the cheapest, or the soonest: who is given none is not needed.
        let State::Idle { since } = adapter.state else { return None };
        // The last one serves whatever comes: it goes only when nothing does.
        let last = serving == 1;
        if last && self.queue.len() > 0 {
            return None;
        }
        let start = self.start_seconds(id, adapter);
        let break_even = self.break_even(adapter, self.activation_joules(adapter, start));
        let priced = self.break_even(adapter, self.priced_joules(adapter, start));
        let times = if self.hurries() { LINGER } else { adapter.spells.wait().unwrap_or(1.0) };
        let wait = priced * times;
        let most = self.break_even(adapter, PATIENCE_JOULES).min(PATIENCE_MAX).max(break_even);
        let wait = wait.min(most).max(start.min(BREATH));
        let patience = wait / break_even;
        let until = (since + Duration::from_secs_f64(wait)).max(self.may_start_again(adapter));
        Some(Dispensable { adapter: id, until, since, break_even, patience })
    }

    /// Seconds from off to serving what it serves now.
    pub(super) fn start_seconds(&self, id: AdapterId, adapter: &Adapter) -> f64 {
        let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
        adapter.cold_start() + used.map_or(0.0, |(model, _)| self.load_time(id, *model))
    }

    /// What one activation costs with the requests that it will make miss their target.
    fn priced_joules(&self, adapter: &Adapter, start: f64) -> f64 {
        self.activation_joules(adapter, start) + self.misses.price() * adapter.misses
    }

    /// Seconds of idling that cost so much.
    fn break_even(&self, adapter: &Adapter, joules: f64) -> f64 {
        let idle = adapter.profile.power.idle_mw.max(1) as f64 * 1e-3;
        (joules / idle).clamp(BREAK_EVEN_MIN, BREAK_EVEN_MAX)
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
