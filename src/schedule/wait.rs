//! Time that an adapter waits for work before it turns off.
//!
//! Where a start fits into the target, it is ski rental (Karlin et al., *Competitive randomized
//! algorithms for nonuniform problems*, 1994): an adapter turns off when idling has cost as much as
//! turning it on again will, so that it never wastes more than twice the least energy; or earlier,
//! as learned from the last idle periods (`idle_periods.rs`).
//!
//! Where a start makes requests late, each of them has a price:
//!
//! ```text
//! wait = (start + price + penalty * late) / idle
//! ```
//!
//! with joules of a start, its price and the penalty for a late request, the mean number of late
//! requests of the last starts that requests waited for, and watts idle; at least as long as a
//! start takes, at most an hour. `penalty * late` is bounded. Where a start is hardly longer than
//! the slack that the target leaves, the bound is higher, and the learned price of late requests
//! counts too (`late_price.rs`). Against an adversary that sends a request as soon as the adapter is
//! off, energy is at most `2 + (price + penalty * late) / start` times the least.

use super::adapter::Adapter;
use super::decision::Reason;
use super::event::AdapterMode;
use super::ids::{AdapterId, Time};
use super::outbox::Outbox;
use super::start_cost::{LATE_JOULES_MAX, LINGER};
use super::world::World;
use super::{eligible, eviction, lifecycle, slots, start_cost, target};
use std::time::Duration;

/// Maximum of seconds that an adapter stays on without need, whatever the estimates are.
const WAIT_MAX: f64 = 3600.0;
/// Minimum cost of a start, in seconds of idling, so that no start counts as free.
const WAIT_MIN: f64 = 1e-3;
/// Maximum value of misses while an adapter waits for work, where its start fits into the target:
/// two watt-hours, or ten minutes. The misses of a start do not indicate how many requests arrived
/// at once.
const LATE_PRICE_JOULES_MAX: f64 = 7200.0;
const LATE_PRICE_WAIT_MAX: f64 = 600.0;
/// Longest start, in multiples of the slack that the target leaves, up to which the learned price
/// of late requests counts: beyond it almost every request that waits for a start is late.
const SHARE_MAX: f64 = 2.0;
/// Factor of the bounds of that price and of the penalty for such starts.
const NEAR: f64 = 3.0;
/// Minimum of seconds that an adapter stays on, or the duration of its start if that is shorter:
/// drivers are not cycled for shorter pauses.
const PAUSE: f64 = 1.0;

/// Seconds that an idle adapter stays on, and the reason: joules of a start with its price, and the
/// value of the requests that the start makes late.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) seconds: f64,
    start_joules: f64,
    late_joules: f64,
}

/// The adapter to drain next, and the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispensable {
    adapter: AdapterId,
    pub(super) until: Time,
    since: Time,
    wait: Wait,
}

/// Begins draining adapters that have waited long enough for work.
pub(super) fn shrink_by_cost(world: &mut World, out: &mut Outbox, now: Time) -> bool {
    for id in world.best_first() {
        let Some(adapter) = world.adapters.get(&id) else { continue };
        let joules = start_cost::priced_joules(
            world,
            adapter,
            start_cost::start_seconds(world, id, adapter),
        );
        let break_even = idle_seconds(adapter, joules);
        let Some(adapter) = world.adapters.get_mut(&id) else { continue };
        adapter.economy.break_even = break_even;
        while adapter.economy.starts.front().is_some_and(|until| *until <= now) {
            adapter.economy.starts.pop_front();
        }
    }
    let mut any = false;
    while let Some(go) = dispensable(world).filter(|go| go.until <= now) {
        if eviction::keeps_models(world, now, go.adapter, go.since) {
            continue;
        }
        let millijoules = |joules: f64| (joules * 1e3) as u64;
        let waited = Reason::BreakEven {
            unneeded: now.since(go.since),
            start_mj: millijoules(go.wait.start_joules),
            late_mj: millijoules(go.wait.late_joules),
        };
        let was_unused =
            |a: &Adapter| a.economy.early && !a.economy.served && a.economy.expected.is_some();
        let was_unused = world.adapters.get(&go.adapter).is_some_and(was_unused);
        let reason = if was_unused { Reason::DidNotCome } else { waited };
        lifecycle::begin_draining(world, out, now, go.adapter, reason);
        any = true;
    }
    any
}

impl Wait {
    /// Extends the wait to these seconds, at most an hour, which are the value of late requests.
    fn extend(&mut self, adapter: &Adapter, seconds: f64) {
        let seconds = seconds.min(WAIT_MAX);
        if seconds > self.seconds {
            let idling = seconds * adapter.profile.power.idle_mw as f64 * 1e-3;
            (self.seconds, self.late_joules) = (seconds, (idling - self.start_joules).max(0.0));
        }
    }
}

