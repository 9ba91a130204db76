//! Replacement of an active adapter by one that needs less energy.
//!
//! After a burst has turned on an adapter with high power, it could serve all small requests that
//! follow and never be idle long enough to turn off. So for each adapter that is off, the energy is
//! estimated that it would have saved on the rows that others served, idling included. When this is
//! as much as turning it on costs, it is turned on: ski rental again, so that switching never
//! wastes more than it has already been worth. Rows then go to it first, and the other adapter
//! becomes idle.

use super::decision::Reason;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::outbox::Outbox;
use super::policy::Policy;
use super::savings::SavingsEstimate;
use super::world::World;
use super::{eligible, energy_rank, lifecycle, slots, start_cost, target};

/// Share of its capacity that an adapter is assumed to serve.
const CARRIED: f64 = 0.7;
/// Seconds of observation from which on the load is known.
const OBSERVED: f64 = 1.0;
/// Seconds after which older batches no longer describe the present load.
const RECENT: f64 = 10.0;
/// The same where starts make requests late, so that adapters stay on for long.
const RECENT_LATE: f64 = 120.0;

/// Records the energy that adapters which are off would have saved on rows served by another.
pub(super) fn record_savings(
    world: &mut World,
    now: Time,
    slot: &Slot,
    (model, size): (ModelId, u8),
    rows: u32,
) {
    if !world.prefers_energy() || !matches!(world.settings.policy, Policy::Cost { .. }) {
        return;
    }
    for id in world.best_first() {
        let Some(savings) = savings_of(world, now, id, slot, (model, size), rows) else {
            continue;
        };
        if let Some(adapter) = world.adapters.get_mut(&id) {
            adapter.economy.savings = savings;
        }
    }
}

/// Turns on an adapter that would by now have saved the cost of its start.
pub(super) fn replace(world: &mut World, out: &mut Outbox, now: Time) {
    if world.closing.is_some() {
        return;
    }
    for id in world.best_first() {
        let Some(adapter) = world.adapters.get(&id) else { continue };
        let saved = adapter.economy.savings.joules;
        let price = start_cost::activation_joules(
            world,
            adapter,
            start_cost::start_seconds(world, id, adapter),
        );
        let recent = now.since(adapter.economy.savings.until).as_secs_f64()
            <= adapter.economy.savings.recent;
        if saved <= price
            || !recent
            || adapter.economy.savings.lasted() < OBSERVED
            || !adapter.state().is_off()
            || !start_cost::may_start(world, now, adapter)
        {
            continue;
        }
        let lasted = now.since(adapter.economy.savings.since);
        let millijoules = |joules: f64| (joules * 1e3) as u64;
        let reason =
            Reason::Cheaper { saved_mj: millijoules(saved), start_mj: millijoules(price), lasted };
        if eligible::is_eligible(world, id)
            && eligible::counted_on(world) < world.settings.max
            && lifecycle::turn_on(world, out, now, id, false, reason)
        {
            // The rows that were counted for all adapters go to this one from now on.
            world
                .adapters
                .values_mut()
                .for_each(|adapter| adapter.economy.savings = SavingsEstimate::default());
            return;
        }
    }
}

fn savings_of(
    world: &World,
    now: Time,
    id: AdapterId,
    slot: &Slot,
    (model, size): (ModelId, u8),
    rows: u32,
) -> Option<SavingsEstimate> {
    let adapter = world.adapters.get(&id).filter(|adapter| adapter.state().is_off())?;
    let other = world.adapters.get(&slot.adapter)?;
    if !eligible::is_eligible(world, id) || !eligible::takes(world, adapter, model) {
        return None;
    }
    let own = Slot { free: 0.0, ..slots::slot(world, now, id, adapter, model, size) };
    let slo = target::effective(world, model).as_secs_f64();
    // Even if it were on, rows would not go to it.
    let late = energy_rank::starts_are_late(world, model);
    if energy_rank::rank(world, now, &own, late) >= energy_rank::rank(world, now, slot, late)
        || own.batch(1) * own.caution > slo
    {
        return None;
    }
    let mut savings = adapter.economy.savings;
    let passed = now.since(savings.until).as_secs_f64();
    let recent = if late { RECENT_LATE } else { RECENT };
    let fresh = SavingsEstimate { since: now, until: now, recent, ..SavingsEstimate::default() };
    if passed > recent || savings.until == Time::default() {
        savings = fresh;
    }
    let passed = now.since(savings.until).as_secs_f64();
    let (power, dear) = (adapter.profile.power, other.profile.power);
    let work = |slot: &Slot, active_mw: u64| slot.batch(rows) * active_mw as f64 * 1e-3;
    let idling = dear.idle_mw as f64 - power.idle_mw as f64;
    savings.joules += work(slot, dear.active_mw.saturating_sub(dear.idle_mw))
        - work(&own, power.active_mw.saturating_sub(power.idle_mw))
        + idling * 1e-3 * passed;
    // The first rows open the interval over which the others are counted.
    if savings.until > savings.since || passed > 0.0 {
        savings.rows += f64::from(rows);
    }
    savings.until = now;
    let lasted = savings.lasted();
    let carried = lasted < OBSERVED || savings.rows <= CARRIED * own.rows_by(slo) / slo * lasted;
    if carried && savings.joules > 0.0 {
        return Some(savings);
    }
    Some(fresh)
}
