//! Turns adapters on and off: the common part of the policies, and the policy `concurrency`.

use super::action::Reject;
use super::adapter::Adapter;
use super::decision::{Change, Reason};
use super::event::AdapterMode;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::policy::{Load, Policy};
use super::settings::{Role, Settings};
use super::world::World;
use super::{cost, eligible, lifecycle, reliability, requests, wait};
use std::time::Duration;

/// Resumes or starts adapters until as many are on as the load needs.
pub(super) fn grow(world: &mut World, out: &mut Outbox, now: Time) {
    match world.settings.policy {
        Policy::Concurrency { target, .. } => grow_to_load(world, out, now, target),
        Policy::Cost { .. } => cost::grow_by_cost(world, out, now),
        Policy::Manual { .. } => return,
    }
    turn_on_for_unserved(world, out, now);
}

pub(super) fn grow_to_min(world: &mut World, out: &mut Outbox, now: Time) {
    if world.settings.min == 0 {
        return;
    }
    let (min, on) = (world.settings.min, eligible::counted_on(world));
    if world.closing.is_none() {
        turn_on_best(world, out, now, min.saturating_sub(on), Reason::Min { min, on });
    }
}

fn grow_to_load(world: &mut World, out: &mut Outbox, now: Time, target: u64) {
    let Load { rows, requests } = world.load();
    let (wanted, on) = (wanted(world, target), eligible::counted_on(world));
    let reason = Reason::Backlog { rows, requests, target, wanted, on };
    turn_on_best(world, out, now, wanted.saturating_sub(on), reason);
}

/// Turns on this many more adapters, the best first.
fn turn_on_best(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    mut missing: usize,
    reason: Reason,
) {
    // A draining adapter is warm: resuming it costs nothing, a start costs seconds.
    for draining in [true, false] {
        for id in world.best_first() {
            if missing == 0 {
                return;
            }
            let helps = eligible::is_eligible(world, id) && helps(world, id);
            if helps && lifecycle::turn_on(world, out, now, id, draining, reason) {
                missing -= 1;
            }
        }
    }
}

/// Turns on one more adapter for a model that no active one can hold.
fn turn_on_for_unserved(world: &mut World, out: &mut Outbox, now: Time) {
    // The policy has already chosen the adapter for the waiting rows, and the time of its start.
    if world.start_at.is_some() {
        return;
    }
    let is_unserved = |(model, _): &(ModelId, u64)| {
        let serves = |(id, a): (&AdapterId, &Adapter)| {
            a.state().is_on()
                && eligible::takes(world, a, *model)
                && !reliability::must_shadow(world, *id, a, *model)
        };
        !world.adapters.iter().any(serves)
    };
    let unserved: Vec<_> = world.queue.waiting().filter(is_unserved).collect();
    for (model, rows) in unserved {
        if eligible::on(world) > 0 && eligible::on(world) >= world.settings.max {
            requests::reject_all(world, out, world.queue.ids_of(model), Reject::NoneHolds);
        } else {
            turn_on_for_model(world, out, now, model, rows);
        }
    }
}

fn turn_on_for_model(world: &mut World, out: &mut Outbox, now: Time, model: ModelId, rows: u64) {
    let reason = Reason::Demand { rows };
    for id in world.best_first() {
        let helps = |adapter| reliability::helps_with(world, adapter, model);
        let eligible =
            eligible::is_eligible(world, id) && world.adapters.get(&id).is_some_and(helps);
        if eligible
            && (lifecycle::turn_on(world, out, now, id, true, reason)
                || lifecycle::turn_on(world, out, now, id, false, reason))
        {
            return;
        }
    }
}

/// Starts the adapters in mode `on`.
pub(super) fn turn_on_by_mode(world: &mut World, out: &mut Outbox, now: Time) {
    if world.closing.is_some() {
        return;
    }
    for id in world.best_first() {
        let is_off = |a: &&Adapter| a.state().is_off() || a.state().is_draining();
        let adapter = world.adapters.get(&id).filter(is_off);
        if adapter.is_some_and(|a| a.mode == AdapterMode::On && a.present) {
            let _ = lifecycle::turn_on(world, out, now, id, true, Reason::Operator)
                || lifecycle::turn_on(world, out, now, id, false, Reason::Operator);
        }
    }
}

/// Begins draining adapters that must not be on, regardless of the load; returns whether it did.
pub(super) fn drain_forbidden(world: &mut World, out: &mut Outbox, now: Time) -> bool {
    let mut any = false;
    for id in world.best_first() {
        if let Some(reason) = forbidden_reason(world, id) {
            lifecycle::begin_draining(world, out, now, id, reason);
            any = true;
        }
    }
    any
}

/// Begins draining the worst adapters if more are on for the load than a lowered `max` permits.
fn drain_to_max(world: &mut World, out: &mut Outbox, now: Time) {
    let spare = |a: &Adapter| eligible::counts_as_on(world, a) && a.mode == AdapterMode::Auto;
    let mut worst = world.order.iter().rev().copied().collect::<Vec<_>>();
    worst.retain(|id| world.adapters.get(id).is_some_and(spare));
    worst.truncate(eligible::counted_on(world).saturating_sub(world.settings.max));
    for id in worst {
        lifecycle::begin_draining(world, out, now, id, Reason::Operator);
    }
}

