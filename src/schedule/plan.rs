//! Assignment of rows to adapters, and the rows that will be late.
//!
//! Adapters are considered in the order of their energy per row. The first idle one that meets the
//! target takes the rows. A busy or starting one is assumed to take the rows that it can serve in
//! time, and only the rest goes to adapters that need more energy per row, so those become idle.
//! Under the `energy` goal rows also wait for a larger batch: until one more row would make the
//! first one late, or until a batch is so large that waiting for more would save hardly any energy.
//! Under the `latency` goal rows go where they are answered earliest (`dispatch.rs`); only growth
//! is planned here, with the earliest adapter first.
//!
//! The plan is that of elastic serving with deadlines: consolidate on few adapters, earliest due
//! first.

use super::adapter::Adapter;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::lists::{End, First};
use super::settings::Role;
use super::step::Step;
use super::world::World;
use super::{eligible, energy_rank, estimates, slots, step, target};
use std::time::Duration;

/// Rows of a large enough batch, in multiples of `alpha / beta`: one more row would save less than
/// a hundredth of the time of each row, `alpha / (b (b + 1)) < beta / 100`.
const KNEE: f64 = 10.0;
/// Limit of rows in a plan, which bounds its cost: rows behind them are counted as a flow.
const PLANNED_ROWS: usize = 512;
/// Share of the target that the `latency` goal reserves before it turns another adapter on.
const HURRY: f64 = 0.5;
/// Factor on the mean duration of a start that is allowed for.
const START_CAUTION: f64 = 1.3;
const THETA_LAZY: f64 = 2.0;
/// Logarithm of the price of a miss from which on a whole start is kept in reserve.
const THETA_RESERVE: f64 = 6.0;
/// Share of the target that is reserved for unpredicted delays.
const MARGIN: f64 = 0.02;

/// An adapter that has just become ready is assumed to take the rows that it serves within this
/// multiple of the target.
const BACKLOG: f64 = 1.75;

/// Returns the next step for the first requests of a queue and the adapters that need help; `None`
/// if no adapter meets the target, so that waiting is of no use.
pub(super) fn route(
    world: &World,
    now: Time,
    first: First,
    slots: &[Slot],
) -> Option<(Step, Vec<AdapterId>)> {
    let model = first.key.model;
    let slo = target::effective(world, model);
    let slack = first.due().since(now).as_secs_f64();
    let window = (world.queue.newest(model) + slo).since(now).as_secs_f64();
    let mut rows = world.queue.rows_of(model);
    let mut passed = Vec::new();
    for slot in by_preference(world, now, model, slots) {
        if slot.free + slot.batch(1) * slot.caution > slack {
            passed.extend(Some(slot.adapter).filter(|_| slot.loaded));
            continue;
        }
        if slot.idle {
            return Some((when_due(world, now, first, slots, (slot, rows)), passed));
        }
        let assumed = slot.rows_by(window) as u64;
        passed.extend(Some(slot.adapter).filter(|_| slot.loaded));
        if assumed >= rows {
            return Some((step::wait_for_others(world, now, model, slots), Vec::new()));
        }
        rows -= assumed;
    }
    None
}

fn when_due(
    world: &World,
    now: Time,
    first: First,
    slots: &[Slot],
    (slot, rows): (Slot, u64),
) -> Step {
    let at = last_moment(world, now, first, &slot, rows);
    if at > now {
        return Step::Wait(Some(at));
    }
    if !slot.loaded {
        return Step::Load(slot.adapter);
    }
    let slack = first.due().since(now).as_secs_f64();
    let fits = slot.rows_within((slack - slot.free) / slot.caution).max(1);
    let share = fits.min(u32::try_from(rows).unwrap_or(u32::MAX));
    let level = slot.finish(u64::from(share));
    step::from_queue(world, now, (first.key, End::Front), slots, slot, (share, level))
}

/// Returns the number of rows that a slot serves in time, of rows with these seconds left, first
/// due first: it runs batch after batch, each as large as its first row allows.
fn rows_in_turn(slot: &Slot, slacks: &[f64]) -> usize {
    let (mut free, mut planned) = (slot.free, 0);
    while let Some(slack) = slacks.get(planned) {
        let left = u32::try_from(slacks.len() - planned).unwrap_or(u32::MAX);
        let rows = slot.rows_within((slack - free) / slot.caution).min(left);
        if rows == 0 {
            break;
        }
        free += slot.batch(rows);
        planned += rows as usize;
    }
    planned
}

/// Returns the rows that are left to an adapter which is starting, or has just started, although it
/// is late for them: those that arrive during its start. It was turned on for them, and until it
/// had the chance to serve them no other adapter is turned on. `None` for an adapter that starts in
/// time.
pub(super) fn assumed_rows(
    world: &World,
    now: Time,
    (model, slot): (ModelId, &Slot),
    window: f64,
    slo: Duration,
) -> Option<f64> {
    let adapter = world.adapters.get(&slot.adapter)?;
    let start = adapter.cold_start() + estimates::load_time(world, slot.adapter, model);
    let slo = slo.as_secs_f64();
    let comes_late = start + slot.batch(1) * slot.caution > slo;
    let young = adapter.state().warms_up() || now.since(adapter.ready).as_secs_f64() < start;
    let assumed = comes_late && (young || !slot.loaded);
    if !assumed {
        return None;
    }
    // Once it serves, rows that it does not serve soon are more than it was turned on for.
    let seconds = start.max(slo).max(window);
    let briefly = slot.loaded || starts_together(world, now);
    let seconds = if briefly { seconds.min(BACKLOG * slo) } else { seconds };
    Some(Slot { free: 0.0, ..*slot }.rows_by(seconds))
}

