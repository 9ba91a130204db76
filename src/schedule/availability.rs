//! Whether a request can be served, now or after a start.

use super::action::Reject;
use super::adapter::Adapter;
use super::event::Wish;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::state::Lifecycle;
use super::world::World;
use super::{eligible, estimates, quarantine, requests, trust};
use std::mem;
use std::time::Duration;

/// Whether a request for any model can be served, now or after a start.
pub(super) fn is_ready(world: &World, now: Time) -> bool {
    let hopeful = |adapter: &Adapter| is_hopeful(world, now, adapter);
    world.closing.is_none() && world.adapters.values().any(hopeful)
}

/// Whether a request for this model can be served, now or after a start.
pub(super) fn is_model_ready(world: &World, now: Time, model: ModelId) -> bool {
    world.closing.is_none() && world.models.contains_key(&model) && can_load(world, now, model)
}

/// Whether some adapter may load this model, soon enough for a request to wait for it.
fn can_load(world: &World, now: Time, model: ModelId) -> bool {
    world.adapters.iter().any(|(id, adapter)| {
        let comes = adapter.state().is_on()
            || adapter.wish == Wish::On
            || eligible::is_eligible(world, *id);
        let patience = now + world.settings.patience;
        let room = adapter.crowded.get(&model).is_none_or(|until| {
            *until <= patience && adapter.strikes <= world.settings.retries_max.max(1)
        });
        comes
            && room
            && is_hopeful(world, now, adapter)
            && estimates::may_take(world, adapter, model)
    })
}

/// Whether this adapter may serve, soon enough for a request to wait for it.
fn is_hopeful(world: &World, now: Time, adapter: &Adapter) -> bool {
    let patience = world.settings.patience;
    // Who has failed again and again is not waited for any more, however soon it is tried.
    let trusted = trust::is_trusted(world, adapter);
    // Requests wait for a second attempt to start a process, not for a third.
    let starts = !world.starts_blocked || world.failed_starts < 2;
    adapter.is_there()
        && adapter.wish != Wish::Off
        && match adapter.state().lifecycle {
            Lifecycle::Unreaped { .. } => false,
            Lifecycle::Quarantined { until, .. } => starts && trusted && until <= now + patience,
            Lifecycle::Stopping { fault: Some(_), .. } => {
                starts && trusted && quarantine::backoff(world, adapter.strikes) <= patience
            }
            Lifecycle::Off | Lifecycle::Stopping { fault: None, .. } => starts,
            Lifecycle::Starting { .. } | Lifecycle::On | Lifecycle::Draining => true,
        }
}

/// Whether this adapter is worth waiting for although others have failed again and again.
fn is_promising(world: &World, now: Time, id: AdapterId, adapter: &Adapter) -> bool {
    let state = adapter.state();
    let comes = state.is_on() || adapter.wish == Wish::On || eligible::is_eligible(world, id);
    let serves = state.serves() && !adapter.replicas.is_empty();
    is_hopeful(world, now, adapter) && (serves || (comes && trust::is_trusted(world, adapter)))
}

/// How long until some quarantined adapter is tried again.
fn retry_after(world: &World, now: Time) -> Option<Duration> {
    let tried_again = world.adapters.values().filter(|a| a.present && a.wish != Wish::Off);
    let tried_again = tried_again.filter_map(|adapter| match adapter.state().lifecycle {
        Lifecycle::Quarantined { until, .. } => Some(until.since(now)),
        Lifecycle::Stopping { fault: Some(_), .. } => {
            Some(quarantine::backoff(world, adapter.strikes))
        }
        _ => None,
    });
    tried_again.min()
}

/// Turns away what can no longer be served.
pub(super) fn reject_hopeless(world: &mut World, out: &mut Outbox, now: Time) {
    let failed_again = mem::take(&mut world.failed_again);
    if world.closing.is_some_and(|deadline| deadline <= now) {
        return requests::reject_all(world, out, world.queue.all_ids(), Reject::ShuttingDown);
    }
    if world.queue.len() == 0 {
        return;
    }
    if !world.discovered {
        return;
    }
    let tries_on = || world.adapters.iter().any(|(id, a)| is_promising(world, now, *id, a));
    let hopeful = world.adapters.values().any(|adapter| is_hopeful(world, now, adapter));
    if !hopeful || (failed_again && !tries_on()) {
        let retry_after = retry_after(world, now);
        return requests::reject_all(
            world,
            out,
            world.queue.ids(),
            Reject::NoAdapter { retry_after },
        );
    }
    let lost = |model: &ModelId| !can_load(world, now, *model);
    let waiting = world.queue.waiting().map(|(model, _)| model);
    let lost: Vec<ModelId> = waiting.filter(lost).collect();
    for model in lost {
        requests::reject_all(world, out, world.queue.ids_of(model), Reject::ModelFailed);
    }
}
