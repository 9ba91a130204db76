//! Forms batches for free adapters, as late as possible, and only on the adapter that is done
//! soonest.

use super::action::{Action, Reject};
use super::adapter::Adapter;
use super::batch::Batch;
use super::forecast::Slot;
use super::ids::{ModelId, Time};
use super::lists::{End, First};
use super::outbox::Outbox;
use super::queue_key::QueueKey;
use super::step::Step;
use super::world::World;
use super::{energy_rank, loading, replace, routing};

/// Assigns to idle adapters the rows that they will finish sooner than any other adapter.
pub(super) fn dispatch(world: &mut World, out: &mut Outbox, now: Time) {
    world.recheck_at = None;
    let mut held = Vec::new();
    while world.queue.len() > 0 && world.adapters.values().any(Adapter::takes_batches) {
        let Some(first) = next_queue(world, now, &held) else { return };
        let (step, helped) = routing::route(world, now, first);
        energy_rank::record_help(world, now, &helped);
        if !perform(world, out, now, step, first.key.model) {
            // Each round forms a batch or excludes a model, so that the loop ends.
            held.push(first.key.model);
        }
    }
}

/// Returns the queue to serve next: the most urgent, then that of the model with the least service.
fn next_queue(world: &mut World, now: Time, held: &[ModelId]) -> Option<First> {
    let mut next: Option<(u32, f64, First)> = None;
    let mut not_ready = None;
    for (model, _) in world.queue.waiting().filter(|(model, _)| !held.contains(model)) {
        let Some(first) = world.queue.first(model, routing::delay(world, model), now) else {
            continue;
        };
        if first.ready > now {
            not_ready = not_ready.into_iter().chain([first.ready]).min();
            continue;
        }
        let rank = (first.place.priority, world.queue.served(model), first);
        let sooner = |other: &(u32, f64, First)| {
            let by_share = rank.1.total_cmp(&other.1);
            let by_order = rank.2.place.order.cmp(&other.2.place.order);
            rank.0.cmp(&other.0).then(by_share).then(by_order).is_lt()
        };
        if next.as_ref().is_none_or(sooner) {
            next = Some(rank);
        }
    }
    recheck_by(world, not_ready);
    next.map(|(_, _, first)| first)
}

fn recheck_by(world: &mut World, at: Option<Time>) {
    world.recheck_at = world.recheck_at.into_iter().chain(at).min();
}

/// Performs a step; returns false if no request of the model can be served now.
fn perform(world: &mut World, out: &mut Outbox, now: Time, step: Step, model: ModelId) -> bool {
    match step {
        Step::Run { slot, key, end, rows } => run(world, out, now, slot, (key, end), rows),
        Step::Load(adapter) => loading::load_here(world, out, now, adapter, model),
        Step::Reject(request) => {
            world.queue.forget(request);
            out.reject(request, Reject::Deadline);
            true
        }
        Step::Wait(until) => {
            recheck_by(world, until);
            false
        }
    }
}

fn run(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    slot: Slot,
    (key, end): (QueueKey, End),
    rows: u32,
) -> bool {
    let parts = world.queue.take(key, rows, slot.max_rows, end);
    let (model, size) = (key.model, key.shape.size);
    let batch = Batch { id: world.numbers.next_batch(), model, size, parts, repeats: None };
    replace::record_savings(world, now, &slot, (model, size), batch.rows());
    let Some(adapter) = world.adapters.get_mut(&slot.adapter).filter(|_| batch.rows() > 0) else {
        return false;
    };
    world.queue.serve(model, slot.batch(batch.rows()));
    if let Some(replica) = adapter.replicas.get_mut(&model) {
        replica.used = now;
    }
    let (id, incarnation) = (slot.adapter, adapter.incarnation);
    adapter.economy.end_idle_period(now);
    adapter.run(now, batch.clone());
    out.push(Action::Run { adapter: id, incarnation, batch });
    true
}
