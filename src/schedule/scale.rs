//! Turns adapters on and off: up at once, down one at a time after a lasting surplus.

use super::decision::{Change, Reason};
use super::policy::Load;
use super::scheduler::Scheduler;
use super::state::{Adapter, State, Wish};
use super::types::{Action, AdapterId, Incarnation, ModelId, Reject, Time};
use std::mem;
use std::time::Duration;

impl Scheduler {
    /// Resumes or starts adapters, fastest first, until as many are on as are wanted.
    pub(super) fn grow(&mut self, now: Time) {
        self.obey_on(now);
        self.grow_to_load(now);
        self.feed_starving(now);
    }

    fn grow_to_load(&mut self, now: Time) {
        let (load, wanted, on) = (self.load(), self.wanted(), self.on_for_good());
        let min = self.settings.policy.min();
        let target = self.settings.policy.target();
        let Load { rows, requests } = load;
        let reason = if on < min && self.closing.is_none() {
            Reason::Min { min, on }
        } else {
            Reason::Backlog { rows, requests, target, wanted, on }
        };
        let mut missing = wanted.saturating_sub(on);
        // A draining adapter is warm: taking it back costs nothing, a start costs seconds.
        for draining in [true, false] {
            for at in 0..self.order.len() {
                if missing == 0 {
                    return;
                }
                let id = self.order[at];
                if self.is_eligible(id) && self.turn_on(now, id, draining, reason) {
                    missing -= 1;
                }
            }
        }
    }

    /// Brings on one more adapter for a model that none of those on could load.
    fn feed_starving(&mut self, now: Time) {
        if self.adapters.values().all(|adapter| adapter.refused.is_empty()) {
            return;
        }
        let models: Vec<ModelId> = self.models.keys().copied().collect();
        for model in models {
            let serves = |a: &Adapter| a.state.is_on() && !a.refused.contains(&model);
            if !self.queue.waits_for(model) || self.adapters.values().any(serves) {
                continue;
            }
            if self.on() >= self.settings.policy.max() {
                self.reject_all(self.queue.ids_of(model), Reject::ModelFailed);
            } else {
                self.feed(now, model);
            }
        }
    }

    fn feed(&mut self, now: Time, model: ModelId) {
        let (load, wanted, on) = (self.load(), self.wanted(), self.on());
        let target = self.settings.policy.target();
        let Load { rows, requests } = load;
        let wanted = wanted.max(on + 1);
        let reason = Reason::Backlog { rows, requests, target, wanted, on };
        for at in 0..self.order.len() {
            let id = self.order[at];
            let refuses = self.adapters.get(&id).is_none_or(|a| a.refused.contains(&model));
            let eligible = self.is_eligible(id) && !refuses;
            if eligible
                && (self.turn_on(now, id, true, reason) || self.turn_on(now, id, false, reason))
            {
                return;
            }
        }
    }

    /// Starts what the operator wants on.
    fn obey_on(&mut self, now: Time) {
        if self.closing.is_some() {
            return;
        }
        for at in 0..self.order.len() {
            let id = self.order[at];
            if self.adapters.get(&id).is_some_and(|adapter| adapter.wish == Wish::On) {
                let _ = self.turn_on(now, id, true, Reason::Operator)
                    || self.turn_on(now, id, false, Reason::Operator);
            }
        }
    }

    /// Resumes the adapter if it drains, or starts it if it is off. Tells whether it did.
    fn turn_on(&mut self, now: Time, id: AdapterId, draining: bool, reason: Reason) -> bool {
        let Some(adapter) = self.adapters.get_mut(&id) else { return false };
        let change = match mem::replace(&mut adapter.state, State::Off) {
            State::Draining { since, batch } if draining => {
                adapter.state = State::Busy { since, batch };
                Change::Resume
            }
            State::Off if !draining => {
                self.start(now, id);
                Change::Start
            }
            other => {
                adapter.state = other;
                return false;
            }
        };
        self.decide(now, id, change, reason);
        true
    }

