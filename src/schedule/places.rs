//! Which models keep their places in memory, by how often they are asked for.
//!
//! Being without a model costs its load at each request: `rate x load` seconds of loading per
//! second, and next to nothing where another adapter has it too. The model goes that costs least per
//! byte, of all adapters that could take the new one. Rates are exponential averages over an hour;
//! after a long pause a model counts as one that is asked for no more often than the pause says.

use super::adapter::Adapter;
use super::ids::{AdapterId, ModelId, Time};
use super::popularity::{AVERAGED, PAUSE};
use super::state::Replica;
use super::world::World;
use super::{eligible, estimates, start_price};
use std::time::Duration;

/// A model that nobody asked for counts as one that is asked for so many times in as long as it was
/// not used.
const SELDOM: f64 = 1e-3;
/// What a model is worth that another adapter has too, as a share.
const COPY: f64 = 0.05;
/// A replica that is used stays at least so many times as long as it takes to load, so that two
/// models that do not fit together take turns that are worth it; one that is not, only as long as
/// that.
const RESIDENCE_LOADS: f64 = 4.0;
const RESIDENCE_MIN: f64 = 1.0;
const RESIDENCE_MAX: f64 = 3600.0;

/// The replicas to drop so that the model fits, least valuable first; `None` if it cannot be
/// made to fit now.
pub(super) fn victims(
    world: &World,
    now: Time,
    id: AdapterId,
    model: ModelId,
) -> Option<Vec<ModelId>> {
    let adapter = world.adapters.get(&id)?;
    let held = adapter.bytes();
    let budget = adapter.budget().unwrap_or(u64::MAX);
    // What would not fit alone is only tried: then all others go.
    let missing =
        held.saturating_add(estimates::bytes_of(world, id, model)).saturating_sub(budget).min(held);
    let mut missing = i128::from(missing);
    if missing == 0 {
        return Some(Vec::new());
    }
    let mut victims = Vec::new();
    for (victim, bytes) in old_replicas(world, now, (id, adapter)) {
        if missing <= 0 {
            break;
        }
        missing -= i128::from(bytes);
        victims.push(victim);
    }
    (missing <= 0).then_some(victims)
}

/// Replicas that have stayed long enough, least valuable first, with their bytes.
pub(super) fn old_replicas(
    world: &World,
    now: Time,
    (id, adapter): (AdapterId, &Adapter),
) -> Vec<(ModelId, u64)> {
    let over = |(other, replica): &(&ModelId, &Replica)| stays(world, id, **other, replica) <= now;
    let value = |(model, replica): (&ModelId, &Replica)| {
        let worth = worth(world, now, id, *model) / replica.bytes.max(1) as f64;
        (worth, replica.used, *model, replica.bytes)
    };
    let mut old: Vec<_> = adapter.replicas.iter().filter(over).map(value).collect();
    old.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    old.into_iter().map(|(_, _, model, bytes)| (model, bytes)).collect()
}

/// Seconds of loading per second that it would cost to be without a model that an adapter has.
fn worth(world: &World, now: Time, id: AdapterId, model: ModelId) -> f64 {
    let replica = world.adapters.get(&id).and_then(|adapter| adapter.replicas.get(&model));
    let unused = replica.map_or(0.0, |replica| now.since(replica.used).as_secs_f64());
    let rate = world.popularity.rate(now, model).max(SELDOM / (unused + 1.0));
    let share = if is_elsewhere(world, id, model) { COPY } else { 1.0 };
    rate * estimates::load_time(world, id, model) * share
}

/// The same of all that have to go, if they were asked for lately.
pub(super) fn loss(world: &World, now: Time, id: AdapterId, victims: &[ModelId]) -> f64 {
    let recent = victims.iter().filter(|model| world.popularity.is_recent(now, **model));
    recent.map(|model| worth(world, now, id, *model)).fold(0.0, |sum, worth| sum + worth)
}