/// Returns whether several adapters may start together: no regular adapter serves yet, and one was
/// not enough lately.
fn starts_together(world: &World, now: Time) -> bool {
    let serves =
        |adapter: &Adapter| adapter.profile.role == Role::Regular && adapter.state().serves();
    world.adapters.keys().any(|id| energy_rank::needed_help(world, now, *id))
        && !world.adapters.values().any(serves)
}

/// Returns the rows that will be late although every slot runs batch after batch, each as large as
/// the due time of its first row allows: the reason to turn on another adapter.
pub(super) fn late_rows(world: &World, now: Time, model: ModelId, slots: &[Slot]) -> u64 {
    let Some(first) = world.queue.first(model, Duration::ZERO, now) else { return 0 };
    let slo = target::effective(world, model);
    let hurry = if world.prefers_latency() { slo.as_secs_f64() * HURRY } else { 0.0 };
    let slacks = world.queue.dues(first.key).flat_map(|(due, rows)| {
        std::iter::repeat_n(due.since(now).as_secs_f64() - hurry, rows as usize)
    });
    let slacks: Vec<f64> = slacks.take(PLANNED_ROWS).collect();
    let mut planned = 0;
    for slot in by_preference(world, now, model, slots) {
        planned += match assumed_rows(world, now, (model, &slot), 0.0, slo) {
            Some(rows) => rows as usize,
            None => rows_in_turn(&slot, slacks.get(planned..).unwrap_or_default()),
        };
    }
    slacks.len().saturating_sub(planned) as u64
}

/// Returns the slots in the order in which they should take rows: under the `latency` goal the
/// earliest first, otherwise those that need the least energy above idling for a row.
fn by_preference(world: &World, now: Time, model: ModelId, slots: &[Slot]) -> Vec<Slot> {
    let mut sorted = slots.to_vec();
    if world.prefers_latency() {
        sorted.sort_by(|a, b| a.finish(1).total_cmp(&b.finish(1)));
    } else {
        // No model is displaced for rows that another adapter can serve.
        let late = energy_rank::starts_are_late(world, model);
        // IEEE 754: the bits of floats that are not negative have the order of their values. They
        // can be a key, since integers are `Ord`.
        sorted.sort_by_cached_key(|slot| {
            (slot.displaces, slot.loss.to_bits(), energy_rank::rank(world, now, slot, late))
        });
    }
    sorted
}

/// Returns the seconds of slack that are kept for the start of another adapter, in case more rows
/// arrive than the active adapters can serve: the more, the more requests missed their target due
/// to starts.
fn reserve(world: &World, model: ModelId) -> f64 {
    let off = world
        .adapters
        .iter()
        .filter(|(id, a)| a.state().is_off() && eligible::is_eligible(world, **id));
    let starts = off.map(|(id, a)| a.cold_start() + estimates::load_time(world, *id, model));
    let soonest = starts.fold(f64::INFINITY, f64::min);
    if soonest.is_finite() {
        soonest * (world.late_price.theta / THETA_RESERVE).min(1.0)
    } else {
        0.0
    }
}

/// Returns the time until which turning an adapter on can wait if none is on: until all waiting
/// rows, and one more, would only just be served before the first is due. Applies only where rows
/// wait for a larger batch.
pub(super) fn last_start(
    world: &World,
    now: Time,
    (model, rows): (ModelId, u64),
    (id, ready): (AdapterId, f64),
) -> Time {
    let first = world.queue.first(model, Duration::ZERO, now).filter(|_| world.delays_batches());
    let adapter = world.adapters.get(&id).filter(|_| world.closing.is_none());
    let (Some(first), Some(adapter)) = (first, adapter) else { return now };
    let slot =
        Slot { free: 0.0, ..slots::slot(world, now, id, adapter, model, first.key.shape.size) };
    let slo = target::effective(world, model);
    let needs =
        ready * START_CAUTION + slot.finish(rows + 1) * slot.caution + slo.as_secs_f64() * MARGIN;
    let slack = first.due().since(now).as_secs_f64() - needs;
    let slack = slack * (1.0 - world.late_price.theta / THETA_LAZY).max(0.0);
    now + Duration::from_secs_f64(slack.clamp(0.0, 1e6))
}

/// Returns the time to form the batch: when it is large enough, or when one more row would make it
/// late.
fn last_moment(world: &World, now: Time, first: First, slot: &Slot, rows: u64) -> Time {
    let slo = target::effective(world, first.key.model);
    let knee = (KNEE * slot.alpha / slot.beta.max(1e-12)).clamp(1.0, 1e9) as u64;
    if !world.delays_batches() || rows >= knee.min(u64::from(slot.max_rows)) {
        return now;
    }
    let more = u32::try_from(rows + 1).unwrap_or(u32::MAX).min(slot.max_rows);
    let needs = slot.free
        + slot.batch(more) * slot.caution
        + slo.as_secs_f64() * MARGIN
        + reserve(world, first.key.model);
    let slack = first.due().since(now).as_secs_f64() - needs;
    now + Duration::from_secs_f64(slack.clamp(0.0, 1e6))
}
