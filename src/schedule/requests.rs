//! Operations on admitted requests: bisection, retry, rejection.

use super::action::Reject;
use super::batch::{Batch, Part};
use super::event::Fault;
use super::ids::{ModelId, RequestId, Time};
use super::outbox::Outbox;
use super::queue::Request;
use super::settings::ModelProfile;
use super::world::World;

/// Splits a batch that failed because of one request into halves that run separately, so that the
/// faulty request is found and cannot make the others fail. A request that fails alone is rejected.
pub(super) fn bisect(world: &mut World, out: &mut Outbox, batch: Batch) {
    let mut requests: Vec<RequestId> = batch.parts.iter().map(|part| part.request).collect();
    // The parts of one request are not necessarily adjacent.
    requests.sort_unstable();
    requests.dedup();
    requests.retain(|id| world.queue.get(*id).is_some());
    if let [alone] = requests[..]
        && batch.parts.iter().all(|part| part.request == alone)
    {
        world.queue.forget(alone);
        return out.reject(alone, Reject::Input { batch: batch.id });
    }
    let (first, second) = requests.split_at(requests.len().div_ceil(2));
    for half in [first, second] {
        let group = world.numbers.next_group();
        for part in batch.parts.iter().filter(|part| half.contains(&part.request)) {
            put_back(world, out, *part, |request| request.key.group = group);
        }
    }
}

/// Returns the parts of a lost batch to their places, or rejects their requests.
pub(super) fn retry(world: &mut World, out: &mut Outbox, batch: &Batch, fault: Fault) {
    for part in &batch.parts {
        retry_part(world, out, *part, fault);
    }
}

fn retry_part(world: &mut World, out: &mut Outbox, part: Part, fault: Fault) {
    let Some(request) = world.queue.get(part.request) else { return };
    // Halving the batches ends by itself, and does not indicate a fault of the request.
    let retries = request.retries + u32::from(fault != Fault::Memory);
    if retries > world.settings.retries_max {
        world.queue.forget(part.request);
        return out.reject(part.request, Reject::RetriesExhausted { fault });
    }
    let group = world.numbers.next_group();
    put_back(world, out, part, |request| {
        request.retries = retries;
        // It may be the request that makes workers fail: others must not be lost with it.
        if retries >= 2 {
            request.key.group = group;
        }
    });
}

/// Returns a part to the queue if its model is still served; rejects the request otherwise.
fn put_back(world: &mut World, out: &mut Outbox, part: Part, change: impl FnOnce(&mut Request)) {
    let model = world.queue.get(part.request).map(|request| request.key.model);
    if model.is_some_and(|model| !world.models.contains_key(&model)) {
        world.queue.forget(part.request);
        return out.reject(part.request, Reject::ModelGone);
    }
    world.queue.put_back(part, change);
}

/// Adds a model, or changes its limits.
pub(super) fn serve(world: &mut World, model: ModelId, profile: ModelProfile) {
    world.models.insert(model, profile);
    world.queue.set_max_rows(model, profile.max_rows);
}

/// Withdraws a model.
pub(super) fn withdraw(world: &mut World, out: &mut Outbox, model: ModelId) {
    world.models.remove(&model);
    reject_all(world, out, world.queue.ids_of(model), Reject::ModelGone);
    world.queue.remove_model(model);
    world.popularity.forget(model);
    for adapter in world.adapters.values_mut() {
        adapter.known.remove(&model);
        adapter.refused_until.remove(&model);
        adapter.no_memory_until.remove(&model);
    }
}

/// Rejects requests after their own deadline, waiting or running.
pub(super) fn reject_late(world: &mut World, out: &mut Outbox, now: Time) {
    while let Some((deadline, id)) = world.queue.next_deadline()
        && deadline <= now
    {
        world.queue.forget(id);
        out.reject(id, Reject::Deadline);
    }
}

pub(super) fn reject_all(
    world: &mut World,
    out: &mut Outbox,
    requests: Vec<RequestId>,
    reason: Reject,
) {
    for request in requests {
        world.queue.forget(request);
        out.reject(request, reason);
    }
}
