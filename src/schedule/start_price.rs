//! What a start costs, what the late requests that it causes are worth, and whether it is permitted.

use super::adapter::Adapter;
use super::ids::{AdapterId, Time};
use super::policy::Policy;
use super::world::World;
use super::{eligible, estimates};

/// The late requests of one start are worth this at most, in joules: how many came at once says
/// little of how soon others will come.
pub(super) const LATE_JOULES_MAX: f64 = 3000.0;
/// The `latency` goal keeps adapters on so many times longer.
pub(super) const LINGER: f64 = 3.0;

/// What one activation costs, with its price.
pub(super) fn activation_joules(world: &World, adapter: &Adapter, seconds: f64) -> f64 {
    let Policy::Cost { price_mj, .. } = world.settings.policy else { return 0.0 };
    (price_mj as f64 + seconds * adapter.profile.power.start_mw as f64) * 1e-3
}

/// Whether the cap on activations allows another; the only adapter may always start.
pub(super) fn may_start(world: &World, now: Time, adapter: &Adapter) -> bool {
    let Policy::Cost { starts_per_hour, .. } = world.settings.policy else { return true };
    let recent = adapter.economy.starts.iter().filter(|until| **until > now).count();
    (recent as u64) < u64::from(starts_per_hour) || eligible::on(world) == 0
}

/// Joules that so many late requests are worth.
pub(super) fn late_joules(world: &World, requests: f64) -> f64 {
    late_joules_up_to(world, requests, LATE_JOULES_MAX)
}

pub(super) fn late_joules_up_to(world: &World, requests: f64, most: f64) -> f64 {
    let Policy::Cost { late_penalty_mj, .. } = world.settings.policy else { return 0.0 };
    let times = if world.hurries() { LINGER } else { 1.0 };
    (late_penalty_mj as f64 * 1e-3 * requests).min(most) * times
}

/// Seconds from off to serving what it serves now.
pub(super) fn start_seconds(world: &World, id: AdapterId, adapter: &Adapter) -> f64 {
    let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
    adapter.cold_start() + used.map_or(0.0, |(model, _)| estimates::load_time(world, id, *model))
}

/// What one activation costs with the requests that it will make miss their target.
pub(super) fn priced_joules(world: &World, adapter: &Adapter, start: f64) -> f64 {
    activation_joules(world, adapter, start) + world.misses.price() * adapter.economy.misses_long
}

/// When the cap on activations allows another. Until then an adapter stays on: let go, it would
/// be missing when it is needed.
pub(super) fn may_start_again(world: &World, adapter: &Adapter) -> Time {
    let Policy::Cost { starts_per_hour, .. } = world.settings.policy else {
        return Time::default();
    };
    let oldest = adapter.economy.starts.len().checked_sub(starts_per_hour as usize);
    let oldest = oldest.and_then(|at| adapter.economy.starts.get(at));
    oldest.copied().unwrap_or_default()
}
