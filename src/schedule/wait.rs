//! How long an adapter waits for work before it goes.
//!
//! Where a start fits into the target it is ski rental (Karlin et al., *Competitive randomized
//! algorithms for nonuniform problems*, 1994): an adapter goes when it stood idle for as long as
//! idling costs what turning it on again will, so that it never wastes more than twice the least
//! energy, or as much sooner as the last spells without work teach (`spells.rs`).
//!
//! Where a start makes requests late, each of them has a price:
//!
//! ```text
//! wait = (start + price + penalty * late) / idle
//! ```
//!
//! with joules of a start, its price and the penalty for a late request, late requests of the last
//! starts that requests waited for, on average, and watts idle; at least as long as a start takes, at
//! most an hour. `penalty * late` is bounded. Where a start is hardly longer than what the target
//! leaves, the bound is higher, and the learned price of late requests counts too (`misses.rs`).
//! Against an adversary that sends a request as soon as the adapter is off, energy is at most
//! `2 + (price + penalty * late) / start` times the least.

use super::decision::Reason;
use super::event::Wish;
use super::ids::{AdapterId, Time};
use super::policy::Policy;
use super::scheduler::Scheduler;
use super::settings::Role;
use super::state::{Adapter, State};
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Nothing stays on longer than this without need, in seconds, whatever the numbers say.
const WAIT_MAX: f64 = 3600.0;
/// No start is for nothing, in seconds of idling.
const WAIT_MIN: f64 = 1e-3;
/// The `latency` goal keeps adapters on so many times longer.
const LINGER: f64 = 3.0;
/// The late requests of one start are worth this at most, in joules: how many came at once says
/// little of how soon others will come.
const LATE_JOULES_MAX: f64 = 3000.0;
/// What misses are worth at most while an adapter waits for work, where its start fits into the
/// target: two watt-hours, or ten minutes. What a start makes miss says nothing of how much came at
/// once.
const MISSES_JOULES_MAX: f64 = 7200.0;
const MISSES_WAIT_MAX: f64 = 600.0;
/// Longest start, in multiples of the slack that the target leaves, up to which the learned price of
/// late requests counts: beyond it almost every request that waits for a start is late.
const SHARE_MAX: f64 = 2.0;
/// Factor of the bounds of that price and of the penalty for such starts.
const NEAR: f64 = 3.0;
/// Nor does anything go sooner than its start took, or this, in seconds: drivers are not cycled for
/// shorter pauses.
const PAUSE: f64 = 1.0;

/// How long an idle adapter stays, in seconds, and why: joules of a start with its price, and what
/// the requests that the start makes late are worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) seconds: f64,
    start_joules: f64,
    late_joules: f64,
}

/// The adapter to let go next, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispensable {
    adapter: AdapterId,
    pub(super) until: Time,
    since: Time,
    wait: Wait,
}

impl Scheduler {
    /// Lets adapters go that have waited long enough for work.
    pub(super) fn shrink_by_cost(&mut self, now: Time) -> bool {
        for id in &self.order {
            let Some(adapter) = self.adapters.get(id) else { continue };
            let joules = self.priced_joules(adapter, self.start_seconds(*id, adapter));
            let break_even = idle_seconds(adapter, joules);
            let Some(adapter) = self.adapters.get_mut(id) else { continue };
            adapter.break_even = break_even;
            while adapter.starts.front().is_some_and(|until| *until <= now) {
                adapter.starts.pop_front();
            }
        }
        let mut any = false;
        while let Some(go) = self.dispensable().filter(|go| go.until <= now) {
            if self.keeps_models(now, go.adapter, go.since) {
                continue;
            }
            let millijoules = |joules: f64| (joules * 1e3) as u64;
            let waited = Reason::BreakEven {
                unneeded: now.since(go.since),
                start_mj: millijoules(go.wait.start_joules),
                late_mj: millijoules(go.wait.late_joules),
            };
            let in_vain = |a: &Adapter| a.early && !a.served && a.expected.is_some();
            let in_vain = self.adapters.get(&go.adapter).is_some_and(in_vain);
            let reason = if in_vain { Reason::DidNotCome } else { waited };
            self.let_go(now, go.adapter, reason);
            any = true;
        }
        any
    }

    /// The adapter that goes first if nothing changes.
    pub(super) fn dispensable(&self) -> Option<Dispensable> {
        // Who still warms up is no reason to let go of those that serve.
        let serving = self.adapters.values().filter(|adapter| adapter.state.serves()).count();
        let spare = self.on_for_good() > self.settings.min || self.closing.is_some();
        let counted =
            |id: &AdapterId| self.adapters.get(id).is_some_and(|a| self.is_on_for_good(a));
        let candidates = self.order.iter().rev().filter(|id| spare || !counted(id));
        let candidates = candidates.filter_map(|id| self.until(*id, serving));
        candidates.min_by_key(|candidate| candidate.until)
    }

    /// Until when this adapter stays although nothing needs it.
    fn until(&self, id: AdapterId, serving: usize) -> Option<Dispensable> {
        let adapter = self.adapters.get(&id)?;
        if adapter.wish != Wish::Auto || !adapter.state.serves() || self.stays_as_bridge(adapter) {
            return None;
        }
        // Rows go to the cheapest, or the soonest: who is given none is not needed.
        let State::Idle { since } = adapter.state else { return None };
        // The last one serves whatever comes: it goes only when nothing does.
        let last = serving == 1;
        if last && self.queue.len() > 0 {
            return None;
        }
        let mut wait = self.wait(id, adapter);
        if let Some((_, seconds)) = adapter.kept.filter(|(idle_since, _)| *idle_since == since) {
            wait.extend(adapter, seconds);
        }
        let until = since + Duration::from_secs_f64(wait.seconds);
        let until = match adapter.expected {
            Some(expected) if adapter.early && !adapter.served => expected.until,
            Some(expected) => until.max(expected.until),
            None => until,
        };
        let until = until.max(self.may_start_again(adapter));
        Some(Dispensable { adapter: id, until, since, wait })
    }

