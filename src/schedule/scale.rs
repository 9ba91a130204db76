//! Turns adapters on and off: what both policies share, and the `concurrency` policy.

use super::action::{Action, Reject};
use super::decision::{Change, Reason};
use super::event::Wish;
use super::ids::{AdapterId, Incarnation, ModelId, Time};
use super::policy::{Load, Policy};
use super::scheduler::Scheduler;
use super::settings::Role;
use super::state::{Adapter, State};
use super::wait::HOUR;
use std::mem;
use std::time::Duration;

/// Weight of the last start in the long average of requests that starts make late.
const MISSES_GAIN_LONG: f64 = 0.2;

impl Scheduler {
    /// Resumes or starts adapters until as many are on as the load wants.
    pub(super) fn grow(&mut self, now: Time) {
        match self.settings.policy {
            Policy::Concurrency { target, .. } => self.grow_to_load(now, target),
            Policy::Cost { .. } => self.grow_by_cost(now),
            Policy::ByHand { .. } => return,
        }
        self.feed_starving(now);
    }

    pub(super) fn grow_to_min(&mut self, now: Time) {
        if self.settings.min == 0 {
            return;
        }
        let (min, on) = (self.settings.min, self.on_for_good());
        if self.closing.is_none() {
            self.turn_on_best(now, min.saturating_sub(on), Reason::Min { min, on });
        }
    }

    fn grow_to_load(&mut self, now: Time, target: u64) {
        let Load { rows, requests } = self.load();
        let (wanted, on) = (self.wanted(target), self.on_for_good());
        let reason = Reason::Backlog { rows, requests, target, wanted, on };
        self.turn_on_best(now, wanted.saturating_sub(on), reason);
    }

    /// Turns on so many more, the best first.
    fn turn_on_best(&mut self, now: Time, mut missing: usize, reason: Reason) {
        // A draining adapter is warm: taking it back costs nothing, a start costs seconds.
        for draining in [true, false] {
            for at in 0..self.order.len() {
                if missing == 0 {
                    return;
                }
                let id = self.order[at];
                let helps = self.is_eligible(id) && self.helps(id);
                if helps && self.turn_on(now, id, draining, reason) {
                    missing -= 1;
                }
            }
        }
    }

    /// Whether an adapter can hold any of the models that are waited for, if any are.
    fn helps(&self, id: AdapterId) -> bool {
        let Some(adapter) = self.adapters.get(&id) else { return false };
        let mut waiting = self.queue.waiting().peekable();
        waiting.peek().is_none() || waiting.any(|(model, _)| self.helps_with(adapter, model))
    }

    /// Brings on one more adapter for a model that none of those on can hold.
    fn feed_starving(&mut self, now: Time) {
        // The policy has chosen who will be started for what waits, and when.
        if self.start_at.is_some() {
            return;
        }
        let starves = |(model, _): &(ModelId, u64)| {
            let serves = |(id, a): (&AdapterId, &Adapter)| {
                a.state.is_on() && self.takes(a, *model) && !self.is_on_trial(*id, a, *model)
            };
            !self.adapters.iter().any(serves)
        };
        let starving: Vec<_> = self.queue.waiting().filter(starves).collect();
        for (model, rows) in starving {
            if self.on() > 0 && self.on() >= self.settings.max {
                self.reject_all(self.queue.ids_of(model), Reject::NoneHolds);
            } else {
                self.feed(now, model, rows);
            }
        }
    }

    fn feed(&mut self, now: Time, model: ModelId, rows: u64) {
        let reason = Reason::Demand { rows };
        for at in 0..self.order.len() {
            let id = self.order[at];
            let helps = |adapter| self.helps_with(adapter, model);
            let eligible = self.is_eligible(id) && self.adapters.get(&id).is_some_and(helps);
            if eligible
                && (self.turn_on(now, id, true, reason) || self.turn_on(now, id, false, reason))
            {
                return;
            }
        }
    }

    /// Starts what the operator wants on.
    pub(super) fn obey_on(&mut self, now: Time) {
        if self.closing.is_some() {
            return;
        }
        for at in 0..self.order.len() {
            let id = self.order[at];
            let sleeps = |a: &&Adapter| matches!(a.state, State::Off | State::Draining { .. });
            let adapter = self.adapters.get(&id).filter(sleeps);
            if adapter.is_some_and(|a| a.wish == Wish::On && a.present) {
                let _ = self.turn_on(now, id, true, Reason::Operator)
                    || self.turn_on(now, id, false, Reason::Operator);
            }
        }
    }