/// Returns the seconds of idling that cost this energy.
fn idle_seconds(adapter: &Adapter, joules: f64) -> f64 {
    // 1 mW at least, so that the quotient is finite for adapters without idle power.
    let idle = adapter.profile.power.idle_mw.max(1) as f64 * 1e-3;
    (joules / idle).clamp(WAIT_MIN, WAIT_MAX)
}

/// Returns the adapter that turns off first if nothing changes.
pub(super) fn dispensable(world: &World) -> Option<Dispensable> {
    // An adapter that still warms up is not a reason to turn off those that serve.
    let serving = world.adapters.values().filter(|adapter| adapter.state().serves()).count();
    let spare = eligible::counted_on(world) > world.settings.min || world.closing.is_some();
    let counted =
        |id: &AdapterId| world.adapters.get(id).is_some_and(|a| eligible::counts_as_on(world, a));
    let candidates = world.order.iter().rev().filter(|id| spare || !counted(id));
    let candidates = candidates.filter_map(|id| until(world, *id, serving));
    candidates.min_by_key(|candidate| candidate.until)
}

/// Returns the time until which this adapter stays on without work.
fn until(world: &World, id: AdapterId, serving: usize) -> Option<Dispensable> {
    let adapter = world.adapters.get(&id)?;
    if adapter.mode != AdapterMode::Auto
        || !adapter.state().serves()
        || eligible::stays_as_bridge(world, adapter)
    {
        return None;
    }
    // Rows go to the best adapters first: an idle one that gets none is not needed.
    let since = adapter.state().idle_since()?;
    // The last one serves all requests, so it turns off only when none are left.
    let last = serving == 1;
    if last && world.queue.len() > 0 {
        return None;
    }
    let mut wait = wait(world, id, adapter);
    if let Some((_, seconds)) = adapter.economy.kept.filter(|(idle_since, _)| *idle_since == since)
    {
        wait.extend(adapter, seconds);
    }
    let until = since + Duration::from_secs_f64(wait.seconds);
    let until = match adapter.economy.expected {
        Some(expected) if adapter.economy.early && !adapter.economy.served => expected.until,
        Some(expected) => until.max(expected.until),
        None => until,
    };
    let until = until.max(start_cost::may_start_again(world, adapter));
    Some(Dispensable { adapter: id, until, since, wait })
}

/// Returns the time that this adapter waits for work.
pub(super) fn wait(world: &World, id: AdapterId, adapter: &Adapter) -> Wait {
    let start = start_cost::start_seconds(world, id, adapter);
    let share = start_share(world, id, adapter, start);
    if share <= 1.0 {
        return learned_wait(world, adapter, start, 1.0);
    }
    if share > SHARE_MAX {
        return late_wait(world, adapter, start, 1.0);
    }
    let late = late_wait(world, adapter, start, NEAR);
    let learned = learned_wait(world, adapter, start, NEAR);
    if learned.seconds > late.seconds { learned } else { late }
}

/// Returns the wait where every start makes requests late: until idling has cost as much as a start
/// and its late requests, which are worth at most `bounds` times the usual bound.
fn late_wait(world: &World, adapter: &Adapter, start: f64, factor: f64) -> Wait {
    let start_joules = start_cost::activation_joules(world, adapter, start);
    let late_joules = start_cost::late_joules_up_to(
        world,
        adapter.economy.late_requests(),
        factor * LATE_JOULES_MAX,
    );
    let seconds = idle_seconds(adapter, start_joules + late_joules);
    let seconds = seconds.clamp(start.min(WAIT_MAX), WAIT_MAX);
    Wait { seconds, start_joules, late_joules }
}

/// Returns the wait where starts fit into the target, or almost: at a price of late requests that
/// follows their number, up to `bounds` times the usual bounds.
fn learned_wait(world: &World, adapter: &Adapter, start: f64, factor: f64) -> Wait {
    let start_joules = start_cost::activation_joules(world, adapter, start);
    let break_even = idle_seconds(adapter, start_joules);
    let priced_joules = start_cost::priced_joules(world, adapter, start);
    let times = if world.prefers_latency() {
        LINGER
    } else {
        adapter.economy.idle_periods.wait().unwrap_or(1.0)
    };
    let most =
        idle_seconds(adapter, factor * LATE_PRICE_JOULES_MAX).min(factor * LATE_PRICE_WAIT_MAX);
    let most = most.max(break_even);
    let seconds = (idle_seconds(adapter, priced_joules) * times).min(most);
    let late_joules = priced_joules - start_joules;
    Wait { seconds: seconds.max(start.min(PAUSE)), start_joules, late_joules }
}

/// Returns the seconds of a start, as a share of the time that the target leaves for it beside a
/// row. A request that waits for a start with a share above 1 is late.
fn start_share(world: &World, id: AdapterId, adapter: &Adapter, start: f64) -> f64 {
    let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
    used.map_or(0.0, |(model, _)| {
        let slot = slots::warm_slot(world, id, *model, 0);
        let slack = target::effective(world, *model).as_secs_f64() - slot.batch(1) * slot.caution;
        start / slack.max(1e-9)
    })
}
