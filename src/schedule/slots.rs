//! Offers of the adapters for rows of a model: when each is free, and which models it must unload.

use super::adapter::Adapter;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::state::{Lifecycle, Running};
use super::world::World;
use super::{claims, eligible, estimates, eviction, reliability};

/// Share of a load that one step of it takes: a batch waits this long for its turn.
const STEP: f64 = 0.1;
/// An activity that takes longer than predicted is assumed to need this share of its time so far.
const OVERDUE: f64 = 0.25;

/// Requirements of having a model: seconds until memory can be freed, seconds of loading, and
/// whether another model in use would have to be unloaded.
#[derive(Clone, Copy, Debug, Default)]
struct Placement {
    wait: f64,
    load: f64,
    displaces: bool,
    /// Cost of removing the other models, in seconds of loading per second.
    loss: f64,
}

/// Returns the offers of active adapters and of those that may be turned on.
pub(super) fn all_slots(world: &World, now: Time, model: ModelId, size: u8) -> Vec<Slot> {
    let mut slots = slots(world, now, model, size);
    for (id, adapter) in &world.adapters {
        let off = adapter.state().is_off() || adapter.state().stops_normally();
        if off && eligible::is_eligible(world, *id) && eligible::takes(world, adapter, model) {
            let free = adapter.cold_start() + estimates::load_time(world, *id, model);
            slots.push(Slot { free, ..slot(world, now, *id, adapter, model, size) });
        }
    }
    slots
}

/// Returns the waiting work in rows of this model: other rows count by the time that they take
/// here.
pub(super) fn rows_ahead(world: &World, slot: Slot, model: ModelId, size: u8) -> u64 {
    let own = world.queue.rows_of(model);
    let others = world.queue.waiting().filter(|(other, _)| *other != model);
    let others = others.map(|(other, rows)| {
        let service = estimates::service(world, slot.adapter, other, size);
        let max_rows = world.models.get(&other).map_or(1, |model| model.max_rows.max(1));
        rows as f64 * service.batch(max_rows) / f64::from(max_rows) * slot.rate()
    });
    own.saturating_add(others.sum::<f64>().round() as u64)
}

/// Returns the offers of the active adapters for rows of this model and size.
pub(super) fn slots(world: &World, now: Time, model: ModelId, size: u8) -> Vec<Slot> {
    let on = |(id, adapter): &(&AdapterId, &Adapter)| {
        let takes = adapter.state().is_on() && eligible::takes(world, adapter, model);
        takes && !reliability::must_shadow(world, **id, adapter, model)
    };
    let on = world.adapters.iter().filter(on);
    on.map(|(id, adapter)| slot(world, now, *id, adapter, model, size)).collect()
}

pub(super) fn slot(
    world: &World,
    now: Time,
    id: AdapterId,
    adapter: &Adapter,
    model: ModelId,
    size: u8,
) -> Slot {
    let loaded = adapter.replicas.contains_key(&model);
    let service = estimates::service(world, id, model, size);
    let comes = adapter.state().loads(model);
    let needs = Some((id, adapter)).filter(|_| !loaded && !comes);
    let placement = needs.map_or(Placement::default(), |needs| placement(world, now, needs, model));
    let turn = turn(world, now, id, adapter).filter(|_| loaded);
    let free = turn.unwrap_or_else(|| remaining(world, now, id, adapter));
    let max_rows = estimates::max_rows(world, id, model);
    let takes_turns = turn.is_some() && adapter.takes_batches();
    let takes_next = loaded && takes_next(world, adapter, model, max_rows);
    Slot {
        adapter: id,
        free: free.max(placement.wait) + placement.load,
        alpha: service.alpha(),
        beta: service.beta(),
        caution: service.caution(),
        max_rows,
        idle: (adapter.state().is_idle() && placement.wait <= 0.0) || takes_turns || takes_next,
        loaded,
        displaces: placement.displaces,
        loss: placement.loss,
        measured: service.is_measured(),
    }
}

