//! What the policy learned and is worth keeping between two runs of the server, beside what is known
//! of each adapter ([`Recollection`]).

use super::ids::Time;
use super::light::Helped;
use super::recollection::{LearnedPolicy, Recollection};
use super::scheduler::Scheduler;
use super::state::Adapter;
use super::wait::HOUR;
use std::time::Duration;

impl Scheduler {
    /// What is worth keeping for the next run.
    pub fn learned(&self, now: Time) -> LearnedPolicy {
        LearnedPolicy {
            misses: Some(self.misses.learned()),
            models: self.popularity.learned(now),
            clients: self.ahead.learned(now),
        }
    }

    /// Takes in what an earlier run learned. The server was `down` since that was read.
    pub(super) fn recall_policy(&mut self, now: Time, learned: &LearnedPolicy, down: Duration) {
        if let Some(misses) = learned.misses {
            self.misses.recall(misses);
        }
        for (model, count, ago) in &learned.models {
            if self.models.contains_key(model) {
                self.popularity.recall(now, *model, (*count, ago.saturating_add(down)));
            }
        }
        for client in learned.clients.iter().filter(|it| self.models.contains_key(&it.model)) {
            self.ahead.recall(now, client, down);
        }
    }
}

impl Adapter {
    /// Takes in what an earlier run learned of starts, unless it was started in this one.
    pub(super) fn recall(&mut self, now: Time, memory: &Recollection) {
        if self.incarnation.0 > 0 || !self.spells.is_empty() {
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