    /// Resumes the adapter if it drains, or starts it if it is off. Tells whether it did.
    pub(super) fn turn_on(
        &mut self,
        now: Time,
        id: AdapterId,
        draining: bool,
        reason: Reason,
    ) -> bool {
        let Some(adapter) = self.adapters.get_mut(&id) else { return false };
        let change = match &adapter.state {
            State::Draining { since, batch } if draining => {
                adapter.state = State::Busy { since: *since, batch: batch.clone() };
                Change::Resume
            }
            State::Off if !draining && !self.starts_blocked => {
                self.start(now, id, reason);
                Change::Start
            }
            _ => return false,
        };
        self.decide(now, id, change, reason);
        true
    }

    fn start(&mut self, now: Time, id: AdapterId, reason: Reason) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        adapter.misses_long += MISSES_GAIN_LONG * (adapter.missed - adapter.misses_long);
        adapter.misses = adapter.late_requests();
        adapter.incarnation = Incarnation(adapter.incarnation.0 + 1);
        adapter.alive = now;
        adapter.replicas.clear();
        // Others may have given memory back. While a worker lives its models stay as they are.
        for known in adapter.known.values_mut() {
            known.rows_max = known.rows_max.filter(|(_, until)| *until > now);
        }
        adapter.starts.push_back(now + HOUR);
        adapter.end_spell(now);
        adapter.expected = None;
        let waited_for = matches!(
            reason,
            Reason::LatencyTarget { .. } | Reason::Demand { .. } | Reason::Backlog { .. }
        );
        (adapter.early, adapter.served) = (!waited_for, false);
        adapter.missed = 0.0;
        adapter.state = State::Starting { since: now, progress: now };
        let incarnation = adapter.incarnation;
        self.actions.push_back(Action::Start { adapter: id, incarnation });
    }

    /// Lets adapters go that must not be on, whatever the load; tells whether it did.
    pub(super) fn expel(&mut self, now: Time) -> bool {
        let mut any = false;
        for at in 0..self.order.len() {
            let id = self.order[at];
            if let Some(reason) = self.unwelcome(id) {
                self.let_go(now, id, reason);
                any = true;
            }
        }
        any
    }

    /// Lets the worst go if more are on for the load's sake than may be: the bound was lowered.
    pub(super) fn fall_to_max(&mut self, now: Time) {
        let spare = |a: &Adapter| self.is_on_for_good(a) && a.wish == Wish::Auto;
        let mut worst = self.order.iter().rev().copied().collect::<Vec<_>>();
        worst.retain(|id| self.adapters.get(id).is_some_and(spare));
        worst.truncate(self.on_for_good().saturating_sub(self.settings.max));
        for id in worst {
            self.let_go(now, id, Reason::Operator);
        }
    }

    /// Once the grace period is over nobody waits for the end of a batch.
    pub(super) fn cut(&mut self, now: Time) {
        if self.closing.is_none_or(|deadline| deadline > now) {
            return;
        }
        for at in 0..self.order.len() {
            let id = self.order[at];
            let Some(adapter) = self.adapters.get(&id) else { continue };
            if adapter.state.is_on() {
                self.decide(now, id, Change::Drain, Reason::Shutdown);
                self.ask_to_stop(now, id);
            } else if matches!(adapter.state, State::Draining { .. }) {
                self.ask_to_stop(now, id);
            }
        }
    }

    /// Why this adapter must not be on, whatever the load.
    fn unwelcome(&self, id: AdapterId) -> Option<Reason> {
        let adapter = self.adapters.get(&id).filter(|adapter| adapter.state.is_on())?;
        if self.closing.is_some() && self.queue.len() == 0 {
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
                        && other.state.is_on()
                        && !other.replicas.is_empty()
                };
                let replaced =
                    adapter.profile.role == Role::Fallback && self.adapters.values().any(serving);
                replaced.then_some(Reason::Fallback)
            }
        }
    }

    /// Lets one adapter go that is no longer needed; tells whether it did.
    pub(super) fn shrink(&mut self, now: Time) -> bool {
        match self.settings.policy {
            Policy::Concurrency { target, .. } => self.shrink_to_load(now, target),
            Policy::Cost { .. } => self.shrink_by_cost(now),
            Policy::ByHand { .. } => false,
        }
    }

    /// Notes that the load has taken up what was a surplus.
    pub(super) fn end_surplus(&mut self) {
        if let Policy::Concurrency { target, .. } = self.settings.policy
            && self.surplus_since.is_some()
            && self.surplus(target).is_none()
        {
            self.surplus_since = None;
        }
    }

    /// When an adapter may next be let go, as things stand.
    pub(super) fn shrink_at(&self) -> Option<Time> {
        match self.settings.policy {
            Policy::Concurrency { .. } => {
                self.surplus_since.map(|since| since + self.shrink_delay())
            }
            Policy::Cost { .. } => self.dispensable().map(|go| go.until),
            Policy::ByHand { .. } => None,
        }
    }

    /// Lets one adapter go after a lasting surplus.
    fn shrink_to_load(&mut self, now: Time, target: u64) -> bool {
        let Some(slowest) = self.surplus(target) else {
            self.surplus_since = None;
            return false;
        };
        let since = *self.surplus_since.get_or_insert(now);
        if now < since + self.shrink_delay() {
            return false;
        }
        let (rows, lasted) = (self.load().rows, now.since(since));
        let (wanted, on) = (self.wanted(target), self.on());
        self.let_go(now, slowest, Reason::IdleSurplus { rows, wanted, on, lasted });
        self.surplus_since = self.surplus(target).map(|_| now);
        true
    }

    /// The adapter to let go next, if more are on than wanted: the slowest one that the operator
    /// does not hold. One that is starting is let to finish first: its warm-up is paid for.
    fn surplus(&self, target: u64) -> Option<AdapterId> {
        let wanted = self.wanted(target);
        // One that stands in goes when it is replaced, not before.
        let going = |a: &&Adapter| a.state.is_on() && !self.stays_as_bridge(a);
        let on = match wanted {
            0 => self.adapters.values().filter(going).count(),
            _ => self.on_for_good(),
        };
        if on <= wanted {
            return None;
        }
        let free = |id: &&AdapterId| {
            let auto = |a: &Adapter| a.state.is_on() && a.wish == Wish::Auto;
            self.adapters.get(id).is_some_and(|a| auto(a) && !self.stays_as_bridge(a))
        };
        let slowest = self.order.iter().rev().find(free).copied()?;
        self.adapters.get(&slowest).filter(|a| !a.state.warms_up()).map(|_| slowest)
    }

    /// How long a surplus must last before the next adapter goes.
    fn shrink_delay(&self) -> Duration {
        match self.settings.policy {
            Policy::Concurrency { scale_to_zero_delay, .. } if self.on() == 1 => {
                scale_to_zero_delay
            }
            Policy::Concurrency { scale_down_delay, .. } => scale_down_delay,
            Policy::Cost { .. } | Policy::ByHand { .. } => Duration::ZERO,
        }
    }

    pub(super) fn let_go(&mut self, now: Time, id: AdapterId, reason: Reason) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        match mem::replace(&mut adapter.state, State::Off) {
            State::Busy { since, batch } => adapter.state = State::Draining { since, batch },
            State::Loading { model, batch: Some((_, batch)), .. } => {
                // It may have waited for a step of the load so far.
                adapter.state = State::Draining { since: now, batch };
                let incarnation = adapter.incarnation;
                self.actions.push_back(Action::Unload { adapter: id, incarnation, model });
            }
            State::Starting { .. } | State::Loading { .. } | State::Idle { .. } => {
                self.ask_to_stop(now, id);
            }
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
        adapter.wish == Wish::Auto
            && adapter.present
            && (adapter.profile.role == Role::Regular || self.stands_in())
    }

    /// How many adapters the `concurrency` policy wants on.
    fn wanted(&self, target: u64) -> usize {
        if self.closing.is_some() && self.queue.len() == 0 {
            return 0;
        }
        self.load().adapters(target, self.settings.min, self.settings.max)
    }

    /// How many take work or are about to.
    pub(super) fn on(&self) -> usize {
        self.adapters.values().filter(|adapter| adapter.state.is_on()).count()
    }

    /// The same without fallbacks that stand in for one that is usable again: it is wanted back.
    pub(super) fn on_for_good(&self) -> usize {
        self.adapters.values().filter(|adapter| self.is_on_for_good(adapter)).count()
    }

    pub(super) fn is_on_for_good(&self, adapter: &Adapter) -> bool {
        adapter.state.is_on()
            && (adapter.profile.role == Role::Regular
                || adapter.wish == Wish::On
                || self.stands_in())
    }

    /// Whether nothing but fallbacks is usable.
    pub(super) fn stands_in(&self) -> bool {
        let usable = |other: &Adapter| {
            other.is_there()
                && other.profile.role == Role::Regular
                && other.wish != Wish::Off
                && !other.state.is_faulty()
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
