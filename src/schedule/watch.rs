//! Gives up on the silent and the late, and forgives the quarantined.

use super::action::Action;
use super::event::Fault;
use super::ids::{AdapterId, Time};
use super::scheduler::Scheduler;
use super::state::State;

impl Scheduler {
    /// Does what is due for every adapter that time has run out for.
    pub(super) fn watch(&mut self, now: Time) {
        for adapter in self.adapters.values_mut() {
            adapter.refused.retain(|_, until| *until > now);
            adapter.crowded.retain(|_, until| *until > now);
        }
        let bounds = self.settings.bounds;
        let due = |id: &AdapterId| {
            let deadline = self.adapters.get(id).and_then(|adapter| adapter.deadline(&bounds));
            deadline.is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<_> = self.order.iter().copied().filter(due).collect();
        for id in due {
            self.give_up(now, id);
        }
    }

    fn give_up(&mut self, now: Time, id: AdapterId) {
        let silence = self.settings.bounds.silence;
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        let silent = adapter.alive + silence <= now;
        match adapter.state {
            State::Starting { .. }
            | State::Loading { .. }
            | State::Idle { .. }
            | State::Busy { .. }
            | State::Draining { .. }
                if silent =>
            {
                self.let_down(now, id, Fault::Silent);
            }
            State::Starting { .. } | State::Loading { .. } => {
                self.let_down(now, id, Fault::StartStuck)
            }
            State::Busy { .. } | State::Draining { .. } => self.let_down(now, id, Fault::RunStuck),
            State::Stopping { killed: false, fault, .. } => {
                adapter.state = State::Stopping { since: now, killed: true, fault };
                let incarnation = adapter.incarnation;
                self.actions.push_back(Action::Kill { adapter: id, incarnation });
            }
            State::Stopping { killed: true, fault, .. } => {
                let fault = fault.unwrap_or(Fault::Silent);
                adapter.state = State::Unreaped { since: now, fault };
            }
            State::Quarantined { .. } => adapter.state = State::Off,
            State::Off | State::Idle { .. } | State::Unreaped { .. } => {}
        }
    }
}
