//! Ends of batches: success and failure.

use super::action::Action;
use super::adapter::Finished;
use super::batch::Batch;
use super::event::{Failure, Fault};
use super::ids::{AdapterId, BatchId, Incarnation, ModelId, Time};
use super::outbox::Outbox;
use super::service::bucket;
use super::world::World;
use super::{estimates, late_requests, lifecycle, requests, shadow};
use std::time::Duration;

pub(super) fn done(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    batch: BatchId,
) {
    let Some(Finished { since, batch, .. }) = finish(world, out, now, id, incarnation, batch)
    else {
        return out.push(Action::Discard { batch });
    };
    if let Some(since) = since {
        learn(world, id, &batch, now.since(since));
    }
    if batch.repeats.is_some() {
        shadow::agreed(world, id);
        return out.push(Action::Discard { batch: batch.id });
    }
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.consecutive_faults = 0;
    }
    shadow::shadow(world, out, now, id, &batch);
    let parts = batch.parts.clone();
    out.push(Action::Collect { adapter: id, batch });
    for part in parts {
        if let Some(request) = world.queue.done(part) {
            late_requests::record(world, now, &request);
            out.push(Action::Answer { request: part.request });
        }
    }
}

/// Updates the service model with a measured batch.
fn learn(world: &mut World, id: AdapterId, batch: &Batch, took: Duration) {
    let max_rows = estimates::max_rows(world, id, batch.model);
    // The first estimate is scaled from other adapters.
    let service = estimates::service(world, id, batch.model, batch.size);
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    let known = adapter.known.entry(batch.model).or_default();
    let service = known.services.entry(batch.size).or_insert(service);
    service.observe(bucket(batch.rows(), max_rows), took);
}

pub(super) fn failed(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    batch: BatchId,
    failure: Failure,
) {
    match failure {
        Failure::Input => {
            let finished = finish(world, out, now, id, incarnation, batch);
            if let Some(done) = finished.filter(|done| done.batch.repeats.is_none()) {
                requests::bisect(world, out, done.batch);
            }
        }
        Failure::Device => {
            let current = world.current(id, incarnation);
            // A report about a batch that was taken back meanwhile must not count as a fault.
            if current.is_some_and(|adapter| adapter.state().has(batch)) {
                lifecycle::fail_adapter(world, out, now, id, Fault::Device);
            }
        }
        Failure::Memory => {
            let held = world.current(id, incarnation).and_then(|a| a.state().batch(batch));
            if let Some((model, rows)) = held.map(|held| (held.model, held.rows())) {
                no_memory(world, out, now, id, (model, rows));
            }
        }
    }
}

/// Handles a load, or a batch of `rows` rows, for which the device had no memory.
pub(super) fn out_of_device_memory(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    (model, rows): (ModelId, u32),
) {
    if world.current(id, incarnation).is_some() {
        no_memory(world, out, now, id, (model, rows));
    }
}

/// Limits this adapter to half of `rows` at once, or leaves the model to others. Its work runs
/// again, and its device is opened anew, since its state after the failure is unknown.
fn no_memory(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    (model, rows): (ModelId, u32),
) {
    lifecycle::limit_rows(world, now, id, (model, rows));
    lifecycle::fail_adapter(world, out, now, id, Fault::Memory);
}

/// Ends this batch of the adapter, if it has it.
fn finish(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    incarnation: Incarnation,
    batch: BatchId,
) -> Option<Finished> {
    let finished = world.current(id, incarnation)?.finish(now, batch)?;
    if finished.stops {
        out.push(Action::Stop { adapter: id, incarnation });
    }
    Some(finished)
}
