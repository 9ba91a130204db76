//! Latency that scheduling aims at: the latency target of the model, or a little more than the time
//! of the fastest adapter, where that is longer.
//!
//! A target that no adapter can meet must not turn adapters on. So a request of `rows` rows is due
//! after `max(target, REACH * best)`, where `best` is the least predicted time of its rows on one
//! warm adapter, or on all together if they do not fit into one batch.

use super::adapter::Adapter;
use super::event::AdapterMode;
use super::forecast::{Slot, level};
use super::ids::ModelId;
use super::service::Service;
use super::settings::Role;
use super::world::World;
use super::{eligible, estimates, slots};
use std::time::Duration;

/// Factor on the least predicted time that scheduling aims at.
const REACH: f64 = 1.25;

/// Returns the latency that scheduling aims at for a request of `rows` rows, of a size as in
/// [`super::ids::Shape`]: at least the target of the model.
pub(super) fn effective_for(world: &World, model: ModelId, size: u8, rows: u32) -> Duration {
    let slo = world.models.get(&model).map_or(Duration::ZERO, |profile| profile.slo);
    let least = least_time(world, model, size, rows).filter(|seconds| seconds.is_finite());
    least.map_or(slo, |seconds| slo.max(Duration::from_secs_f64((REACH * seconds).min(1e6))))
}

/// Returns the same for a request of one row.
pub(super) fn effective(world: &World, model: ModelId) -> Duration {
    effective_for(world, model, 0, 1)
}

/// Returns the least predicted time of one row; `None` where no adapter has been measured.
pub(super) fn best(world: &World, model: ModelId) -> Option<Duration> {
    let seconds = least_time(world, model, 0, 1).filter(|seconds| seconds.is_finite())?;
    Some(Duration::from_secs_f64(seconds.clamp(0.0, 1e6)))
}

/// Returns the least cautiously predicted seconds of these rows on warm adapters without other
/// work; `None` where no adapter has been measured.
fn least_time(world: &World, model: ModelId, size: u8, rows: u32) -> Option<f64> {
    let usable = world.adapters.iter().filter(|(_, adapter)| is_usable(world, adapter, model));
    let slots: Vec<Slot> =
        usable.map(|(id, _)| slots::warm_slot(world, *id, model, size)).collect();
    let alone = slots.iter().filter(|slot| slot.max_rows >= rows);
    let alone = alone.map(|slot| slot.batch(rows) * slot.caution).min_by(f64::total_cmp);
    alone.or_else(|| Some(level(&slots, rows.into())).filter(|_| !slots.is_empty()))
}

/// Returns whether the adapter may serve the model now or later, at a known speed.
fn is_usable(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    let serves = adapter.profile.role == Role::Regular
        || eligible::is_bridged(world, adapter, model)
        || eligible::only_fallbacks_usable(world);
    serves
        && adapter.is_available()
        && adapter.mode != AdapterMode::Off
        && !adapter.state().is_faulty()
        && adapter
            .known
            .get(&model)
            .is_some_and(|known| known.services.values().any(Service::is_known))
        && estimates::may_take(world, adapter, model)
}
