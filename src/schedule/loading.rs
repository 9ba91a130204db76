//! Loads and unloads models; `places.rs` decides which of them are removed for others.

use super::action::Action;
use super::decision::{Change, Reason};
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::world::World;
use super::{estimates, eviction};

/// Loads a model on an idle adapter, after unloading others if memory is short.
pub(super) fn load_here(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    model: ModelId,
) -> bool {
    let rows = world.queue.rows_of(model);
    let Some(victims) = eviction::victims(world, now, id, model) else { return false };
    // Before the unloads, which change the free memory: these are the numbers that decided.
    let (needed, free) = (estimates::bytes_of(world, id, model), estimates::free_bytes(world, id));
    for victim in victims {
        unload(world, out, now, id, victim, Reason::Memory { needed, free });
    }
    begin_load(world, out, now, id, model, Reason::Demand { rows });
    true
}

pub(super) fn begin_load(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    model: ModelId,
    reason: Reason,
) {
    let max_rows = estimates::rows_limit(world, id, model);
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    let incarnation = adapter.incarnation;
    adapter.begin_load(now, model);
    out.push(Action::Load { adapter: id, incarnation, model, max_rows });
    out.decide(now, id, Change::Load(model), reason);
}

pub(super) fn unload(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    model: ModelId,
    reason: Reason,
) {
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    let incarnation = adapter.incarnation;
    adapter.replicas.remove(&model);
    out.push(Action::Unload { adapter: id, incarnation, model });
    out.decide(now, id, Change::Unload(model), reason);
}
