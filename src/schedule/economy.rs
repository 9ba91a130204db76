//! What an adapter's starts and idle periods cost and taught: the record behind when it starts and how
//! long it stays on.

use super::helped::Helped;
use super::ids::{ModelId, Time};
use super::recollection::Recollection;
use super::regret::Regret;
use super::spells::Spells;
use std::collections::VecDeque;
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Weight of the last start in what is believed of the next.
const MISSES_GAIN: f64 = 0.8;
/// Weight of the last start in the long average of requests that starts make late.
const MISSES_GAIN_LONG: f64 = 0.2;

/// A client that comes regularly, and for which an adapter is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) model: ModelId,
    /// It is not waited for any longer than until then.
    pub(super) until: Time,
}

/// The record of an adapter's starts and idle periods.
#[derive(Debug)]
pub(super) struct Economy {
    /// When the activations of the last hour for the load's sake will be an hour old.
    pub(super) starts: VecDeque<Time>,
    /// Since when it has had no work, on or off; none while it has, or is started for some.
    pub(super) workless: Option<Time>,
    pub(super) spells: Spells,
    pub(super) regret: Regret,
    /// Requests that an activation makes miss their target, on average; and so far this time.
    pub(super) misses: f64,
    pub(super) missed: f64,
    /// The same over more starts, for adapters whose start fits into the target: there it is a price
    /// that must not change with each start.
    pub(super) misses_long: f64,
    /// The client that it is on for, who has not come yet.
    pub(super) expected: Option<Expected>,
    /// Whether it was last turned on before anybody waited for it: that start made nobody late.
    pub(super) early: bool,
    /// Whether it has run a batch since it was last turned on.
    pub(super) served: bool,
    pub(super) helped: Helped,
    /// Since when it was idle when it was found worth keeping for its models, and for how many
    /// seconds from then on.
    pub(super) kept: Option<(Time, f64)>,
    /// Seconds of idling that cost as much as the last activation would have.
    pub(super) break_even: f64,
}

impl Default for Economy {
    fn default() -> Economy {
        Economy {
            starts: VecDeque::new(),
            workless: None,
            spells: Spells::default(),
            regret: Regret::default(),
            misses: 1.0,
            missed: 0.0,
            misses_long: 1.0,
            expected: None,
            early: true,
            served: false,
            helped: Helped::default(),
            kept: None,
            break_even: 1.0,
        }
    }
}

impl Economy {
    /// The adapter is turned on. `waited_for` tells whether requests wait for this start.
    pub(super) fn started(&mut self, now: Time, waited_for: bool) {
        self.misses_long += MISSES_GAIN_LONG * (self.missed - self.misses_long);
        self.misses = self.late_requests();
        self.starts.push_back(now + HOUR);
        self.end_spell(now);
        self.expected = None;
        (self.early, self.served) = (!waited_for, false);
        self.missed = 0.0;
    }

    /// The adapter runs a batch.
    pub(super) fn ran(&mut self) {
        (self.expected, self.served) = (None, true);
    }

    /// It has work again, or is started for some.
    pub(super) fn end_spell(&mut self, now: Time) {
        if let Some(since) = self.workless.take() {
            self.spells.record(now.since(since).as_secs_f64(), self.break_even);
        }
    }

    /// Requests that a start makes late, as far as is known: on average over those that requests
    /// waited for, the last one included.
    pub(super) fn late_requests(&self) -> f64 {
        if self.early {
            return self.misses;
        }
        self.misses + MISSES_GAIN * (self.missed - self.misses)
    }

    /// Takes in what an earlier run learned, unless something was learned in this one.
    pub(super) fn recall(&mut self, now: Time, memory: &Recollection) {
        if !self.spells.is_empty() {
            return;
        }
        self.misses = memory.late_permille.map_or(self.misses, |late| f64::from(late) * 1e-3);
        for (spell, break_even) in &memory.spells {
            self.spells.record(spell.as_secs_f64(), break_even.as_secs_f64());
        }
        self.helped = memory.helped.map_or(self.helped, |helped| Helped::recalled(now, helped));
        self.starts = memory.starts.iter().map(|left| now + (*left).min(HOUR)).collect();
    }
}
