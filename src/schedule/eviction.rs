//! Choice of the models that stay in memory, by the rate of their requests.
//!
//! Without a model, each of its requests costs a load: `rate x load` seconds of loading per second,
//! and almost nothing if another adapter has the model too. Of all adapters that could take a new
//! model, the model with the least such cost per byte is removed. Rates are exponential averages
//! over an hour; after a long pause, the rate of a model is at most what the pause allows.

use super::adapter::Adapter;
use super::ids::{AdapterId, ModelId, Time};
use super::popularity::{AVERAGED, PAUSE};
use super::state::Replica;
use super::world::World;
use super::{eligible, estimates, start_cost};
use std::time::Duration;

/// Least number of requests that is assumed of a model over the time for which it was not used.
const SELDOM: f64 = 1e-3;
/// Share of its value that a model has if another adapter has it too.
const COPY: f64 = 0.05;
/// A replica that is used stays for at least this multiple of its load time, so that two models
/// that do not fit together alternate in turns worth their loads; an unused one stays for one load
/// time.
const RESIDENCE_LOADS: f64 = 4.0;
const RESIDENCE_MIN: f64 = 1.0;
const RESIDENCE_MAX: f64 = 3600.0;

/// Returns the replicas to remove so that the model fits, least valuable first; `None` if it cannot
/// fit now.
pub(super) fn victims(
    world: &World,
    now: Time,
    id: AdapterId,
    model: ModelId,
) -> Option<Vec<ModelId>> {
    let adapter = world.adapters.get(&id)?;
    let held = adapter.bytes();
    let budget = adapter.budget().unwrap_or(u64::MAX);
    // A model that would not fit even alone is tried after all others were removed.
    let missing =
        held.saturating_add(estimates::bytes_of(world, id, model)).saturating_sub(budget).min(held);
    // Signed: the last replica usually frees more than is missing.
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

/// Returns the replicas that have stayed long enough, least valuable first, with their bytes.
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

/// Returns the cost of removing a model from an adapter, in seconds of loading per second.
fn worth(world: &World, now: Time, id: AdapterId, model: ModelId) -> f64 {
    let replica = world.adapters.get(&id).and_then(|adapter| adapter.replicas.get(&model));
    let unused = replica.map_or(0.0, |replica| now.since(replica.used).as_secs_f64());
    // The added second keeps the value of a replica that was just used finite.
    let rate = world.popularity.rate(now, model).max(SELDOM / (unused + 1.0));
    let share = if is_elsewhere(world, id, model) { COPY } else { 1.0 };
    rate * estimates::load_time(world, id, model) * share
}

/// Returns the same cost of all `victims` together that were requested lately.
pub(super) fn loss(world: &World, now: Time, id: AdapterId, victims: &[ModelId]) -> f64 {
    let recent = victims.iter().filter(|model| world.popularity.is_recent(now, **model));
    // `sum` of an empty iterator is -0.0, and its bits are larger than those of any loss:
    // `plan.rs` orders slots by the bits.
    recent.map(|model| worth(world, now, id, *model)).fold(0.0, |sum, worth| sum + worth)
}

/// Returns the seconds that an idle adapter stays on for its models while other active adapters
/// have no memory for them: as long as requests for them would cost more without it than idling
/// does. Each such request would be late, and so would one for the model that it displaces.
fn wait_for_models(world: &World, id: AdapterId, since: Time) -> f64 {
    let Some(adapter) = world.adapters.get(&id) else { return 0.0 };
    let only = adapter.replicas.iter().filter(|(model, _)| {
        world.popularity.is_recent(since, **model) && !is_elsewhere(world, id, **model)
    });
    let bytes = only.clone().map(|(_, replica)| replica.bytes).fold(0, u64::saturating_add);
    let rate: f64 = only.map(|(model, _)| world.popularity.rate(since, *model)).sum();
    let watts = adapter.profile.power.idle_mw as f64 * 1e-3;
    let is_worth = rate > 0.0 && 2.0 * rate * start_cost::late_joules(world, 1.0) >= watts;
    let others = world.adapters.iter().any(|(other, a)| *other != id && a.state().serves());
    if others && is_worth && bytes > free_elsewhere(world, id, since) {
        (PAUSE / rate).min(AVERAGED)
    } else {
        0.0
    }
}

/// Returns the bytes on other active adapters that no recently requested model holds.
fn free_elsewhere(world: &World, id: AdapterId, at: Time) -> u64 {
    let others = world.adapters.iter().filter(|(other, a)| **other != id && a.state().is_on());
    let free = others.map(|(_, adapter)| {
        let recent = adapter.replicas.iter().filter(|it| world.popularity.is_recent(at, *it.0));
        let held = recent.map(|(_, replica)| replica.bytes).fold(0, u64::saturating_add);
        adapter.budget().unwrap_or(u64::MAX).saturating_sub(held)
    });
    free.fold(0, u64::saturating_add)
}

/// Returns whether another adapter has this model, or loads it.
fn is_elsewhere(world: &World, id: AdapterId, model: ModelId) -> bool {
    let has = |adapter: &Adapter| adapter.state().is_on() && adapter.holds(model);
    world.adapters.iter().any(|(other, adapter)| *other != id && has(adapter))
}

/// Returns whether this adapter would hold a second copy of the model while another model that it
/// could take, and that was requested lately, is on no adapter.
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

/// Returns whether the model would have to be loaded again at once.
pub(super) fn is_in_use(
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

/// Returns the time until which a replica stays regardless of other models.
pub(super) fn stays(world: &World, id: AdapterId, model: ModelId, replica: &Replica) -> Time {
    let turn = replica.loaded + Duration::from_secs_f64(residence(world, id, model));
    let load = estimates::load_time(world, id, model).clamp(RESIDENCE_MIN, RESIDENCE_MAX);
    turn.min(replica.used.max(replica.loaded) + Duration::from_secs_f64(load))
}

/// Returns the seconds that a replica stays if it is used.
fn residence(world: &World, id: AdapterId, model: ModelId) -> f64 {
    (estimates::load_time(world, id, model) * RESIDENCE_LOADS).clamp(RESIDENCE_MIN, RESIDENCE_MAX)
}

/// Keeps an adapter that would otherwise turn off on for its models, if that is worth its energy.
pub(super) fn keeps_models(world: &mut World, now: Time, id: AdapterId, idle_since: Time) -> bool {
    let kept =
        |adapter: &Adapter| adapter.economy.kept.is_some_and(|(since, _)| since == idle_since);
    // Once per idle period, so that the loop in `shrink_by_cost` ends.
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
