//! Starts an adapter just before the expected request of a client that sends requests regularly,
//! and turns it off in between: see `client_pattern.rs`.
//!
//! Patterns are kept for the most recent clients of each model, and for all requests together.
//! `early_stop.rs` turns idle adapters off until the expected time.

use super::adapter::Adapter;
use super::client_pattern::Costs;
use super::decision::Reason;
use super::economy::Expected;
use super::expected::{Key, Plan};
use super::ids::{AdapterId, ClientId, ModelId, Time};
use super::outbox::Outbox;
use super::policy::Policy;
use super::settings::Role;
use super::world::World;
use super::{
    early_stop, eligible, energy_rank, estimates, expected, lifecycle, slots, start_cost, target,
    wait,
};

/// A request was admitted.
pub(super) fn record_arrival(world: &mut World, now: Time, model: ModelId, client: ClientId) {
    if !is_enabled(world) {
        return;
    }
    let serves =
        |adapter: &Adapter| adapter.state().serves() && adapter.profile.role == Role::Regular;
    let serves = world.adapters.values().any(serves);
    for key in [None, Some((model, client))] {
        let entry = world.clients.entry(key, model);
        (entry.model, entry.missed_announcements) = (model, 0);
        entry.last_seen = now.0.as_secs_f64();
        let ready = serves || entry.plan.is_some_and(|plan| plan.start_at.is_none());
        let begins = entry.pattern.arrived(now, ready);
        entry.arrived(now, begins);
    }
}

/// A request was answered, late because of a start or not.
pub(super) fn record_answer(
    world: &mut World,
    now: Time,
    model: ModelId,
    client: ClientId,
    late: bool,
) {
    for key in [None, Some((model, client))] {
        if let Some(entry) = world.clients.entries.get_mut(&key) {
            entry.pattern.answered(now, late);
        }
    }
}

/// Makes plans and carries them out.
pub(super) fn update_plans(world: &mut World, out: &mut Outbox, now: Time) {
    if !is_enabled(world) || world.clients.due().is_none_or(|due| due > now) {
        return;
    }
    let keys: Vec<Key> = world.clients.entries.keys().copied().collect();
    // All plans are made before one is carried out: turning off early depends on all of them.
    for key in &keys {
        make_plan(world, out, now, *key);
    }
    for key in keys {
        run_plan(world, out, now, key);
        early_stop::after_announced(world, out, now, key);
    }
}

fn make_plan(world: &mut World, out: &mut Outbox, now: Time, key: Key) {
    let Some(entry) = world.clients.entries.get_mut(&key) else { return };
    if entry.pattern.forecast_at().is_none_or(|at| at > now) {
        return;
    }
    entry.pattern.forecast_done = true;
    // An announcement takes precedence over what was learned.
    if entry.plan.is_some_and(|plan| plan.announced) {
        return;
    }
    let (model, pattern) = (entry.model, entry.pattern.clone());
    let choice = adapter_for_next(world, now, model, pattern.late_requests());
    let Some((adapter, costs, start)) = choice else { return };
    let Some(window) = pattern.forecast(costs) else { return };
    let start_at = Some(expected::start_at(now, window, start));
    if let Some(entry) = world.clients.entries.get_mut(&key) {
        entry.plan = Some(Plan { window, adapter, model, start_at, announced: false });
    }
    early_stop::after_forecast(world, out, now);
}

/// Turns the adapter of a plan on in time, and ends a plan that has passed.
fn run_plan(world: &mut World, out: &mut Outbox, now: Time, key: Key) {
    let Some(plan) = world.clients.entries.get(&key).and_then(|entry| entry.plan) else {
        return;
    };
    if plan.window.until <= now || !world.models.contains_key(&plan.model) {
        if let Some(entry) = world.clients.entries.get_mut(&key) {
            entry.end_plan(plan);
        }
        return;
    }
    if plan.start_at.is_none_or(|at| at > now) {
        return;
    }
    if let Some(plan) = world.clients.entries.get_mut(&key).and_then(|entry| entry.plan.as_mut()) {
        plan.start_at = None;
    }
    let reason = Reason::Expected {
        model: plan.model,
        from: plan.window.from,
        until: plan.window.until,
        announced: plan.announced,
    };
    let starts = eligible::counted_on(world) < world.settings.max
        && eligible::is_eligible(world, plan.adapter);
    let may = |a| start_cost::may_start(world, now, a);
    if starts && world.adapters.get(&plan.adapter).is_some_and(may) {
        lifecycle::turn_on(world, out, now, plan.adapter, false, reason);
    }
    if let Some(adapter) = world.adapters.get_mut(&plan.adapter)
        && adapter.state().is_on()
    {
        adapter.economy.expected = Some(Expected { model: plan.model, until: plan.window.until });
    }
}

pub(super) fn is_enabled(world: &World) -> bool {
    world.settings.early_starts
        && world.closing.is_none()
        && matches!(world.settings.policy, Policy::Cost { .. })
}

/// When there is next something to do for clients that are expected.
pub(super) fn plans_due(world: &World) -> Option<Time> {
    world.clients.due().filter(|_| is_enabled(world))
}

/// Returns the adapter to be ready for the next request of a model, its costs and the seconds of
/// its start, if a cold start makes `late` requests late.
pub(super) fn adapter_for_next(
    world: &World,
    now: Time,
    model: ModelId,
    late: f64,
) -> Option<(AdapterId, Costs, f64)> {
    let aim = target::effective(world, model).as_secs_f64();
    let candidates = world.adapters.iter().filter(|(id, adapter)| {
        eligible::is_eligible(world, **id)
            && eligible::takes(world, adapter, model)
            && !adapter.state().is_faulty()
    });
    let (id, adapter) = candidates.min_by_key(|(id, _)| {
        let slot = slots::warm_slot(world, **id, model, 0);
        (slot.batch(1) * slot.caution > aim, energy_rank::rank(world, now, &slot, true))
    })?;
    let start = adapter.cold_start() + estimates::load_time(world, *id, model);
    let miss = start_cost::late_joules(world, late);
    let costs = Costs {
        idle: adapter.profile.power.idle_mw.max(1) as f64 * 1e-3,
        start: start_cost::activation_joules(world, adapter, start),
        miss,
        wait: wait::wait(world, *id, adapter).seconds,
    };
    // No plan is needed if the adapter is on anyway, or if a start costs more than late requests.
    (miss > costs.start).then_some((*id, costs, start))
}
