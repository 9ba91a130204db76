//! Memory claims of running rows, beside the memory of their model.

use super::adapter::Adapter;
use super::ids::ModelId;
use super::world::World;

/// Returns the bytes that the running batches of an adapter claim.
pub(super) fn running(world: &World, adapter: &Adapter) -> u64 {
    let claim = |model: ModelId, rows: u32| row_bytes(world, model).saturating_mul(rows.into());
    let batches = adapter.state().running.iter().map(|running| &running.batch);
    batches.map(|batch| claim(batch.model, batch.rows())).fold(0, u64::saturating_add)
}

/// Returns the rows of a model of `size` bytes for which an adapter has memory beside its models if
/// it runs no other batch.
pub(super) fn rows(world: &World, adapter: &Adapter, model: ModelId, size: u64) -> u32 {
    let own = if adapter.replicas.contains_key(&model) { 0 } else { size };
    let held = adapter.bytes().saturating_add(own);
    // Models without claims have 0 bytes a row: `checked_div` gives `None`, which is unlimited.
    let rows = |free: u64| free.checked_div(row_bytes(world, model));
    let rows = adapter.budget().and_then(|budget| rows(budget.saturating_sub(held)));
    rows.map_or(u32::MAX, |rows| u32::try_from(rows).unwrap_or(u32::MAX))
}

/// Returns true if an adapter has memory for `rows` rows of a loaded model beside its batches.
pub(super) fn fits(world: &World, adapter: &Adapter, model: ModelId, rows: u32) -> bool {
    let held = adapter.bytes().saturating_add(running(world, adapter));
    let claim = row_bytes(world, model).saturating_mul(rows.into());
    // A model without claims runs even while its adapter exceeds a budget that has fallen.
    adapter.budget().is_none_or(|budget| held.saturating_add(claim) <= budget || claim == 0)
}

fn row_bytes(world: &World, model: ModelId) -> u64 {
    world.models.get(&model).map_or(0, |model| model.row_bytes)
}
