//! Quarantine: the backoff of an adapter after a fault. `timeouts.rs`, which has the time, ends it.

use super::adapter::Adapter;
use super::ids::{AdapterId, Time};
use super::world::World;
use std::time::Duration;

/// Returns the backoff after this number of consecutive faults: doubling, bounded.
pub(super) fn backoff(world: &World, consecutive_faults: u32) -> Duration {
    // `min(20)` keeps the shift below in range.
    let doublings = consecutive_faults.saturating_sub(1).min(20);
    world.settings.backoff.saturating_mul(1 << doublings).min(world.settings.backoff_max)
}

/// Begins the quarantine of an adapter.
pub(super) fn begin(world: &mut World, now: Time, id: AdapterId) {
    let Some(adapter) = world.adapters.get(&id) else { return };
    let until = now + backoff(world, adapter.consecutive_faults);
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.quarantine(now, until);
    }
}

/// Ends the quarantine: the adapter may be turned on again.
pub(super) fn end(adapter: &mut Adapter) {
    adapter.turn_off();
}
