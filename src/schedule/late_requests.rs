//! Late requests and the starts that caused them.

use super::adapter::Adapter;
use super::ids::{AdapterId, Time};
use super::queue::Request;
use super::queue_key::QueueKey;
use super::world::World;
use super::{early_start, eligible, slots};

/// Records whether the request met its target.
pub(super) fn record(world: &mut World, now: Time, request: &Request) {
    let late = now > request.order.due;
    let cold = late && attribute_to_starts(world, now, request);
    world.late_price.observe(late, cold);
    early_start::record_answer(world, now, request.key.model, request.client, cold);
}

/// Attributes a late request to the adapters that were starting meanwhile: to each by its share of
/// the capacity of all that are on, since the request would have been served sooner by that share.
/// Returns true if there were any.
fn attribute_to_starts(world: &mut World, now: Time, request: &Request) -> bool {
    let QueueKey { model, shape, .. } = request.key;
    let able = |(id, adapter): &(&AdapterId, &Adapter)| {
        adapter.state().is_on()
            && eligible::takes(world, adapter, model)
            && eligible::counts(world, **id)
    };
    let part = |(id, adapter): (&AdapterId, &Adapter)| {
        let cold = adapter.state().warms_up() || adapter.ready > request.arrived;
        (*id, cold, slots::slot(world, now, *id, adapter, model, shape.size).rate())
    };
    let on: Vec<_> = world.adapters.iter().filter(able).map(part).collect();
    let sum: f64 = on.iter().map(|(.., rate)| rate).sum();
    for (id, _, rate) in on.iter().filter(|(_, cold, _)| *cold) {
        if let Some(adapter) = world.adapters.get_mut(id) {
            adapter.economy.late_this_start += rate / sum;
        }
    }
    on.iter().any(|(_, cold, _)| *cold)
}
