//! Timeouts of adapters: heartbeat, start, run, stop and kill timeouts, and the end of a quarantine.

use super::action::Action;
use super::event::Fault;
use super::ids::{AdapterId, Time};
use super::lifecycle;
use super::outbox::Outbox;
use super::quarantine;
use super::state::Lifecycle;
use super::world::World;

/// Handles the passed deadlines of all adapters.
pub(super) fn expire(world: &mut World, out: &mut Outbox, now: Time) {
    for adapter in world.adapters.values_mut() {
        adapter.refused_until.retain(|_, until| *until > now);
        adapter.no_memory_until.retain(|_, until| *until > now);
    }
    let timeouts = world.settings.timeouts;
    let due = |id: &AdapterId| {
        let deadline = world.adapters.get(id).and_then(|adapter| adapter.deadline(&timeouts));
        deadline.is_some_and(|deadline| deadline <= now)
    };
    let due: Vec<_> = world.order.iter().copied().filter(due).collect();
    for id in due {
        expire_one(world, out, now, id);
    }
}

fn expire_one(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    let heartbeat = world.settings.timeouts.heartbeat;
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    let is_late = adapter.last_heartbeat + heartbeat <= now;
    let state = adapter.state();
    match state.lifecycle {
        // First: a worker without heartbeats makes no progress either, whatever it does.
        Lifecycle::Starting { .. } | Lifecycle::On | Lifecycle::Draining if is_late => {
            lifecycle::fail_adapter(world, out, now, id, Fault::HeartbeatTimeout);
        }
        Lifecycle::Starting { .. } | Lifecycle::On if state.warms_up() => {
            lifecycle::fail_adapter(world, out, now, id, Fault::StartStuck)
        }
        Lifecycle::On | Lifecycle::Draining if !state.running.is_empty() => {
            lifecycle::fail_adapter(world, out, now, id, Fault::RunStuck)
        }
        Lifecycle::Stopping { killed: false, .. } => {
            adapter.kill(now);
            let incarnation = adapter.incarnation;
            out.push(Action::Kill { adapter: id, incarnation });
        }
        Lifecycle::Stopping { killed: true, fault, .. } => {
            // A worker that does not exit after a normal stop counts as one without heartbeats.
            adapter.mark_unreaped(now, fault.unwrap_or(Fault::HeartbeatTimeout));
        }
        Lifecycle::Quarantined { .. } => quarantine::end(adapter),
        Lifecycle::Off
        | Lifecycle::Starting { .. }
        | Lifecycle::On
        | Lifecycle::Draining
        | Lifecycle::Unreaped { .. } => {}
    }
}
