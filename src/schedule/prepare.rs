//! Drops models that are served no more, and loads those that may be asked for.

use super::adapter::Adapter;
use super::decision::Reason;
use super::event::Wish;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::world::World;
use super::{bridge, eligible, estimates, loading, places};
use std::time::Duration;

/// Seconds without work, at most, before an adapter loads a model that nobody waits for.
const LULL_MAX: f64 = 3600.0;

/// Drops what is served no more, and gets adapters that were given nothing to do ready for what
/// has been asked for: also where others will be done with what waits before a load would
/// help, since more of it may come.
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

/// Gives memory back that other programs need now, if nobody misses what is in it.
fn give_back(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    let Some(adapter) = world.adapters.get(&id).filter(|adapter| adapter.state().is_idle()) else {
        return;
    };
    let (held, budget) = (adapter.bytes(), adapter.budget().unwrap_or(u64::MAX));
    if held <= budget {
        return;
    }
    let old = places::old_replicas(world, now, (id, adapter));
    let unmissed =
        old.into_iter().find(|(model, _)| !places::is_missed(world, now, id, adapter, *model));
    if let Some((model, _)) = unmissed {
        loading::unload(world, out, now, id, model, Reason::Room { held, room: budget });
    }
}

fn load_ahead(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    // What waits goes first.
    let waiting = world.queue.waiting().map(|(model, _)| model);
    let expected = world.adapters.get(&id).and_then(|adapter| adapter.economy.expected);
    let soon = waiting.chain(expected.map(|expected| expected.model));
    let models: Vec<ModelId> = soon.chain(world.models.keys().copied()).collect();
    let due = |model: &&ModelId| ahead_at(world, now, id, **model).is_some_and(|at| at <= now);
    if let Some(model) = models.iter().find(due).copied() {
        loading::begin_load(world, out, now, id, model, Reason::Ahead);
    }
}

/// When an idle adapter loads a model that nobody needs it to have; never if it has it, or has
/// no room. Not while batches come and go: they would have to wait for the steps of the load.
fn ahead_at(world: &World, now: Time, id: AdapterId, model: ModelId) -> Option<Time> {
    let adapter = world.adapters.get(&id).filter(|adapter| adapter.state().is_idle())?;
    // Who is on without load is on to be ready for anything.
    let all = adapter.wish == Wish::On || world.settings.min > 0;
    // Where others leave less than is allowed they may soon want more, and what is loaded for
    // nobody would come and go.
    let times = if adapter.budget() < adapter.profile.memory { 2 } else { 1 };
    let measures = eligible::is_to_be_measured(world, adapter, model);
    let expected = adapter.economy.expected.is_some_and(|expected| expected.model == model);
    let asked = world.queue.newest(model) > Time::default();
    let wanted = (all || asked || measures || expected)
        && !adapter.replicas.contains_key(&model)
        && (measures || eligible::takes(world, adapter, model))
        && (measures || !places::is_spare_copy(world, now, id, model))
        && estimates::bytes_of(world, id, model).saturating_mul(times)
            <= estimates::free_bytes(world, id);
    let quiet = Duration::from_secs_f64(estimates::load_time(world, id, model).min(LULL_MAX));
    let since = adapter.economy.workless.filter(|_| !expected);
    wanted.then(|| since.map_or(Time::default(), |since| since + quiet))
}

/// When the next load ahead is due that is not due yet.
pub(super) fn next_ahead(world: &World, now: Time) -> Option<Time> {
    let lacks = |adapter: &Adapter| {
        adapter.state().is_idle() && adapter.replicas.len() < world.models.len()
    };
    let lacking = world.adapters.iter().filter(|(_, a)| world.closing.is_none() && lacks(a));
    let models = || world.models.keys().copied();
    let all =
        lacking.flat_map(|(id, _)| models().filter_map(|model| ahead_at(world, now, *id, model)));
    all.filter(|at| *at > now).min()
}
