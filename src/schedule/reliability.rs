//! Reliability of adapters after faults and wrong results.

use super::adapter::Adapter;
use super::eligible;
use super::event::Fault;
use super::ids::{AdapterId, ModelId};
use super::world::World;

/// Returns whether an adapter is reliable: it has few enough consecutive faults.
pub(super) fn is_reliable(world: &World, adapter: &Adapter) -> bool {
    let retries = world.settings.retries_max.max(1);
    let retries = match adapter.last_fault {
        // The next attempt uses smaller batches, as often as they can be halved.
        Some(Fault::Memory) => retries + halvings_max(world),
        // Each start timeout costs minutes, on one adapter after the other.
        Some(Fault::StartStuck) => 1,
        _ => retries,
    };
    adapter.consecutive_faults <= retries
}

/// Returns the number of times that the largest batch can be halved.
fn halvings_max(world: &World) -> u32 {
    let rows = world.models.values().map(|model| model.max_rows).max();
    rows.and_then(u32::checked_ilog2).map_or(0, |log| log + 1)
}

/// Returns whether this adapter must leave the model to others without wrong results.
pub(super) fn must_shadow(world: &World, id: AdapterId, adapter: &Adapter, model: ModelId) -> bool {
    let reliable = |(other, a): (&AdapterId, &Adapter)| {
        let goes = a.state().stops_normally();
        let back = goes
            && eligible::is_eligible(world, *other)
            && eligible::on(world) < world.settings.max;
        let comes = a.state().is_on() || back || eligible::may_be_turned_on(world, *other, a);
        *other != id && a.shadow_batches == 0 && comes && eligible::takes(world, a, model)
    };
    adapter.shadow_batches > 0 && world.adapters.iter().any(reliable)
}

/// Returns whether turning this adapter on may help with the waiting rows of a model: an unreliable
/// adapter, or one under validation, is not used as long as a better one may be turned on.
pub(super) fn helps_with(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    let good = |a: &Adapter| a.shadow_batches == 0 && is_reliable(world, a);
    let better = |(other, a): (&AdapterId, &Adapter)| {
        good(a) && eligible::may_be_turned_on(world, *other, a) && eligible::takes(world, a, model)
    };
    eligible::takes(world, adapter, model) && (good(adapter) || !world.adapters.iter().any(better))
}
