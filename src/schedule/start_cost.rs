//! Cost of a start, value of the late requests that it causes, and its permission.

use super::adapter::Adapter;
use super::ids::{AdapterId, Time};
use super::policy::Policy;
use super::world::World;
use super::{eligible, estimates};

/// Maximum value of the late requests of one start, in joules: the number that arrived at once does
/// not predict how soon others will arrive.
pub(super) const LATE_JOULES_MAX: f64 = 3000.0;
/// Factor by which the `latency` goal keeps adapters on longer.
pub(super) const LINGER: f64 = 3.0;

/// Returns the cost of one activation, with its price.
pub(super) fn activation_joules(world: &World, adapter: &Adapter, seconds: f64) -> f64 {
    let Policy::Cost { price_mj, .. } = world.settings.policy else { return 0.0 };
    (price_mj as f64 + seconds * adapter.profile.power.start_mw as f64) * 1e-3
}

/// Returns whether the starts per hour permit another one; the only adapter may always start.
pub(super) fn may_start(world: &World, now: Time, adapter: &Adapter) -> bool {
    let Policy::Cost { starts_per_hour, .. } = world.settings.policy else { return true };
    let recent = adapter.economy.starts.iter().filter(|until| **until > now).count();
    (recent as u64) < u64::from(starts_per_hour) || eligible::on(world) == 0
}

/// Returns the value of this many late requests, in joules.
pub(super) fn late_joules(world: &World, requests: f64) -> f64 {
    late_joules_up_to(world, requests, LATE_JOULES_MAX)
}

pub(super) fn late_joules_up_to(world: &World, requests: f64, most: f64) -> f64 {
    let Policy::Cost { late_penalty_mj, .. } = world.settings.policy else { return 0.0 };
    let times = if world.prefers_latency() { LINGER } else { 1.0 };
    (late_penalty_mj as f64 * 1e-3 * requests).min(most) * times
}

/// Returns the seconds from off to serving, with the models that it serves now.
pub(super) fn start_seconds(world: &World, id: AdapterId, adapter: &Adapter) -> f64 {
    let used = adapter.replicas.iter().max_by_key(|(_, replica)| replica.used);
    adapter.cold_start() + used.map_or(0.0, |(model, _)| estimates::load_time(world, id, *model))
}

/// Returns the cost of one activation, with the value of the requests that it will make late.
pub(super) fn priced_joules(world: &World, adapter: &Adapter, start: f64) -> f64 {
    activation_joules(world, adapter, start)
        + world.late_price.price() * adapter.economy.late_per_start_long
}

/// Returns the time at which the starts per hour permit another one. Until then an adapter stays
/// on: turned off, it could not return when it is needed.
pub(super) fn may_start_again(world: &World, adapter: &Adapter) -> Time {
    let Policy::Cost { starts_per_hour, .. } = world.settings.policy else {
        return Time::default();
    };
    // The start that has to be an hour ago before the limit permits another one.
    let oldest = adapter.economy.starts.len().checked_sub(starts_per_hour as usize);
    let oldest = oldest.and_then(|at| adapter.economy.starts.get(at));
    oldest.copied().unwrap_or_default()
}
