//! Turns adapters on and off: what the policies share, and the policy `concurrency`.

use super::action::Reject;
use super::adapter::Adapter;
use super::decision::{Change, Reason};
use super::event::Wish;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::policy::{Load, Policy};
use super::settings::{Role, Settings};
use super::world::World;
use super::{cost, eligible, lifecycle, requests, trust, wait};
use std::time::Duration;

/// Resumes or starts adapters until as many are on as the load wants.
pub(super) fn grow(world: &mut World, out: &mut Outbox, now: Time) {
    match world.settings.policy {
        Policy::Concurrency { target, .. } => grow_to_load(world, out, now, target),
        Policy::Cost { .. } => cost::grow_by_cost(world, out, now),
        Policy::ByHand { .. } => return,
    }
    feed_starving(world, out, now);
}

pub(super) fn grow_to_min(world: &mut World, out: &mut Outbox, now: Time) {
    if world.settings.min == 0 {
        return;
    }
    let (min, on) = (world.settings.min, eligible::on_for_good(world));
    if world.closing.is_none() {
        turn_on_best(world, out, now, min.saturating_sub(on), Reason::Min { min, on });
    }
}

fn grow_to_load(world: &mut World, out: &mut Outbox, now: Time, target: u64) {
    let Load { rows, requests } = world.load();
    let (wanted, on) = (wanted(world, target), eligible::on_for_good(world));
    let reason = Reason::Backlog { rows, requests, target, wanted, on };
    turn_on_best(world, out, now, wanted.saturating_sub(on), reason);
}

