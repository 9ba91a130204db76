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

use super::adapter::Adapter;
use super::decision::Reason;
use super::event::Wish;
use super::ids::{AdapterId, Time};
use super::outbox::Outbox;
use super::start_price::{LATE_JOULES_MAX, LINGER};
use super::world::World;
use super::{eligible, lifecycle, places, slots, start_price, target};
use std::time::Duration;

/// Nothing stays on longer than this without need, in seconds, whatever the numbers say.
const WAIT_MAX: f64 = 3600.0;
/// No start is for nothing, in seconds of idling.
const WAIT_MIN: f64 = 1e-3;
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

/// Lets adapters go that have waited long enough for work.
pub(super) fn shrink_by_cost(world: &mut World, out: &mut Outbox, now: Time) -> bool {
    for id in world.best_first() {
        let Some(adapter) = world.adapters.get(&id) else { continue };
        let joules = start_price::priced_joules(
            world,
            adapter,
            start_price::start_seconds(world, id, adapter),
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
        if places::keeps_models(world, now, go.adapter, go.since) {
            continue;
        }
        let millijoules = |joules: f64| (joules * 1e3) as u64;
        let waited = Reason::BreakEven {
            unneeded: now.since(go.since),
            start_mj: millijoules(go.wait.start_joules),
            late_mj: millijoules(go.wait.late_joules),
        };
        let in_vain =
            |a: &Adapter| a.economy.early && !a.economy.served && a.economy.expected.is_some();
        let in_vain = world.adapters.get(&go.adapter).is_some_and(in_vain);
        let reason = if in_vain { Reason::DidNotCome } else { waited };
        lifecycle::let_go(world, out, now, go.adapter, reason);
        any = true;
    }
    any
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

/// The adapter that goes first if nothing changes.
pub(super) fn dispensable(world: &World) -> Option<Dispensable> {
    // Who still warms up is no reason to let go of those that serve.
    let serving = world.adapters.values().filter(|adapter| adapter.state().serves()).count();
    let spare = eligible::on_for_good(world) > world.settings.min || world.closing.is_some();
    let counted =
        |id: &AdapterId| world.adapters.get(id).is_some_and(|a| eligible::is_on_for_good(world, a));
    let candidates = world.order.iter().rev().filter(|id| spare || !counted(id));
    let candidates = candidates.filter_map(|id| until(world, *id, serving));
    candidates.min_by_key(|candidate| candidate.until)
}

/// Until when this adapter stays although nothing needs it.
fn until(world: &World, id: AdapterId, serving: usize) -> Option<Dispensable> {
    let adapter = world.adapters.get(&id)?;
    if adapter.wish != Wish::Auto
        || !adapter.state().serves()
        || eligible::stays_as_bridge(world, adapter)
    {
        return None;
    }
    // Rows go to the cheapest, or the soonest: who is given none is not needed.
    let since = adapter.state().idle_since()?;
    // The last one serves whatever comes: it goes only when nothing does.
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
    let until = until.max(start_price::may_start_again(world, adapter));
    Some(Dispensable { adapter: id, until, since, wait })
}

/// How long this adapter waits for work.
pub(super) fn wait(world: &World, id: AdapterId, adapter: &Adapter) -> Wait {
    let start = start_price::start_seconds(world, id, adapter);
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

/// Where every start makes requests late: until idling has cost as much as a start and those, which
/// are worth `bounds` times the usual bound at most.
fn late_wait(world: &World, adapter: &Adapter, start: f64, bounds: f64) -> Wait {
    let start_joules = start_price::activation_joules(world, adapter, start);
    let late_joules = start_price::late_joules_up_to(
        world,
        adapter.economy.late_requests(),
        bounds * LATE_JOULES_MAX,
    );
    let seconds = idle_seconds(adapter, start_joules + late_joules);
    let seconds = seconds.clamp(start.min(WAIT_MAX), WAIT_MAX);
    Wait { seconds, start_joules, late_joules }
}

/// Where starts fit into the target, or almost: at a price of late requests that follows how many
/// there are, up to `bounds` times the usual bounds.
fn learned_wait(world: &World, adapter: &Adapter, start: f64, bounds: f64) -> Wait {
    let start_joules = start_price::activation_joules(world, adapter, start);
    let break_even = idle_seconds(adapter, start_joules);
    let priced_joules = start_price::priced_joules(world, adapter, start);
    let times = if world.hurries() { LINGER } else { adapter.economy.spells.wait().unwrap_or(1.0) };
    let most = idle_seconds(adapter, bounds * MISSES_JOULES_MAX).min(bounds * MISSES_WAIT_MAX);
    let most = most.max(break_even);
    let seconds = (idle_seconds(adapter, priced_joules) * times).min(most);
    let late_joules = priced_joules - start_joules;
    Wait { seconds: seconds.max(start.min(PAUSE)), start_joules, late_joules }
}

/// Seconds of a start, as a share of what the target leaves for it beside a row. A request that
/// waits for one of more than 1 is late.
fn start_share(world: &World, id: AdapterId, adapter: &Adapter, start: f64) -> f64 {
    let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
    used.map_or(0.0, |(model, _)| {
        let slot = slots::warm_slot(world, id, *model, 0);
        let slack = target::aim(world, *model).as_secs_f64() - slot.batch(1) * slot.caution;
        start / slack.max(1e-9)
    })
}
