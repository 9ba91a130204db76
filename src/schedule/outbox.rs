//! Queue of actions that the driver has not taken yet.

use super::action::{Action, Reject};
use super::decision::{Change, Decision, Reason};
use super::ids::{AdapterId, RequestId, Time};
use std::collections::VecDeque;

/// Actions that the driver has not taken yet, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<Action>);

impl Outbox {
    pub(super) fn push(&mut self, action: Action) {
        self.0.push_back(action);
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.0.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn decide(&mut self, at: Time, adapter: AdapterId, change: Change, reason: Reason) {
        self.push(Action::Decided(Decision { at, adapter, change, reason }));
    }

    pub(super) fn reject(&mut self, request: RequestId, reason: Reject) {
        self.push(Action::Reject { request, reason });
    }
}
