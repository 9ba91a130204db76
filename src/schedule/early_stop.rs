//! Turns idle adapters off before their idle period is over, since no client is expected.
//!
//! That is the case if every client of the last hour, or all requests together, are expected at
//! some time; else another client may send a request at any moment. A client that announces its
//! requests is not expected between them.

use super::adapter::Adapter;
use super::client_pattern::SHORTEST;
use super::decision::Reason;
use super::economy::HOUR;
use super::event::AdapterMode;
use super::expected::{ClientRecord, Key};
use super::ids::Time;
use super::outbox::Outbox;
use super::settings::Role;
use super::world::World;
use super::{eligible, lifecycle, start_cost};
use std::time::Duration;

/// Turns idle adapters off after a client with a forecast of its next busy period.
pub(super) fn after_forecast(world: &mut World, out: &mut Outbox, now: Time) {
    if all_are_known(world, now) {
        let until = next_expected(world).unwrap_or(now);
        turn_off_idle(world, out, now, Reason::NotExpected { until }, |_, _| true);
    }
}

/// Turns idle adapters off after an announced client was served and has paused.
pub(super) fn after_announced(world: &mut World, out: &mut Outbox, now: Time, key: Key) {
    let Some(entry) = world.clients.entries.get_mut(&key) else { return };
    if entry.release_at().is_none_or(|at| at > now) {
        return;
    }
    entry.released = true;
    let next = next_expected(world);
    let pause = next.map_or(Duration::MAX, |next| next.since(now));
    if pause.as_secs_f64() >= SHORTEST && all_are_known(world, now) {
        let reason = next.map_or(Reason::Served, |until| Reason::NotExpected { until });
        turn_off_idle(world, out, now, reason, |world, adapter| saves(world, now, adapter, pause));
    }
}

/// Returns the start of the first expected window.
fn next_expected(world: &World) -> Option<Time> {
    let plans = world.clients.entries.values().filter_map(|entry| entry.plan);
    plans.map(|plan| plan.window.from).min()
}

/// Returns true if every recent client is expected at some time, or announces its requests.
fn all_are_known(world: &World, now: Time) -> bool {
    let is_planned = |entry: &ClientRecord| entry.plan.is_some();
    let all = world.clients.entries.get(&None).is_some_and(is_planned);
    let clients = world.clients.entries.iter().filter(|(key, _)| key.is_some());
    let mut recent = clients.filter(|(_, entry)| entry.pattern.was_seen(now, HOUR));
    all || recent.all(|(_, entry)| is_planned(entry) || entry.announces)
}

/// Returns true if idling through a pause takes more energy than a start that is not the last one of
/// this hour.
fn saves(world: &World, now: Time, adapter: &Adapter, pause: Duration) -> bool {
    let start = start_cost::activation_joules(world, adapter, adapter.cold_start());
    let idling = pause.as_secs_f64() * adapter.profile.power.idle_mw as f64 * 1e-3;
    idling > start && start_cost::may_start_again(world, adapter) <= now
}

fn turn_off_idle(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    reason: Reason,
    may: impl Fn(&World, &Adapter) -> bool,
) {
    for id in world.best_first() {
        let may_drain = world.adapters.get(&id).is_some_and(|adapter| {
            adapter.state().is_idle()
                && adapter.mode == AdapterMode::Auto
                && adapter.profile.role == Role::Regular
                && adapter.economy.expected.is_none()
                && may(world, adapter)
        });
        if may_drain && eligible::counted_on(world) > world.settings.min {
            lifecycle::begin_draining(world, out, now, id, reason);
        }
    }
}