/// Seconds that an idle adapter stays for its models while others that are on have no memory
/// for them: as long as requests for them would cost more without it than it takes to idle. Each
/// is late then, and so is one for the model that has to make room for it.
fn wait_for_models(world: &World, id: AdapterId, since: Time) -> f64 {
    let Some(adapter) = world.adapters.get(&id) else { return 0.0 };
    let only = adapter.replicas.iter().filter(|(model, _)| {
        world.popularity.is_recent(since, **model) && !is_elsewhere(world, id, **model)
    });
    let bytes = only.clone().map(|(_, replica)| replica.bytes).fold(0, u64::saturating_add);
    let rate: f64 = only.map(|(model, _)| world.popularity.rate(since, *model)).sum();
    let watts = adapter.profile.power.idle_mw as f64 * 1e-3;
    let is_worth = rate > 0.0 && 2.0 * rate * start_price::late_joules(world, 1.0) >= watts;
    let others = world.adapters.iter().any(|(other, a)| *other != id && a.state().serves());
    if others && is_worth && bytes > free_elsewhere(world, id, since) {
        (PAUSE / rate).min(AVERAGED)
    } else {
        0.0
    }
}

/// Bytes of other adapters that are on which no model holds that was asked for lately.
fn free_elsewhere(world: &World, id: AdapterId, at: Time) -> u64 {
    let others = world.adapters.iter().filter(|(other, a)| **other != id && a.state().is_on());
    let free = others.map(|(_, adapter)| {
        let recent = adapter.replicas.iter().filter(|it| world.popularity.is_recent(at, *it.0));
        let held = recent.map(|(_, replica)| replica.bytes).fold(0, u64::saturating_add);
        adapter.budget().unwrap_or(u64::MAX).saturating_sub(held)
    });
    free.fold(0, u64::saturating_add)
}

/// Whether another adapter has this model, or loads it.
fn is_elsewhere(world: &World, id: AdapterId, model: ModelId) -> bool {
    let has = |adapter: &Adapter| adapter.state().is_on() && adapter.holds(model);
    world.adapters.iter().any(|(other, adapter)| *other != id && has(adapter))
}

/// Whether a model would be on this adapter for the second time while another that this adapter
/// could take, and that was asked for lately, is nowhere.
pub(super) fn is_spare_copy(world: &World, now: Time, id: AdapterId, model: ModelId) -> bool {
    let Some(adapter) = world.adapters.get(&id) else { return false };
    let nowhere = |other: ModelId| {
        world.popularity.is_recent(now, other)
            && !adapter.holds(other)
            && !is_elsewhere(world, id, other)
            && eligible::takes(world, adapter, other)
    };
    let others = world.models.keys().filter(|other| **other != model);
    is_elsewhere(world, id, model) && others.copied().any(nowhere)
}

/// Whether a model would be wanted back at once.
pub(super) fn is_missed(
    world: &World,
    now: Time,
    id: AdapterId,
    adapter: &Adapter,
    model: ModelId,
) -> bool {
    let Some(replica) = adapter.replicas.get(&model) else { return false };
    let recent = residence(world, id, model);
    world.queue.rows_of(model) > 0 || now.since(replica.used).as_secs_f64() < recent
}

/// Until when a replica stays whatever others want.
pub(super) fn stays(world: &World, id: AdapterId, model: ModelId, replica: &Replica) -> Time {
    let turn = replica.loaded + Duration::from_secs_f64(residence(world, id, model));
    let load = estimates::load_time(world, id, model).clamp(RESIDENCE_MIN, RESIDENCE_MAX);
    turn.min(replica.used.max(replica.loaded) + Duration::from_secs_f64(load))
}

/// Seconds that a replica stays if it is used.
fn residence(world: &World, id: AdapterId, model: ModelId) -> f64 {
    (estimates::load_time(world, id, model) * RESIDENCE_LOADS).clamp(RESIDENCE_MIN, RESIDENCE_MAX)
}

/// Keeps an adapter that would go on for its models, if that is worth it.
pub(super) fn keeps_models(world: &mut World, now: Time, id: AdapterId, idle_since: Time) -> bool {
    let kept =
        |adapter: &Adapter| adapter.economy.kept.is_some_and(|(since, _)| since == idle_since);
    if world.adapters.get(&id).is_none_or(kept) {
        return false;
    }
    let seconds = wait_for_models(world, id, idle_since);
    let keeps = idle_since + Duration::from_secs_f64(seconds) > now;
    if let Some(adapter) = world.adapters.get_mut(&id).filter(|_| keeps) {
        adapter.economy.kept = Some((idle_since, seconds));
    }
    keeps
}