    /// Whether it stays on whatever comes, since that costs nothing.
    pub(super) fn stays_as_bridge(&self, adapter: &Adapter) -> bool {
        adapter.profile.role == Role::Bridge && self.closing.is_none() && self.is_bridge(adapter)
    }

    /// How long this adapter waits for work.
    pub(super) fn wait(&self, id: AdapterId, adapter: &Adapter) -> Wait {
        let start = self.start_seconds(id, adapter);
        let share = self.start_share(id, adapter, start);
        if share <= 1.0 {
            return self.learned_wait(adapter, start, 1.0);
        }
        if share > SHARE_MAX {
            return self.late_wait(adapter, start, 1.0);
        }
        let late = self.late_wait(adapter, start, NEAR);
        let learned = self.learned_wait(adapter, start, NEAR);
        if learned.seconds > late.seconds { learned } else { late }
    }

    /// Where every start makes requests late: until idling has cost as much as a start and those, which
    /// are worth `bounds` times the usual bound at most.
    fn late_wait(&self, adapter: &Adapter, start: f64, bounds: f64) -> Wait {
        let start_joules = self.activation_joules(adapter, start);
        let late_joules = self.late_joules_up_to(adapter.late_requests(), bounds * LATE_JOULES_MAX);
        let seconds = idle_seconds(adapter, start_joules + late_joules);
        let seconds = seconds.clamp(start.min(WAIT_MAX), WAIT_MAX);
        Wait { seconds, start_joules, late_joules }
    }

    /// Where starts fit into the target, or almost: at a price of late requests that follows how many
    /// there are, up to `bounds` times the usual bounds.
    fn learned_wait(&self, adapter: &Adapter, start: f64, bounds: f64) -> Wait {
        let start_joules = self.activation_joules(adapter, start);
        let break_even = idle_seconds(adapter, start_joules);
        let priced_joules = self.priced_joules(adapter, start);
        let times = if self.hurries() { LINGER } else { adapter.spells.wait().unwrap_or(1.0) };
        let most = idle_seconds(adapter, bounds * MISSES_JOULES_MAX).min(bounds * MISSES_WAIT_MAX);
        let most = most.max(break_even);
        let seconds = (idle_seconds(adapter, priced_joules) * times).min(most);
        let late_joules = priced_joules - start_joules;
        Wait { seconds: seconds.max(start.min(PAUSE)), start_joules, late_joules }
    }

    /// Seconds of a start, as a share of what the target leaves for it beside a row. A request that
    /// waits for one of more than 1 is late.
    fn start_share(&self, id: AdapterId, adapter: &Adapter, start: f64) -> f64 {
        let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
        used.map_or(0.0, |(model, _)| {
            let slot = self.warm_slot(id, *model, 0);
            let slack = self.aim(*model).as_secs_f64() - slot.batch(1) * slot.caution;
            start / slack.max(1e-9)
        })
    }

    /// Joules that so many late requests are worth.
    pub(super) fn late_joules(&self, requests: f64) -> f64 {
        self.late_joules_up_to(requests, LATE_JOULES_MAX)
    }

    fn late_joules_up_to(&self, requests: f64, most: f64) -> f64 {
        let Policy::Cost { late_penalty_mj, .. } = self.settings.policy else { return 0.0 };
        let times = if self.hurries() { LINGER } else { 1.0 };
        (late_penalty_mj as f64 * 1e-3 * requests).min(most) * times
    }

    /// Seconds from off to serving what it serves now.
    pub(super) fn start_seconds(&self, id: AdapterId, adapter: &Adapter) -> f64 {
        let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
        adapter.cold_start() + used.map_or(0.0, |(model, _)| self.load_time(id, *model))
    }

    /// What one activation costs with the requests that it will make miss their target.
    fn priced_joules(&self, adapter: &Adapter, start: f64) -> f64 {
        self.activation_joules(adapter, start) + self.misses.price() * adapter.misses_long
    }

    /// When the cap on activations allows another. Until then an adapter stays on: let go, it would
    /// be missing when it is needed.
    fn may_start_again(&self, adapter: &Adapter) -> Time {
        let Policy::Cost { starts_per_hour, .. } = self.settings.policy else {
            return Time::default();
        };
        let oldest = adapter.starts.len().checked_sub(starts_per_hour as usize);
        let oldest = oldest.and_then(|at| adapter.starts.get(at));
        oldest.copied().unwrap_or_default()
    }
}

impl Wait {
    /// Waits for so many seconds at least, at most an hour: that is what late requests are worth.
    fn extend(&mut self, adapter: &Adapter, seconds: f64) {
        let seconds = seconds.min(WAIT_MAX);
        if seconds > self.seconds {
            let idling = seconds * adapter.profile.power.idle_mw as f64 * 1e-3;
            (self.seconds, self.late_joules) = (seconds, (idling - self.start_joules).max(0.0));
        }
    }
}

/// Seconds of idling that cost so many joules.
fn idle_seconds(adapter: &Adapter, joules: f64) -> f64 {
    let idle = adapter.profile.power.idle_mw.max(1) as f64 * 1e-3;
    (joules / idle).clamp(WAIT_MIN, WAIT_MAX)
}