    fn start(&mut self, now: Time, id: AdapterId) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        adapter.incarnation = Incarnation(adapter.incarnation.0 + 1);
        adapter.alive = now;
        adapter.refused.clear();
        adapter.state = State::Starting { since: now, progress: now };
        let incarnation = adapter.incarnation;
        self.actions.push_back(Action::Start { adapter: id, incarnation });
    }

    /// Lets adapters go that must not be on, whatever the load.
    pub(super) fn expel(&mut self, now: Time) {
        for at in 0..self.order.len() {
            let id = self.order[at];
            if let Some(reason) = self.unwelcome(id) {
                self.let_go(now, id, reason);
            }
        }
    }

    /// Lets one adapter go after a lasting surplus.
    pub(super) fn shrink(&mut self, now: Time) {
        let Some(slowest) = self.surplus() else {
            self.surplus_since = None;
            return;
        };
        let since = *self.surplus_since.get_or_insert(now);
        if now < since + self.shrink_delay() {
            return;
        }
        let (rows, lasted) = (self.load().rows, now.since(since));
        let reason = Reason::IdleSurplus { rows, wanted: self.wanted(), on: self.on(), lasted };
        self.let_go(now, slowest, reason);
        self.surplus_since = self.surplus().map(|_| now);
    }

    /// Why this adapter must not be on, whatever the load.
    fn unwelcome(&self, id: AdapterId) -> Option<Reason> {
        let adapter = self.adapters.get(&id).filter(|adapter| adapter.state.is_on())?;
        if self.closing.is_some() && self.queue.len() == 0 {
            return Some(Reason::Shutdown);
        }
        match adapter.wish {
            Wish::Off => Some(Reason::Operator),
            Wish::On => None,
            Wish::Auto => {
                let serving = |other: &Adapter| {
                    !other.profile.fallback
                        && matches!(other.state, State::Idle { .. } | State::Busy { .. })
                };
                let replaced = adapter.profile.fallback && self.adapters.values().any(serving);
                replaced.then_some(Reason::Fallback)
            }
        }
    }

    /// The adapter to let go next, if more are on than wanted: the slowest one that the operator
    /// does not hold. One that is starting is let to finish first: its warm-up is paid for.
    fn surplus(&self) -> Option<AdapterId> {
        let wanted = self.wanted();
        // One that stands in goes when it is replaced, not before.
        let on = if wanted == 0 { self.on() } else { self.on_for_good() };
        if on <= wanted {
            return None;
        }
        let free = |id: &&AdapterId| {
            self.adapters.get(id).is_some_and(|a| a.state.is_on() && a.wish == Wish::Auto)
        };
        let slowest = self.order.iter().rev().find(free).copied()?;
        let starting = |adapter: &Adapter| matches!(adapter.state, State::Starting { .. });
        (!self.adapters.get(&slowest).is_some_and(starting)).then_some(slowest)
    }

    /// How long a surplus must last before the next adapter goes.
    fn shrink_delay(&self) -> Duration {
        if self.on() == 1 {
            self.settings.scale_to_zero_delay
        } else {
            self.settings.scale_down_delay
        }
    }

    /// When the present surplus has lasted long enough.
    pub(super) fn surplus_until(&self) -> Option<Time> {
        self.surplus_since.map(|since| since + self.shrink_delay())
    }

    fn let_go(&mut self, now: Time, id: AdapterId, reason: Reason) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        match mem::replace(&mut adapter.state, State::Off) {
            State::Busy { since, batch } => adapter.state = State::Draining { since, batch },
            State::Starting { .. } | State::Idle { .. } => self.ask_to_stop(now, id),
            other => {
                adapter.state = other;
                return;
            }
        }
        self.decide(now, id, Change::Drain, reason);
    }

    /// Whether the policy may turn this adapter on.
    pub(super) fn is_eligible(&self, id: AdapterId) -> bool {
        let Some(adapter) = self.adapters.get(&id) else { return false };
        adapter.wish == Wish::Auto && (!adapter.profile.fallback || self.stands_in())
    }

    /// How many adapters should be on.
    fn wanted(&self) -> usize {
        if self.closing.is_some() && self.queue.len() == 0 {
            return 0;
        }
        self.settings.policy.wanted(self.load())
    }

    /// How many take work or are about to.
    fn on(&self) -> usize {
        self.adapters.values().filter(|adapter| adapter.state.is_on()).count()
    }

    /// The same without fallbacks that stand in for one that is usable again: it is wanted back.
    fn on_for_good(&self) -> usize {
        let stands_in = self.stands_in();
        let counts = |a: &&Adapter| {
            a.state.is_on() && (!a.profile.fallback || a.wish == Wish::On || stands_in)
        };
        self.adapters.values().filter(counts).count()
    }

    /// Whether nothing but fallbacks is usable.
    fn stands_in(&self) -> bool {
        let usable = |other: &Adapter| {
            !other.profile.fallback && other.wish != Wish::Off && !other.state.is_faulty()
        };
        !self.adapters.values().any(usable)
    }

    fn load(&self) -> Load {
        let outstanding = self.outstanding();
        Load {
            rows: outstanding.queued.rows + outstanding.in_flight.rows,
            requests: outstanding.queued.requests + outstanding.in_flight.requests,
        }
    }
}
