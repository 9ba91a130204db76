//! The policy `cost`: turns adapters on, for the goals `latency`, `balanced` and `energy`.
//!
//! Growth: whenever rows wait that the adapters that are on will not serve within their model's
//! target, the cheapest adapter that can serve them is turned on, or the fastest ones if none can
//! alone. It uses neither a timer nor an average: the late rows are planned exactly (`plan.rs`).
//!
//! When an adapter turns off is decided in `wait.rs`.

use super::adapter::Adapter;
use super::decision::Reason;
use super::forecast::{Slot, level};
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::world::World;
use super::{
    bridge, eligible, energy_rank, estimates, lifecycle, plan, reliability, replace, slots,
    start_cost, target,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Adapters that serve the waiting rows within this multiple of the least time count as equally
/// fast.
const SOON: f64 = 1.5;

/// Rows of one model that the adapters that are on will serve too late.
#[derive(Clone, Copy, Debug)]
struct Unmet {
    model: ModelId,
    size: u8,
    /// All waiting rows of the model.
    waiting: u64,
    /// Rows that will be late.
    rows: f64,
    /// Time since the arrival of the newest of them.
    waited: Duration,
    /// Seconds until all are served; infinite if never.
    drain: f64,
}

/// Returns the rows of the first waiting model that the adapters that are on or starting will serve
/// later than its target.
pub(super) fn unmet_rows(world: &World, now: Time) -> u64 {
    unmet(world, now).map_or(0, |unmet| unmet.rows.ceil() as u64)
}

/// Turns on the adapters that the waiting rows need to be served within their targets.
pub(super) fn grow_by_cost(world: &mut World, out: &mut Outbox, now: Time) {
    world.start_at = None;
    replace::replace(world, out, now);
    bridge::observe_bridges(world, now);
    // At most one round per adapter, since each round turns one on.
    for _ in 0..world.order.len() {
        if world.queue.len() == 0 || !can_grow(world) {
            return;
        }
        let Some(unmet) = unmet(world, now) else { return };
        if !turn_on_one(world, out, now, unmet) {
            return;
        }
    }
}

/// Turns on one adapter for the rows that will be late: a draining one, else the cheapest that can
/// serve them, else the fastest.
fn turn_on_one(world: &mut World, out: &mut Outbox, now: Time, unmet: Unmet) -> bool {
    for id in world.best_first() {
        let helps = |adapter| reliability::helps_with(world, adapter, unmet.model);
        let ready_in = Duration::ZERO;
        if world.adapters.get(&id).is_some_and(helps)
            && eligible::is_eligible(world, id)
            && lifecycle::turn_on(world, out, now, id, true, target_reason(world, unmet, ready_in))
        {
            return true;
        }
    }
    let Some((id, ready_in)) = cheapest(world, now, unmet) else { return false };
    // The adapters that are on will finish before this one could begin, so that its start would be
    // wasted, unless more requests follow for which it could not be started in time.
    let slo = target::effective(world, unmet.model);
    let could_wait = world.closing.is_some() || ready_in * 2 <= slo;
    if could_wait && unmet.drain <= ready_in.as_secs_f64() {
        return false;
    }
    // The later it starts, the more rows it serves at once, and the less it idles.
    let at =
        plan::last_start(world, now, (unmet.model, unmet.waiting), (id, ready_in.as_secs_f64()));
    if !unmet.drain.is_finite() && at > now {
        world.start_at = Some(at);
        return false;
    }
    let turned_on =
        lifecycle::turn_on(world, out, now, id, false, target_reason(world, unmet, ready_in));
    if turned_on {
        let served = world.adapters.iter().filter(|(_, adapter)| {
            adapter.state().serves() && adapter.replicas.contains_key(&unmet.model)
        });
        let served: Vec<AdapterId> = served.map(|(id, _)| *id).collect();
        energy_rank::record_help(world, now, &served);
    }
    turned_on
}

/// The merit of turning an adapter on.
#[derive(Clone, Copy, Debug)]
struct Rank {
    in_time: bool,
    carries: bool,
    joules: f64,
    finish: f64,
    rate: f64,
    /// True if no other adapter is on.
    alone: bool,
    /// Seconds of one row, if short answer times have precedence.
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

fn can_grow(world: &World) -> bool {
    let is_off = |a: &Adapter| a.state().is_off() || a.state().is_draining();
    world.adapters.iter().any(|(id, a)| is_off(a) && eligible::is_eligible(world, *id))
        && eligible::counted_on(world) < world.settings.max
}

/// Returns the first model of which rows will be late.
fn unmet(world: &World, now: Time) -> Option<Unmet> {
    // The share of each adapter's time that the earlier models need.
    let mut taken: BTreeMap<AdapterId, f64> = BTreeMap::new();
    for (model, waiting) in world.queue.waiting() {
        let aim = target::effective(world, model);
        let newest = world.queue.newest(model) + aim;
        let window = newest.since(now).as_secs_f64();
        // A fallback for an adapter that is usable again is about to turn off.
        let mut slots = slots::slots(world, now, model, 0);
        let short = eligible::bridges_fall_short(world);
        slots.retain(|slot| {
            eligible::counts(world, slot.adapter) && !(short && eligible::is_on_bridge(world, slot))
        });
        let capacity = |slot: &Slot| {
            let free = 1.0 - taken.get(&slot.adapter).copied().unwrap_or(0.0);
            rows_in_time(world, now, (model, slot), window, aim) * free
        };
        let sum: f64 = slots.iter().map(capacity).sum();
        let late = plan::late_rows(world, now, model, &slots);
        let rows = (waiting as f64 - sum).max(late as f64);
        if rows > 0.0 {
            let drain = level(&slots, waiting);
            let waited = now.since(world.queue.newest(model));
            return Some(Unmet { model, size: 0, waiting, rows, waited, drain });
        }
        for slot in &slots {
            let taken = taken.entry(slot.adapter).or_default();
            *taken += (1.0 - *taken) * waiting as f64 / sum;
        }
    }
    None
}

/// Returns the rows that an adapter that is on serves within the window.
fn rows_in_time(
    world: &World,
    now: Time,
    (model, slot): (ModelId, &Slot),
    window: f64,
    slo: Duration,
) -> f64 {
    let assumed = plan::assumed_rows(world, now, (model, slot), window, slo);
    assumed.unwrap_or_else(|| slot.rows_by(window))
}

fn target_reason(world: &World, unmet: Unmet, ready_in: Duration) -> Reason {
    let target = target::effective(world, unmet.model);
    let drain = unmet.drain.is_finite().then(|| Duration::from_secs_f64(unmet.drain.min(1e6)));
    let Unmet { model, waiting: rows, waited, .. } = unmet;
    Reason::LatencyTarget { model, rows, drain, waited, target, ready_in }
}

/// Returns the adapter to turn on of those that are off, and the time until it is ready.
fn cheapest(world: &World, now: Time, unmet: Unmet) -> Option<(AdapterId, Duration)> {
    let slo = target::effective(world, unmet.model).as_secs_f64();
    let mut all: Vec<(Rank, Slot, f64)> = Vec::new();
    for id in &world.order {
        let Some(adapter) = world.adapters.get(id) else { continue };
        let off = adapter.state().is_off() && eligible::is_eligible(world, *id);
        let helps = off && reliability::helps_with(world, adapter, unmet.model);
        if !helps || !start_cost::may_start(world, now, adapter) {
            continue;
        }
        let slot = slots::slot(world, now, *id, adapter, unmet.model, unmet.size);
        let ready = adapter.cold_start() + estimates::load_time(world, *id, unmet.model);
        let slot = Slot { free: 0.0, ..slot };
        let rank = rank(world, adapter, &slot, unmet, (ready, slo));
        all.push((rank, slot, ready));
    }
    let best = all.iter().reduce(|best, one| if one.0.is_better(&best.0) { one } else { best })?;
    let (_, slot, ready) = cheapest_of_late(world, now, &all, best).unwrap_or(best);
    // `from_secs_f64` panics for infinite and for very large values.
    Some((slot.adapter, Duration::from_secs_f64(ready.min(1e6))))
}

/// Returns, of adapters that would all be too late and not much later than the fastest, the one
/// with the least energy for a row.
fn cheapest_of_late<'a>(
    world: &World,
    now: Time,
    all: &'a [(Rank, Slot, f64)],
    (best, ..): &(Rank, Slot, f64),
) -> Option<&'a (Rank, Slot, f64)> {
    if !best.alone || best.in_time || !world.prefers_energy() {
        return None;
    }
    let soon = all
        .iter()
        .filter(|(rank, ..)| rank.carries == best.carries && rank.finish <= SOON * best.finish);
    soon.min_by_key(|(_, slot, _)| energy_rank::rank(world, now, slot, true))
}

fn rank(
    world: &World,
    adapter: &Adapter,
    slot: &Slot,
    unmet: Unmet,
    (ready, slo): (f64, f64),
) -> Rank {
    let carries = slot.rows_by(ready.max(slo)) >= unmet.rows;
    let finish = ready + slot.finish(unmet.waiting);
    let joules = start_cost::activation_joules(world, adapter, ready)
        + slot.finish(unmet.waiting) * adapter.profile.power.active_mw as f64 * 1e-3;
    // If no adapter is on, all waiting rows wait for this start.
    let alone = !unmet.drain.is_finite();
    let hurry = world.prefers_latency().then(|| slot.batch(1));
    let in_time = !alone || finish <= slo;
    Rank { in_time, carries, joules, finish, rate: slot.rate(), alone, hurry }
}