/// Stops workers without waiting for their batches once the grace period of the shutdown is over.
pub(super) fn stop_at_deadline(world: &mut World, out: &mut Outbox, now: Time) {
    if world.closing.is_none_or(|deadline| deadline > now) {
        return;
    }
    for id in world.best_first() {
        let Some(adapter) = world.adapters.get(&id) else { continue };
        if adapter.state().is_on() {
            out.decide(now, id, Change::Drain, Reason::Shutdown);
            lifecycle::stop_worker(world, out, now, id);
        } else if adapter.state().is_draining() {
            lifecycle::stop_worker(world, out, now, id);
        }
    }
}

/// Begins draining one superfluous adapter; returns whether it did.
pub(super) fn shrink(world: &mut World, out: &mut Outbox, now: Time) -> bool {
    match world.settings.policy {
        Policy::Concurrency { target, .. } => shrink_to_load(world, out, now, target),
        Policy::Cost { .. } => wait::shrink_by_cost(world, out, now),
        Policy::Manual { .. } => false,
    }
}

/// Records that the load again needs the surplus.
pub(super) fn end_surplus(world: &mut World) {
    if let Policy::Concurrency { target, .. } = world.settings.policy
        && world.surplus_since.is_some()
        && surplus(world, target).is_none()
    {
        world.surplus_since = None;
    }
}

/// Begins draining one adapter after a lasting surplus.
fn shrink_to_load(world: &mut World, out: &mut Outbox, now: Time, target: u64) -> bool {
    let Some(slowest) = surplus(world, target) else {
        world.surplus_since = None;
        return false;
    };
    let since = *world.surplus_since.get_or_insert(now);
    if now < since + shrink_delay(world) {
        return false;
    }
    let (rows, lasted) = (world.load().rows, now.since(since));
    let (wanted, on) = (wanted(world, target), eligible::on(world));
    lifecycle::begin_draining(
        world,
        out,
        now,
        slowest,
        Reason::IdleSurplus { rows, wanted, on, lasted },
    );
    // The next adapter waits for the whole delay again.
    world.surplus_since = surplus(world, target).map(|_| now);
    true
}

pub(super) fn configure(world: &mut World, out: &mut Outbox, now: Time, settings: Settings) {
    world.queue.set_limits(&settings);
    world.settings = settings;
    // The policy may have been changed.
    (world.start_at, world.surplus_since) = (None, None);
    drain_to_max(world, out, now);
}

/// Returns whether an adapter can hold any of the models with waiting rows, if there are any.
fn helps(world: &World, id: AdapterId) -> bool {
    let Some(adapter) = world.adapters.get(&id) else { return false };
    let mut waiting = world.queue.waiting().peekable();
    waiting.peek().is_none()
        || waiting.any(|(model, _)| reliability::helps_with(world, adapter, model))
}

/// Returns the reason why this adapter must not be on, regardless of the load.
fn forbidden_reason(world: &World, id: AdapterId) -> Option<Reason> {
    let adapter = world.adapters.get(&id).filter(|adapter| adapter.state().is_on())?;
    if world.closing.is_some() && world.queue.len() == 0 {
        return Some(Reason::Shutdown);
    }
    if adapter.excluded {
        return Some(Reason::Operator);
    }
    match adapter.mode {
        AdapterMode::Off => Some(Reason::Operator),
        AdapterMode::On => None,
        AdapterMode::Auto => {
            // An adapter that may fail at its next load is not a replacement.
            let serving = |other: &Adapter| {
                other.profile.role == Role::Regular
                    && other.state().is_on()
                    && !other.replicas.is_empty()
            };
            let replaced =
                adapter.profile.role == Role::Fallback && world.adapters.values().any(serving);
            replaced.then_some(Reason::Fallback)
        }
    }
}

/// Returns the earliest time at which an adapter may begin draining in the present state.
pub(super) fn shrink_at(world: &World) -> Option<Time> {
    match world.settings.policy {
        Policy::Concurrency { .. } => world.surplus_since.map(|since| since + shrink_delay(world)),
        Policy::Cost { .. } => wait::dispensable(world).map(|go| go.until),
        Policy::Manual { .. } => None,
    }
}

/// Returns the adapter to drain next, if more are on than wanted: the slowest one that the operator
/// does not keep on. A starting one may finish first, because its warm-up is already paid for.
fn surplus(world: &World, target: u64) -> Option<AdapterId> {
    let wanted = wanted(world, target);
    // A bridge turns off when it is replaced, not before.
    let going = |a: &&Adapter| a.state().is_on() && !eligible::stays_as_bridge(world, a);
    let on = match wanted {
        0 => world.adapters.values().filter(going).count(),
        _ => eligible::counted_on(world),
    };
    if on <= wanted {
        return None;
    }
    let free = |id: &&AdapterId| {
        let auto = |a: &Adapter| a.state().is_on() && a.mode == AdapterMode::Auto;
        world.adapters.get(id).is_some_and(|a| auto(a) && !eligible::stays_as_bridge(world, a))
    };
    let slowest = world.order.iter().rev().find(free).copied()?;
    world.adapters.get(&slowest).filter(|a| !a.state().warms_up()).map(|_| slowest)
}

/// Returns the duration of a surplus before the next adapter begins draining.
fn shrink_delay(world: &World) -> Duration {
    match world.settings.policy {
        Policy::Concurrency { scale_to_zero_delay, .. } if eligible::on(world) == 1 => {
            scale_to_zero_delay
        }
        Policy::Concurrency { scale_down_delay, .. } => scale_down_delay,
        Policy::Cost { .. } | Policy::Manual { .. } => Duration::ZERO,
    }
}

/// Returns the number of adapters that the `concurrency` policy wants on.
fn wanted(world: &World, target: u64) -> usize {
    if world.closing.is_some() && world.queue.len() == 0 {
        return 0;
    }
    world.load().adapters(target, world.settings.min, world.settings.max)
}
