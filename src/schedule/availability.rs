//! Availability of models: which requests can be served, now or after a start.

use super::action::Reject;
use super::adapter::Adapter;
use super::event::AdapterMode;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::state::Lifecycle;
use super::world::World;
use super::{eligible, estimates, quarantine, reliability, requests};
use std::mem;
use std::time::Duration;

/// Returns true if a request for any model can be served, now or after a start.
pub(super) fn is_ready(world: &World, now: Time) -> bool {
    let usable = |adapter: &Adapter| may_serve_soon(world, now, adapter);
    world.closing.is_none() && world.adapters.values().any(usable)
}

/// Returns true if a request for this model can be served, now or after a start.
pub(super) fn is_model_ready(world: &World, now: Time, model: ModelId) -> bool {
    world.closing.is_none() && world.models.contains_key(&model) && can_load(world, now, model)
}

/// Returns true if some adapter may load this model soon enough for a request to wait for it.
fn can_load(world: &World, now: Time, model: ModelId) -> bool {
    world.adapters.iter().any(|(id, adapter)| {
        let comes = adapter.state().is_on()
            || adapter.mode == AdapterMode::On
            || eligible::is_eligible(world, *id);
        let quarantine_wait_max = now + world.settings.quarantine_wait_max;
        // The bound on the faults: with short backoffs requests waited without end for an adapter
        // that never had enough memory.
        let room = adapter.no_memory_until.get(&model).is_none_or(|until| {
            *until <= quarantine_wait_max
                && adapter.consecutive_faults <= world.settings.retries_max.max(1)
        });
        comes
            && room
            && may_serve_soon(world, now, adapter)
            && estimates::may_take(world, adapter, model)
    })
}

/// Returns true if this adapter may serve soon enough for a request to wait for it.
fn may_serve_soon(world: &World, now: Time, adapter: &Adapter) -> bool {
    let quarantine_wait_max = world.settings.quarantine_wait_max;
    // Requests do not wait for an adapter that failed repeatedly, however soon its next start is.
    let reliable = reliability::is_reliable(world, adapter);
    // Requests wait for a second attempt to start a process, but not for a third.
    let starts = !world.starts_blocked || world.failed_starts < 2;
    adapter.is_available()
        && adapter.mode != AdapterMode::Off
        && match adapter.state().lifecycle {
            Lifecycle::Unreaped { .. } => false,
            Lifecycle::Quarantined { until, .. } => {
                starts && reliable && until <= now + quarantine_wait_max
            }
            Lifecycle::Stopping { fault: Some(_), .. } => {
                starts
                    && reliable
                    && quarantine::backoff(world, adapter.consecutive_faults) <= quarantine_wait_max
            }
            Lifecycle::Off | Lifecycle::Stopping { fault: None, .. } => starts,
            Lifecycle::Starting { .. } | Lifecycle::On | Lifecycle::Draining => true,
        }
}

/// Returns true if requests should wait for this adapter although others failed repeatedly.
fn is_worth_waiting_for(world: &World, now: Time, id: AdapterId, adapter: &Adapter) -> bool {
    let state = adapter.state();
    let comes =
        state.is_on() || adapter.mode == AdapterMode::On || eligible::is_eligible(world, id);
    let serves = state.serves() && !adapter.replicas.is_empty();
    may_serve_soon(world, now, adapter)
        && (serves || (comes && reliability::is_reliable(world, adapter)))
}

/// Returns the time until the first end of a quarantine.
fn retry_after(world: &World, now: Time) -> Option<Duration> {
    let tried_again = world.adapters.values().filter(|a| a.present && a.mode != AdapterMode::Off);
    let tried_again = tried_again.filter_map(|adapter| match adapter.state().lifecycle {
        Lifecycle::Quarantined { until, .. } => Some(until.since(now)),
        Lifecycle::Stopping { fault: Some(_), .. } => {
            Some(quarantine::backoff(world, adapter.consecutive_faults))
        }
        _ => None,
    });
    tried_again.min()
}

/// Rejects requests that can no longer be served.
pub(super) fn reject_unservable(world: &mut World, out: &mut Outbox, now: Time) {
    // Taken in any case: this failure must not reject requests of a later event.
    let failed_again = mem::take(&mut world.failed_again);
    if world.closing.is_some_and(|deadline| deadline <= now) {
        return requests::reject_all(world, out, world.queue.all_ids(), Reject::ShuttingDown);
    }
    if world.queue.len() == 0 {
        return;
    }
    // Before the first listing it is unknown whether there is an adapter, so that requests wait.
    if !world.discovered {
        return;
    }
    let any_worth_waiting_for =
        || world.adapters.iter().any(|(id, a)| is_worth_waiting_for(world, now, *id, a));
    let usable = world.adapters.values().any(|adapter| may_serve_soon(world, now, adapter));
    if !usable || (failed_again && !any_worth_waiting_for()) {
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