/// Turns on so many more, the best first.
fn turn_on_best(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    mut missing: usize,
    reason: Reason,
) {
    // A draining adapter is warm: taking it back costs nothing, a start costs seconds.
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

/// Brings on one more adapter for a model that none of those on can hold.
fn feed_starving(world: &mut World, out: &mut Outbox, now: Time) {
    // The policy has chosen who will be started for what waits, and when.
    if world.start_at.is_some() {
        return;
    }
    let starves = |(model, _): &(ModelId, u64)| {
        let serves = |(id, a): (&AdapterId, &Adapter)| {
            a.state().is_on()
                && eligible::takes(world, a, *model)
                && !trust::is_on_trial(world, *id, a, *model)
        };
        !world.adapters.iter().any(serves)
    };
    let starving: Vec<_> = world.queue.waiting().filter(starves).collect();
    for (model, rows) in starving {
        if eligible::on(world) > 0 && eligible::on(world) >= world.settings.max {
            requests::reject_all(world, out, world.queue.ids_of(model), Reject::NoneHolds);
        } else {
            feed(world, out, now, model, rows);
        }
    }
}

fn feed(world: &mut World, out: &mut Outbox, now: Time, model: ModelId, rows: u64) {
    let reason = Reason::Demand { rows };
    for id in world.best_first() {
        let helps = |adapter| trust::helps_with(world, adapter, model);
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

/// Starts what the operator wants on.
pub(super) fn obey_on(world: &mut World, out: &mut Outbox, now: Time) {
    if world.closing.is_some() {
        return;
    }
    for id in world.best_first() {
        let sleeps = |a: &&Adapter| a.state().is_off() || a.state().is_draining();
        let adapter = world.adapters.get(&id).filter(sleeps);
        if adapter.is_some_and(|a| a.wish == Wish::On && a.present) {
            let _ = lifecycle::turn_on(world, out, now, id, true, Reason::Operator)
                || lifecycle::turn_on(world, out, now, id, false, Reason::Operator);
        }
    }
}

/// Lets adapters go that must not be on, whatever the load; tells whether it did.
pub(super) fn expel(world: &mut World, out: &mut Outbox, now: Time) -> bool {
    let mut any = false;
    for id in world.best_first() {
        if let Some(reason) = unwelcome(world, id) {
            lifecycle::let_go(world, out, now, id, reason);
            any = true;
        }
    }
    any
}

/// Lets the worst go if more are on for the load's sake than may be: the bound was lowered.
fn fall_to_max(world: &mut World, out: &mut Outbox, now: Time) {
    let spare = |a: &Adapter| eligible::is_on_for_good(world, a) && a.wish == Wish::Auto;
    let mut worst = world.order.iter().rev().copied().collect::<Vec<_>>();
    worst.retain(|id| world.adapters.get(id).is_some_and(spare));
    worst.truncate(eligible::on_for_good(world).saturating_sub(world.settings.max));
    for id in worst {
        lifecycle::let_go(world, out, now, id, Reason::Operator);
    }
}

/// Once the grace period is over nobody waits for the end of a batch.
pub(super) fn cut(world: &mut World, out: &mut Outbox, now: Time) {
    if world.closing.is_none_or(|deadline| deadline > now) {
        return;
    }
    for id in world.best_first() {
        let Some(adapter) = world.adapters.get(&id) else { continue };
        if adapter.state().is_on() {
            out.decide(now, id, Change::Drain, Reason::Shutdown);
            lifecycle::ask_to_stop(world, out, now, id);
        } else if adapter.state().is_draining() {
            lifecycle::ask_to_stop(world, out, now, id);
        }
    }
}

/// Lets one adapter go that is no longer needed; tells whether it did.
pub(super) fn shrink(world: &mut World, out: &mut Outbox, now: Time) -> bool {
    match world.settings.policy {
        Policy::Concurrency { target, .. } => shrink_to_load(world, out, now, target),
        Policy::Cost { .. } => wait::shrink_by_cost(world, out, now),
        Policy::ByHand { .. } => false,
    }
}

/// Notes that the load has taken up what was a surplus.
pub(super) fn end_surplus(world: &mut World) {
    if let Policy::Concurrency { target, .. } = world.settings.policy
        && world.surplus_since.is_some()
        && surplus(world, target).is_none()
    {
        world.surplus_since = None;
    }
}

/// Lets one adapter go after a lasting surplus.
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
    lifecycle::let_go(world, out, now, slowest, Reason::IdleSurplus { rows, wanted, on, lasted });
    world.surplus_since = surplus(world, target).map(|_| now);
    true
}

pub(super) fn configure(world: &mut World, out: &mut Outbox, now: Time, settings: Settings) {
    world.queue.set_limits(&settings);
    world.settings = settings;
    // Another policy may be in force.
    (world.start_at, world.surplus_since) = (None, None);
    fall_to_max(world, out, now);
}

/// Whether an adapter can hold any of the models that are waited for, if any are.
fn helps(world: &World, id: AdapterId) -> bool {
    let Some(adapter) = world.adapters.get(&id) else { return false };
    let mut waiting = world.queue.waiting().peekable();
    waiting.peek().is_none() || waiting.any(|(model, _)| trust::helps_with(world, adapter, model))
}

/// Why this adapter must not be on, whatever the load.
fn unwelcome(world: &World, id: AdapterId) -> Option<Reason> {
    let adapter = world.adapters.get(&id).filter(|adapter| adapter.state().is_on())?;
    if world.closing.is_some() && world.queue.len() == 0 {
        return Some(Reason::Shutdown);
    }
    if adapter.excluded {
        return Some(Reason::Operator);
    }
    match adapter.wish {
        Wish::Off => Some(Reason::Operator),
        Wish::On => None,
        Wish::Auto => {
            // One that may fail at its next load replaces nobody.
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

/// When an adapter may next be let go, as things stand.
pub(super) fn shrink_at(world: &World) -> Option<Time> {
    match world.settings.policy {
        Policy::Concurrency { .. } => world.surplus_since.map(|since| since + shrink_delay(world)),
        Policy::Cost { .. } => wait::dispensable(world).map(|go| go.until),
        Policy::ByHand { .. } => None,
    }
}

/// The adapter to let go next, if more are on than wanted: the slowest one that the operator
/// does not hold. One that is starting is let to finish first: its warm-up is paid for.
fn surplus(world: &World, target: u64) -> Option<AdapterId> {
    let wanted = wanted(world, target);
    // One that stands in goes when it is replaced, not before.
    let going = |a: &&Adapter| a.state().is_on() && !eligible::stays_as_bridge(world, a);
    let on = match wanted {
        0 => world.adapters.values().filter(going).count(),
        _ => eligible::on_for_good(world),
    };
    if on <= wanted {
        return None;
    }
    let free = |id: &&AdapterId| {
        let auto = |a: &Adapter| a.state().is_on() && a.wish == Wish::Auto;
        world.adapters.get(id).is_some_and(|a| auto(a) && !eligible::stays_as_bridge(world, a))
    };
    let slowest = world.order.iter().rev().find(free).copied()?;
    world.adapters.get(&slowest).filter(|a| !a.state().warms_up()).map(|_| slowest)
}

/// How long a surplus must last before the next adapter goes.
fn shrink_delay(world: &World) -> Duration {
    match world.settings.policy {
        Policy::Concurrency { scale_to_zero_delay, .. } if eligible::on(world) == 1 => {
            scale_to_zero_delay
        }
        Policy::Concurrency { scale_down_delay, .. } => scale_down_delay,
        Policy::Cost { .. } | Policy::ByHand { .. } => Duration::ZERO,
    }
}

/// How many adapters the `concurrency` policy wants on.
fn wanted(world: &World, target: u64) -> usize {
    if world.closing.is_some() && world.queue.len() == 0 {
        return 0;
    }
    world.load().adapters(target, world.settings.min, world.settings.max)
}
