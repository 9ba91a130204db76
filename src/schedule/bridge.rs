//! The CPU as a bridge: it serves the models that it answers within their targets while other
//! adapters start, and as long as its capacity suffices.
//!
//! A bridge that serves such a model is always on: idling costs only a sleeping process. It loads
//! every model once to measure it. Its capacity counts, so that other adapters start when it does
//! not suffice, and take over when the energy saved per row has paid for their start
//! (`replace.rs`). It also serves models that no other adapter can load, however long that takes.
//!
//! If it did not suffice in the last busy periods, another adapter starts with the first request of
//! the next one.

use super::adapter::Adapter;
use super::decision::Reason;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::policy::Policy;
use super::settings::Role;
use super::world::World;
use super::{eligible, lifecycle, loading, plan, slots};

/// Records the arrival of a request.
pub(super) fn record_bridge_arrival(world: &mut World, now: Time) {
    let alone = !eligible::regular_is_on(world);
    world.bridge_periods.arrived(now, alone);
}

/// Records whether bridges alone would serve waiting rows after their target.
pub(super) fn observe_bridges(world: &mut World, now: Time) {
    let periods = world.bridge_periods;
    // Plans are costly: without a bridge there is nothing to observe.
    let bridge = |adapter: &Adapter| adapter.profile.role == Role::Bridge;
    if !periods.counts || periods.short || !world.adapters.values().any(bridge) {
        return;
    }
    let short = world.queue.waiting().any(|(model, _)| {
        let mut slots = slots::slots(world, now, model, 0);
        slots.retain(|slot| eligible::is_on_bridge(world, slot));
        !slots.is_empty() && plan::late_rows(world, now, model, &slots) > 0
    });
    world.bridge_periods.short = short;
}

/// Unloads models that were loaded to be measured and take too long here.
pub(super) fn drop_not_bridged(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    let Some(adapter) = world.adapters.get(&id).filter(|adapter| adapter.state().is_idle()) else {
        return;
    };
    let no_use = |model: &&ModelId| !eligible::role_permits(world, adapter, **model);
    if let Some(model) = adapter.replicas.keys().find(no_use).copied() {
        loading::unload(world, out, now, id, model, Reason::NotBridged);
    }
}

/// Turns bridges on.
pub(super) fn turn_on_bridges(world: &mut World, out: &mut Outbox, now: Time) {
    let by_hand = matches!(world.settings.policy, Policy::Manual { .. });
    if world.closing.is_some() || by_hand {
        return;
    }
    let off = |(_, adapter): &(&AdapterId, &Adapter)| {
        adapter.state().is_off() && eligible::is_bridge(world, adapter)
    };
    let off: Vec<AdapterId> = world.adapters.iter().filter(off).map(|(id, _)| *id).collect();
    for id in off {
        lifecycle::turn_on(world, out, now, id, false, Reason::Bridge);
    }
}
