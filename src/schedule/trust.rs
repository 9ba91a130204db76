//! Trust in adapters that failed or computed wrongly.

use super::adapter::Adapter;
use super::eligible;
use super::event::Fault;
use super::ids::{AdapterId, ModelId};
use super::world::World;

/// Whether an adapter has not failed again and again.
pub(super) fn is_trusted(world: &World, adapter: &Adapter) -> bool {
    let retries = world.settings.retries_max.max(1);
    let retries = match adapter.last_fault {
        // It does less the next time, as often as that can be.
        Some(Fault::Memory) => retries + halvings_max(world),
        // Each costs minutes, on one adapter after the other.
        Some(Fault::StartStuck) => 1,
        _ => retries,
    };
    adapter.strikes <= retries
}

/// How often the largest batch can be halved.
fn halvings_max(world: &World) -> u32 {
    let rows = world.models.values().map(|model| model.max_rows).max();
    rows.and_then(u32::checked_ilog2).map_or(0, |log| log + 1)
}

/// Whether this adapter must leave the model to others that can be trusted.
pub(super) fn is_on_trial(world: &World, id: AdapterId, adapter: &Adapter, model: ModelId) -> bool {
    let trusted = |(other, a): (&AdapterId, &Adapter)| {
        let goes = a.state().stops_for_good();
        let back = goes
            && eligible::is_eligible(world, *other)
            && eligible::on(world) < world.settings.max;
        let comes = a.state().is_on() || back || eligible::may_be_turned_on(world, *other, a);
        *other != id && a.trial == 0 && comes && eligible::takes(world, a, model)
    };
    adapter.trial > 0 && world.adapters.iter().any(trusted)
}

/// Whether turning this adapter on may help with what waits for a model: one that failed again
/// and again, or computed wrongly, gives way as long as a better one may be turned on.
pub(super) fn helps_with(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    let good = |a: &Adapter| a.trial == 0 && is_trusted(world, a);
    let better = |(other, a): (&AdapterId, &Adapter)| {
        good(a) && eligible::may_be_turned_on(world, *other, a) && eligible::takes(world, a, model)
    };
    eligible::takes(world, adapter, model) && (good(adapter) || !world.adapters.iter().any(better))
}
