//! Order of the adapters for light traffic: by the energy for a row, including its share of the
//! energy of waiting for it.
//!
//! `J = (active - idle) / rate + idle / lambda` joules for a row, with `lambda` arriving rows per
//! second: under light traffic the idle power decides, under heavy traffic the energy of the work.
//! An adapter that recently needed the help of a more expensive one does not count as cheap.

use super::event::AdapterMode;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::settings::Role;
use super::world::World;
use super::{estimates, slots, target};

/// Logarithm of the smallest relevant difference in energy.
const STEP: f64 = 0.05;
/// Minimum of the assumed rows per second.
const RATE_MIN: f64 = 0.001;

/// Records that these adapters, which are ready, needed help.
pub(super) fn record_help(world: &mut World, now: Time, ids: &[AdapterId]) {
    for id in ids {
        if let Some(adapter) = world.adapters.get_mut(id) {
            adapter.economy.helped.record(now);
        }
    }
}

/// Returns the joules of a row with its share of waiting.
fn full_row_joules(world: &World, now: Time, slot: &Slot) -> f64 {
    let power = world.adapters.get(&slot.adapter).map(|adapter| adapter.profile.power);
    let idle_watts = power.map_or(0, |power| power.idle_mw) as f64 * 1e-3;
    work_joules(world, slot) + idle_watts / world.arrivals.now(now).max(RATE_MIN)
}

/// Returns true if the start of every adapter makes requests for the model late, so that one
/// adapter has to wait for light traffic.
pub(super) fn starts_are_late(world: &World, model: ModelId) -> bool {
    let aim = target::effective(world, model).as_secs_f64();
    let regular = world.adapters.iter().filter(|(_, adapter)| {
        adapter.profile.role == Role::Regular
            && adapter.is_available()
            && adapter.mode != AdapterMode::Off
    });
    let mut fits = regular.filter(|(id, adapter)| {
        let slot = slots::warm_slot(world, **id, model, 0);
        let start = adapter.cold_start() + estimates::load_time(world, **id, model);
        start + slot.batch(1) * slot.caution <= aim
    });
    fits.next().is_none()
}

/// Returns the joules of a row on a logarithmic scale in steps of 5 %: smaller differences count as
/// equal, and then the first adapter takes all rows, so that the others become idle. With `late` as
/// in [`starts_are_late`], adapters that can serve the traffic are ranked by their whole energy,
/// before those that needed help recently. All others are ranked by their work alone.
pub(super) fn rank(world: &World, now: Time, slot: &Slot, late: bool) -> (bool, i64) {
    let helped = late && needed_help(world, now, slot.adapter);
    let joules =
        if late && !helped { full_row_joules(world, now, slot) } else { work_joules(world, slot) };
    // The minimum keeps the logarithm finite where active and idle power are equal.
    (helped, (joules.max(1e-9).ln() / STEP).round() as i64)
}

/// Returns the joules above idling of a row in a full batch.
fn work_joules(world: &World, slot: &Slot) -> f64 {
    let power = world.adapters.get(&slot.adapter).map(|adapter| adapter.profile.power);
    let watts = power.map_or(0, |power| power.active_mw.saturating_sub(power.idle_mw));
    watts as f64 * 1e-3 / slot.rate()
}

/// Returns true if this adapter recently needed the help of a more expensive one.
pub(super) fn needed_help(world: &World, now: Time, id: AdapterId) -> bool {
    world.adapters.get(&id).is_some_and(|adapter| adapter.economy.helped.is_recent(now))
}
