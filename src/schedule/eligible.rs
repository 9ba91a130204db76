//! Eligibility: which adapters may be turned on, and which may serve which models.

use super::adapter::Adapter;
use super::bridge_periods::SHORT_FROM;
use super::estimates;
use super::event::AdapterMode;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId};
use super::settings::Role;
use super::world::World;

/// Returns true if another adapter should start with the first request.
pub(super) fn bridges_fall_short(world: &World) -> bool {
    world.bridge_periods.share >= SHORT_FROM && !regular_is_on(world)
}

pub(super) fn regular_is_on(world: &World) -> bool {
    let regular = |adapter: &Adapter| adapter.profile.role == Role::Regular;
    world.adapters.values().any(|adapter| regular(adapter) && adapter.state().is_on())
}

/// Returns true if the slot is one of a bridge.
pub(super) fn is_on_bridge(world: &World, slot: &Slot) -> bool {
    let adapter = world.adapters.get(&slot.adapter);
    adapter.is_some_and(|adapter| adapter.profile.role == Role::Bridge)
}

/// Returns true if the adapter is a bridge that was measured to answer a single row of the model
/// within its target.
pub(super) fn is_bridged(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    let Some(profile) = world.models.get(&model) else { return false };
    let known = adapter.known.get(&model).filter(|_| adapter.profile.role == Role::Bridge);
    let service = known.and_then(|known| known.services.values().find(|it| it.is_known()));
    service.is_some_and(|service| service.batch(1) * service.caution() <= profile.slo.as_secs_f64())
}

/// Returns true if the role of the adapter permits it to serve the model.
pub(super) fn role_permits(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    adapter.profile.role != Role::Bridge
        || adapter.mode == AdapterMode::On
        || is_bridged(world, adapter, model)
        || only_fallbacks_usable(world)
        // Otherwise no adapter serves a model that only the bridge can load (seed 1137).
        || !is_taken_by_regular(world, model)
}

/// Returns true if a regular adapter can load the model, as far as is known.
fn is_taken_by_regular(world: &World, model: ModelId) -> bool {
    let takes = |adapter: &Adapter| {
        adapter.profile.role == Role::Regular
            && adapter.is_available()
            && adapter.mode != AdapterMode::Off
            && estimates::could_take(world, adapter, model)
    };
    world.adapters.values().any(takes)
}

/// Returns true if the adapter is a bridge for any model, or may be one that was not measured yet.
pub(super) fn is_bridge(world: &World, adapter: &Adapter) -> bool {
    adapter.profile.role == Role::Bridge
        && adapter.mode == AdapterMode::Auto
        && adapter.present
        && has_regular(world)
        && world.models.keys().any(|model| {
            is_bridged(world, adapter, *model)
                || is_to_be_measured(world, adapter, *model)
                || (!is_taken_by_regular(world, *model)
                    && estimates::could_take(world, adapter, *model))
        })
}

/// Returns true if there is a regular adapter, with starts to bridge.
fn has_regular(world: &World) -> bool {
    let regular = |adapter: &Adapter| adapter.profile.role == Role::Regular;
    world.adapters.values().any(|adapter| regular(adapter) && adapter.is_available())
}

/// Returns true if a bridge has to load the model to measure it.
pub(super) fn is_to_be_measured(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    let known = adapter.known.get(&model);
    adapter.profile.role == Role::Bridge
        // Without other adapters, a server with the CPU alone had loaded every model.
        && has_regular(world)
        && known.is_none_or(|known| known.services.is_empty() && known.load.is_none())
        && !adapter.no_memory_until.contains_key(&model)
        && estimates::may_take(world, adapter, model)
}

pub(super) fn counts(world: &World, id: AdapterId) -> bool {
    world.adapters.get(&id).is_some_and(|adapter| {
        adapter.profile.role != Role::Fallback
            || adapter.mode == AdapterMode::On
            || only_fallbacks_usable(world)
    })
}

/// Returns true if this adapter may serve the model: not while others have memory for it and this
/// one has not. If none has, the model is tried, and the device decides whether there is memory.
pub(super) fn takes(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    estimates::could_take(world, adapter, model)
        && role_permits(world, adapter, model)
        && (has_memory(world, adapter, model) || !any_has_memory(world, model))
}

fn any_has_memory(world: &World, model: ModelId) -> bool {
    world.adapters.iter().any(|(id, adapter)| {
        (adapter.state().is_on() || may_be_turned_on(world, *id, adapter))
            && estimates::could_take(world, adapter, model)
            && role_permits(world, adapter, model)
            && has_memory(world, adapter, model)
    })
}

/// Returns true if other programs leave this adapter enough memory for the model.
fn has_memory(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    adapter.holds(model)
        || adapter
            .memory_budget
            .is_none_or(|left| estimates::size_of(world, adapter, model) <= left)
}

/// Returns true if the policy may turn this adapter on.
pub(super) fn is_eligible(world: &World, id: AdapterId) -> bool {
    let Some(adapter) = world.adapters.get(&id) else { return false };
    adapter.mode == AdapterMode::Auto
        && adapter.present
        && (adapter.profile.role == Role::Regular || only_fallbacks_usable(world))
}

/// Returns the number of adapters that are on or starting.
pub(super) fn on(world: &World) -> usize {
    world.adapters.values().filter(|adapter| adapter.state().is_on()).count()
}

/// The same without fallbacks for an adapter that is usable again and should be started.
pub(super) fn counted_on(world: &World) -> usize {
    world.adapters.values().filter(|adapter| counts_as_on(world, adapter)).count()
}

pub(super) fn counts_as_on(world: &World, adapter: &Adapter) -> bool {
    adapter.state().is_on()
        && (adapter.profile.role == Role::Regular
            || adapter.mode == AdapterMode::On
            || only_fallbacks_usable(world))
}

/// Returns true if only fallbacks are usable.
pub(super) fn only_fallbacks_usable(world: &World) -> bool {
    let usable = |other: &Adapter| {
        other.is_available()
            && other.profile.role == Role::Regular
            && other.mode != AdapterMode::Off
            && !other.state().is_faulty()
    };
    !world.adapters.values().any(usable)
}

/// Returns true if this adapter is not on and may be turned on.
pub(super) fn may_be_turned_on(world: &World, id: AdapterId, adapter: &Adapter) -> bool {
    let off = adapter.state().is_off() || adapter.state().is_draining();
    off && is_eligible(world, id) && on(world) < world.settings.max
}

/// Returns true if it stays on without load, since a bridge takes no energy while idle.
pub(super) fn stays_as_bridge(world: &World, adapter: &Adapter) -> bool {
    adapter.profile.role == Role::Bridge && world.closing.is_none() && is_bridge(world, adapter)
}
