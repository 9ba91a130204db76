//! Quarantine: the wait of an adapter after a fault. Its end comes from `timeouts.rs`, which knows what
//! time it is.

use super::adapter::Adapter;
use super::ids::{AdapterId, Time};
use super::world::World;
use std::time::Duration;

/// The wait after so many faults in a row: doubling, bounded.
pub(super) fn backoff(world: &World, strikes: u32) -> Duration {
    let doublings = strikes.saturating_sub(1).min(20);
    world.settings.backoff.saturating_mul(1 << doublings).min(world.settings.backoff_max)
}

/// The adapter waits from now on.
pub(super) fn begin(world: &mut World, now: Time, id: AdapterId) {
    let Some(adapter) = world.adapters.get(&id) else { return };
    let until = now + backoff(world, adapter.strikes);
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.quarantine(now, until);
    }
}

/// The wait is over: the adapter may be turned on again.
pub(super) fn end(adapter: &mut Adapter) {
    adapter.turn_off();
}
