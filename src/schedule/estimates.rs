//! Estimates of times and sizes of models on adapters.

use super::adapter::Adapter;
use super::batch::Batch;
use super::claims;
use super::ids::{AdapterId, ModelId};
use super::service::{Service, ServiceTime, bucket};
use super::world::World;

/// Estimate for a model that was never loaded: fixed seconds, and bytes per second.
const LOAD_GUESS: f64 = 0.3;
const LOAD_BYTES_PER_SECOND: f64 = 1e9;
/// Estimate for a model that never ran, on an adapter of speed 1000.
const BATCH_GUESS: ServiceTime =
    ServiceTime { alpha_ns: 1_000_000, beta_ns: 500_000, spread_permille: 500 };

/// Returns the predicted seconds of a batch.
pub(super) fn batch_time(world: &World, id: AdapterId, batch: &Batch) -> f64 {
    let service = service(world, id, batch.model, batch.size);
    service.batch(bucket(batch.rows(), max_rows(world, id, batch.model)))
}

/// Returns the service model: learned here, else scaled from another adapter, else a default.
pub(super) fn service(world: &World, id: AdapterId, model: ModelId, size: u8) -> Service {
    let known = |adapter: &Adapter| {
        let services = &adapter.known.get(&model)?.services;
        let near = services.range(..=size).next_back().or_else(|| services.iter().next());
        let near = near.map(|(_, service)| *service)?;
        // Restored values may come from a slow phase of an earlier run. The warm-up of this run is
        // more recent: an adapter assumed to be too slow would get no batch that could correct it.
        let warm = services.get(&0).filter(|warm| warm.is_tried() && !near.is_tried());
        Some(warm.filter(|warm| warm.batch(1) < near.batch(1)).copied().unwrap_or(near))
    };
    let Some(adapter) = world.adapters.get(&id) else { return Service::from_prior(BATCH_GUESS) };
    if let Some(service) = known(adapter) {
        return service;
    }
    let other = world.adapters.values().find_map(|other| Some((other, known(other)?)));
    match other {
        Some((other, service)) => service.slower(times_slower(adapter, other)),
        None => {
            let times = 1000.0 / adapter.profile.speed.max(1) as f64;
            Service::from_prior(BATCH_GUESS).slower(times)
        }
    }
}

/// Returns the seconds to load and warm up a model.
pub(super) fn load_time(world: &World, id: AdapterId, model: ModelId) -> f64 {
    let known = |adapter: &Adapter| adapter.known.get(&model)?.load;
    // After an update of its driver an adapter tunes again.
    let tuned = |adapter: &Adapter| {
        let known = adapter.known.get(&model)?;
        known.load.or(known.first_load)
    };
    let own = world.adapters.get(&id).and_then(tuned);
    own.or_else(|| world.adapters.values().find_map(known)).unwrap_or_else(|| {
        let bytes = world.models.get(&model).map_or(0, |model| model.bytes);
        LOAD_GUESS + bytes as f64 / LOAD_BYTES_PER_SECOND
    })
}

/// Returns the rows of the largest batch of a model that an adapter runs.
pub(super) fn max_rows(world: &World, id: AdapterId, model: ModelId) -> u32 {
    let known = world.adapters.get(&id).and_then(|adapter| adapter.known.get(&model));
    let grown = known.and_then(|known| known.measured_rows_max).unwrap_or(0);
    let first = world.models.get(&model).map_or(0, |model| model.first_rows);
    rows_limit(world, id, model).min(grown.max(first)).max(1)
}

/// The same if every size that the model allows had been measured.
pub(super) fn rows_limit(world: &World, id: AdapterId, model: ModelId) -> u32 {
    let known = world.adapters.get(&id).and_then(|adapter| adapter.known.get(&model));
    let limit = known.and_then(|known| known.rows_max).map_or(u32::MAX, |(rows, _)| rows);
    let claimed = |adapter| claims::rows(world, adapter, model, size_of(world, adapter, model));
    let limit = world.adapters.get(&id).map_or(limit, |adapter| limit.min(claimed(adapter)));
    world.models.get(&model).map_or(1, |model| model.max_rows.min(limit).max(1))
}

/// Returns the bytes of a model on an adapter.
pub(super) fn bytes_of(world: &World, id: AdapterId, model: ModelId) -> u64 {
    let known = |adapter: &Adapter| adapter.known.get(&model)?.bytes;
    let own = world.adapters.get(&id).and_then(known);
    let other = || world.adapters.values().find_map(known);
    own.or_else(other).or(world.models.get(&model).map(|model| model.bytes)).unwrap_or(0)
}

pub(super) fn could_take(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    !adapter.no_memory_until.contains_key(&model) && may_take(world, adapter, model)
}

/// Returns true if the adapter could load the model with enough free memory.
pub(super) fn may_take(world: &World, adapter: &Adapter, model: ModelId) -> bool {
    if adapter.refused_until.contains_key(&model) {
        return false;
    }
    adapter.profile.memory.is_none_or(|budget| size_of(world, adapter, model) <= budget)
}

/// Returns the bytes of a model here: measured, or else by its files.
pub(super) fn size_of(world: &World, adapter: &Adapter, model: ModelId) -> u64 {
    let known = adapter.known.get(&model).and_then(|known| known.bytes);
    known.unwrap_or_else(|| world.models.get(&model).map_or(0, |model| model.bytes))
}

pub(super) fn free_bytes(world: &World, id: AdapterId) -> u64 {
    let Some(adapter) = world.adapters.get(&id) else { return 0 };
    let held = adapter.bytes().saturating_add(claims::running(world, adapter));
    adapter.budget().unwrap_or(u64::MAX).saturating_sub(held)
}

/// Returns the factor by which one adapter is slower than another: by the measurements of their
/// probes, or else by their classes.
fn times_slower(adapter: &Adapter, other: &Adapter) -> f64 {
    if adapter.speed > 0 && other.speed > 0 {
        return other.speed as f64 / adapter.speed as f64;
    }
    other.profile.speed.max(1) as f64 / adapter.profile.speed.max(1) as f64
}
