//! Announced requests: an adapter is started for them as for forecast requests of regular clients
//! (`early_start.rs`).
//!
//! After repeated unmet announcements those of a client are ignored until its next request.

use super::client_pattern::Window;
use super::expected::Plan;
use super::ids::{ClientId, ModelId, Time};
use super::outbox::Outbox;
use super::world::World;
use super::{early_start, expected};
use std::time::Duration;

/// Time by which the adapter is ready before the announced time, and the time for which it waits
/// afterwards, at least and as a share of the announced delay.
const EARLY: Duration = Duration::from_millis(500);
const LATE_MIN: Duration = Duration::from_secs(15);
const LATE_SHARE: u32 = 10;

/// Plans for a client that announced a request of a model after the time `within`.
pub(super) fn announced(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (model, client): (ModelId, ClientId),
    within: Duration,
) {
    if !early_start::is_enabled(world) || !world.models.contains_key(&model) {
        return;
    }
    let Some(late) = world.clients.expected_late_requests(model, client) else { return };
    // One late request at least: an announcement may be the first that is known of a client.
    let Some((adapter, _, start)) = early_start::adapter_for_next(world, now, model, late.max(1.0))
    else {
        return;
    };
    let at = now + within;
    let window = Window {
        from: Time(at.0.saturating_sub(EARLY)).max(now),
        until: at + LATE_MIN.max(within / LATE_SHARE),
    };
    let start_at = Some(expected::start_at(now, window, start));
    let plan = Plan { window, adapter, model, start_at, announced: true };
    world.clients.plan(now, (model, client), plan);
    early_start::update_plans(world, out, now);
}