/// Returns the requirements of loading a model, including later reloads of the models in use that
/// it displaces.
fn placement(
    world: &World,
    now: Time,
    (id, adapter): (AdapterId, &Adapter),
    model: ModelId,
) -> Placement {
    let load = estimates::load_time(world, id, model);
    if let Some(victims) = eviction::victims(world, now, id, model) {
        let in_use =
            victims.iter().filter(|victim| eviction::is_in_use(world, now, id, adapter, **victim));
        let again: f64 = in_use.map(|victim| estimates::load_time(world, id, *victim)).sum();
        let loss = eviction::loss(world, now, id, &victims);
        return Placement { wait: 0.0, load: load + again, displaces: again > 0.0, loss };
    }
    let stay =
        adapter.replicas.iter().map(|(other, replica)| eviction::stays(world, id, *other, replica));
    let wait = stay.filter(|at| *at > now).min().map_or(0.0, |at| at.since(now).as_secs_f64());
    Placement { wait, load, displaces: true, loss: 0.0 }
}

/// Returns the seconds until an adapter that loads another model can run a batch of a loaded one.
fn turn(world: &World, now: Time, id: AdapterId, adapter: &Adapter) -> Option<f64> {
    let step = estimates::load_time(world, id, adapter.state().load?.model) * STEP;
    let running =
        adapter.state().running.first().map_or(0.0, |Running { since, batch, .. }| {
            (step + estimates::batch_time(world, id, batch) - now.since(*since).as_secs_f64())
                .max(0.0)
        });
    Some(running + step)
}

/// Returns the seconds until the adapter can begin new work.
fn remaining(world: &World, now: Time, id: AdapterId, adapter: &Adapter) -> f64 {
    let state = adapter.state();
    match (state.lifecycle, state.load) {
        (Lifecycle::Starting { since, .. }, _) => left(now, since, adapter.cold_start()),
        (Lifecycle::On, Some(load)) => {
            left(now, load.since, estimates::load_time(world, id, load.model))
        }
        (Lifecycle::On, None) => {
            let took = |running: &Running| estimates::batch_time(world, id, &running.batch);
            let mut running = state.running.iter();
            let first = running.next().map_or(0.0, |first| left(now, first.since, took(first)));
            running.map(took).fold(first, |sum, took| sum + took)
        }
        // A draining or stopping adapter takes no new work.
        _ => f64::INFINITY,
    }
}

/// Returns the rest of an activity that began at `since` with this predicted duration in seconds.
fn left(now: Time, since: Time, predicted: f64) -> f64 {
    let elapsed = now.since(since).as_secs_f64();
    (predicted - elapsed).max(if elapsed > predicted { elapsed * OVERDUE } else { 0.0 })
}

/// Returns whether the adapter, which runs a batch, can be given the next one already: only a full
/// one, because more requests may join a batch that waits.
fn takes_next(world: &World, adapter: &Adapter, model: ModelId, max_rows: u32) -> bool {
    let state = adapter.state();
    let runs = state.serves() && !state.running.is_empty();
    let full = world.queue.rows_of(model) >= u64::from(max_rows);
    runs && adapter.takes_batches() && full && claims::fits(world, adapter, model, max_rows)
}

/// Returns the earliest time at which an idle adapter may unload a model for this one.
pub(super) fn memory_free_at(world: &World, now: Time, model: ModelId) -> Option<Time> {
    let idle = world
        .adapters
        .iter()
        .filter(|(_, a)| a.state().is_idle() && eligible::takes(world, a, model));
    let stays = idle.flat_map(|(id, adapter)| {
        adapter.replicas.iter().map(|(other, replica)| eviction::stays(world, *id, *other, replica))
    });
    stays.filter(|at| *at > now).min()
}

/// Returns the offer of an idle adapter with the model loaded.
pub(super) fn warm_slot(world: &World, id: AdapterId, model: ModelId, size: u8) -> Slot {
    let service = estimates::service(world, id, model, size);
    Slot {
        adapter: id,
        free: 0.0,
        alpha: service.alpha(),
        beta: service.beta(),
        caution: service.caution(),
        max_rows: estimates::max_rows(world, id, model),
        idle: true,
        loaded: true,
        displaces: false,
        loss: 0.0,
        measured: service.is_measured(),
    }
}
