//! Unloads withdrawn models, and loads models that may be requested.

use super::adapter::Adapter;
use super::decision::Reason;
use super::event::AdapterMode;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::world::World;
use super::{bridge, eligible, estimates, eviction, loading};
use std::time::Duration;

/// Maximum of seconds without work before an adapter loads a model without waiting requests.
const IDLE_MAX: f64 = 3600.0;

/// Unloads withdrawn models, and prepares idle adapters for the models that have been requested:
/// also where other adapters will finish the waiting requests before a load would help, because
/// more may arrive.
pub(super) fn prepare(world: &mut World, out: &mut Outbox, now: Time) {
    for id in world.best_first() {
        drop_withdrawn(world, out, now, id);
        give_back(world, out, now, id);
        bridge::drop_not_bridged(world, out, now, id);
        if world.closing.is_none() {
            load_ahead(world, out, now, id);
        }
    }
}

fn drop_withdrawn(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    let Some(adapter) = world.adapters.get(&id) else { return };
    let withdrawn = |model: &&ModelId| !world.models.contains_key(*model);
    let unused = |model: &&ModelId| !adapter.state().runs(**model);
    let model = adapter.replicas.keys().filter(withdrawn).find(unused).copied();
    if let Some(model) = model {
        loading::unload(world, out, now, id, model, Reason::Withdrawn);
    }
}

/// Releases memory that other programs need now, if its models would not be loaded again at once.
fn give_back(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    let Some(adapter) = world.adapters.get(&id).filter(|adapter| adapter.state().is_idle()) else {
        return;
    };
    let (held, budget) = (adapter.bytes(), adapter.budget().unwrap_or(u64::MAX));
    if held <= budget {
        return;
    }
    let old = eviction::old_replicas(world, now, (id, adapter));
    let unused =
        old.into_iter().find(|(model, _)| !eviction::is_in_use(world, now, id, adapter, *model));
    if let Some((model, _)) = unused {
        loading::unload(world, out, now, id, model, Reason::MemoryBudget { held, budget });
    }
}

fn load_ahead(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    // Waiting requests come first.
    let waiting = world.queue.waiting().map(|(model, _)| model);
    let expected = world.adapters.get(&id).and_then(|adapter| adapter.economy.expected);
    let soon = waiting.chain(expected.map(|expected| expected.model));
    let models: Vec<ModelId> = soon.chain(world.models.keys().copied()).collect();
    let due = |model: &&ModelId| ahead_at(world, now, id, **model).is_some_and(|at| at <= now);
    if let Some(model) = models.iter().find(due).copied() {
        loading::begin_load(world, out, now, id, model, Reason::Ahead);
    }
}

/// Returns the time at which an idle adapter loads a model without waiting requests; `None` if it
/// has the model or no memory for it. It does not load while batches alternate with short pauses,
/// because they would have to wait for the steps of the load.
fn ahead_at(world: &World, now: Time, id: AdapterId, model: ModelId) -> Option<Time> {
    let adapter = world.adapters.get(&id).filter(|adapter| adapter.state().is_idle())?;
    // An adapter that is on without load should be ready for any model.
    let all = adapter.mode == AdapterMode::On || world.settings.min > 0;
    // Other programs have already reduced the memory and may soon need more: a model without
    // waiting requests would be loaded and unloaded repeatedly.
    let times = if adapter.budget() < adapter.profile.memory { 2 } else { 1 };
    let measures = eligible::is_to_be_measured(world, adapter, model);
    let expected = adapter.economy.expected.is_some_and(|expected| expected.model == model);
    let has_request = world.queue.newest(model) > Time::default();
    let wanted = (all || has_request || measures || expected)
        && !adapter.replicas.contains_key(&model)
        && (measures || eligible::takes(world, adapter, model))
        && (measures || !eviction::is_spare_copy(world, now, id, model))
        && estimates::bytes_of(world, id, model).saturating_mul(times)
            <= estimates::free_bytes(world, id);
    let quiet = Duration::from_secs_f64(estimates::load_time(world, id, model).min(IDLE_MAX));
    let since = adapter.economy.no_work_since.filter(|_| !expected);
    wanted.then(|| since.map_or(Time::default(), |since| since + quiet))
}

/// Returns the time of the next load in advance that is not yet due.
pub(super) fn next_ahead(world: &World, now: Time) -> Option<Time> {
    // The cheap condition first: this is computed after each event.
    let lacks = |adapter: &Adapter| {
        adapter.state().is_idle() && adapter.replicas.len() < world.models.len()
    };
    let lacking = world.adapters.iter().filter(|(_, a)| world.closing.is_none() && lacks(a));
    let models = || world.models.keys().copied();
    let all =
        lacking.flat_map(|(id, _)| models().filter_map(|model| ahead_at(world, now, *id, model)));
    // Loads that are due were begun by `prepare`, or have to wait for another event.
    all.filter(|at| *at > now).min()
}
