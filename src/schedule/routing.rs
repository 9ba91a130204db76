//! Choice of the adapter that serves waiting requests: the one that finishes them earliest or,
//! under the goals `balanced` and `energy`, the one that `plan.rs` names.

use super::forecast::{Slot, level, rows_by};
use super::ids::{AdapterId, ModelId, Time};
use super::lists::{End, First};
use super::queue_key::QueueKey;
use super::step::Step;
use super::world::World;
use super::{plan, slots, step};
use std::cmp::Ordering;
use std::time::Duration;

/// Factor on the earliest time up to which a time counts as nearly as early.
const NEARLY: f64 = 1.5;

/// Returns the next step for the first requests of a queue, and the adapters that need help.
pub(super) fn route(world: &World, now: Time, first: First) -> (Step, Vec<AdapterId>) {
    let QueueKey { model, shape, .. } = first.key;
    let mut slots = slots::slots(world, now, model, shape.size);
    // A ready adapter does not wait for one that would have to unload another model first.
    if slots.iter().any(|slot| slot.idle && slot.loaded) {
        slots.retain(|slot| slot.idle || !slot.displaces);
    }
    let planned =
        if world.prefers_energy() { plan::route(world, now, first, &slots) } else { None };
    planned.unwrap_or_else(|| (soonest(world, now, first, &slots), Vec::new()))
}

/// Returns the step that serves all waiting rows earliest.
fn soonest(world: &World, now: Time, first: First, slots: &[Slot]) -> Step {
    let QueueKey { model, shape, .. } = first.key;
    let Some(best) = best_idle(slots) else {
        return Step::Wait(slots::memory_free_at(world, now, model));
    };
    let rows = slots::rows_ahead(world, best, model, shape.size);
    let (share, level) = share(slots, &best, rows);
    // A model is not loaded twice for rows that the first load serves nearly as early.
    let comes =
        |slot: &Slot| !slot.idle && !slot.loaded && slot.finish(rows) <= best.finish(1) * NEARLY;
    if share == 0 || (!best.loaded && slots.iter().any(comes)) {
        return step::wait_for_others(world, now, model, slots);
    }
    if !best.loaded {
        return Step::Load(best.adapter);
    }
    let (key, end) = queue_for(world, now, first, slots, &best, (share, rows));
    step::from_queue(world, now, (key, end), slots, best, (share, level))
}

/// Returns the batching delay of the first request of a batch.
pub(super) fn delay(world: &World, model: ModelId) -> Duration {
    // During shutdown the batching delay is zero.
    let open = world.models.get(&model).filter(|_| world.closing.is_none());
    open.map_or(Duration::ZERO, |model| model.delay)
}

/// Returns the requests that this adapter takes: the first ones or, if a busy one will finish those
/// earlier, the last ones, which would wait longest for that one.
fn queue_for(
    world: &World,
    now: Time,
    first: First,
    slots: &[Slot],
    best: &Slot,
    (share, rows): (u32, u64),
) -> (QueueKey, End) {
    let done = best.finish(u64::from(share));
    let sooner = slots.iter().any(|slot| !slot.idle && slot.finish(1) < done);
    let last = world.queue.last(first.key.model, delay(world, first.key.model), now);
    match last.filter(|_| sooner && rows > u64::from(share)) {
        Some(last) => (last.key, End::Back),
        None => (first.key, End::Front),
    }
}

/// Returns the idle slot that serves a row earliest; of nearly equal ones, the one with the least
/// loss by unloading other models.
fn best_idle(slots: &[Slot]) -> Option<Slot> {
    let idle = || slots.iter().filter(|slot| slot.idle);
    let soonest = idle().map(|slot| slot.finish(1)).fold(f64::INFINITY, f64::min);
    let near = idle().filter(|slot| slot.finish(1) <= soonest * NEARLY);
    let by = |slot: &&Slot| (slot.loss, slot.finish(1));
    near.min_by(|a, b| by(a).partial_cmp(&by(b)).unwrap_or(Ordering::Equal)).copied()
}

/// Returns the rows that the best idle slot should take now so that all rows are served earliest,
/// and the time of that; no rows if others finish all of them before it could finish one.
fn share(slots: &[Slot], best: &Slot, rows: u64) -> (u32, f64) {
    let full = u32::try_from(rows).unwrap_or(u32::MAX).min(best.max_rows);
    let done = best.finish(u64::from(full));
    let others = rows_by(slots, done) - best.rows_by(done);
    // The others leave a full batch to it, so that the level need not be bisected.
    if others + f64::from(full) <= rows as f64 {
        return (full, done);
    }
    let level = level(slots, rows);
    // The rows that one batch can finish by then: a larger one would be padded to a larger bucket.
    (full.min(best.rows_within(level - best.free)), level)
}
