//! The next step for waiting requests.

use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, RequestId, Time};
use super::lists::End;
use super::queue::Request;
use super::queue_key::QueueKey;
use super::slots;
use super::world::World;
use std::time::Duration;

/// A request that fits into one batch is split only if it would take longer than this factor whole.
const CUT_GAIN: f64 = 1.2;
/// Minimum of seconds until a queue that is held back is considered again.
const RECHECK_MIN: f64 = 0.001;

/// The next step for the requests of a queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// This adapter runs `rows` rows from one end of the queue.
    Run { slot: Slot, key: QueueKey, end: End, rows: u32 },
    /// This adapter loads the model.
    Load(AdapterId),
    /// No adapter can serve this request before its deadline.
    Reject(RequestId),
    /// An adapter that is not free yet should serve it: wait until then, if the time is known.
    Wait(Option<Time>),
}

/// Returns a wait for the first adapter that becomes free, or for free memory.
pub(super) fn wait_for_others(world: &World, now: Time, model: ModelId, slots: &[Slot]) -> Step {
    let awaited = slots.iter().filter(|slot| !slot.idle).map(|slot| slot.free);
    // A predicted time of 0 would cause timeouts without a pause between them.
    let soonest = awaited.fold(f64::INFINITY, f64::min).max(RECHECK_MIN);
    let free = soonest.is_finite().then(|| now + Duration::from_secs_f64(soonest));
    Step::Wait(slots::memory_free_at(world, now, model).into_iter().chain(free).min())
}

/// Returns a step that runs rows from one end of a queue: about `share`, or all of a request that
/// would otherwise be split. `level` is the number of seconds within which all waiting rows will be
/// served.
pub(super) fn from_queue(
    world: &World,
    now: Time,
    (key, end): (QueueKey, End),
    slots: &[Slot],
    best: Slot,
    (mut share, level): (u32, f64),
) -> Step {
    let Some((id, request)) = world.queue.request_at(key, end) else { return Step::Wait(None) };
    let left = request.waiting_rows();
    if left > share && left <= best.max_rows && best.finish(left.into()) <= level * CUT_GAIN {
        share = left;
    }
    if let Some(deadline) = request.deadline {
        let time = deadline.since(now).as_secs_f64();
        let chunk = left.min(best.max_rows);
        if best.batch(chunk.min(share)) > time {
            return reject_or_wait(world, now, id, slots, (u64::from(left), time));
        }
        share = share.min(best.rows_within(time / best.caution).max(chunk.min(share)));
    }
    Step::Run { slot: best, key, end, rows: share }
}

/// Handles a request with a deadline that this adapter cannot meet: it is rejected before it costs
/// time if no adapter can meet it, and otherwise left to one that can.
fn reject_or_wait(
    world: &World,
    now: Time,
    id: RequestId,
    slots: &[Slot],
    (rows, time): (u64, f64),
) -> Step {
    let Some(request) = world.queue.get(id) else { return Step::Wait(None) };
    if !slots.iter().any(|slot| slot.finish(rows) <= time || !slot.measured) {
        return Step::Reject(id);
    }
    if slots.iter().any(|slot| !slot.idle) {
        return wait_for_others(world, now, request.key.model, slots);
    }
    // No adapter has measured it yet: an attempt is the only way to measure it.
    try_alone(world, id, request, slots)
}

fn try_alone(world: &World, id: RequestId, request: &Request, slots: &[Slot]) -> Step {
    let key = request.key;
    let loaded = slots.iter().filter(|slot| slot.idle && slot.loaded);
    let soonest = loaded.min_by(|a, b| a.finish(1).total_cmp(&b.finish(1))).copied();
    let end = if world.queue.at(key, End::Front) == Some(id) { End::Front } else { End::Back };
    let run = |slot| Step::Run { slot, key, end, rows: request.waiting_rows() };
    soonest.map_or(Step::Wait(None), run)
}
