//! What the policy learned and is worth keeping between two runs of the server, beside what is known
//! of each adapter ([`Recollection`]).

use super::light::Helped;
use super::scheduler::Scheduler;
use super::state::Adapter;
use super::types::{ClientId, ModelId, Recollection, Time};
use super::wait::HOUR;
use std::time::Duration;

/// What the policy learned of requests and clients. Times are counted back from when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearnedPolicy {
    /// What late requests taught, in millionths: the logarithm of the price of one, and the share
    /// of requests that were late although nothing was starting.
    pub misses: Option<(i64, u64)>,
    /// By model: requests, each of which counts less with time, in thousandths, and how long ago the
    /// last one came.
    pub models: Vec<(ModelId, u64, Duration)>,
    pub clients: Vec<LearnedClient>,
}

/// When a client comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnedClient {
    /// `None` stands for all together.
    pub client: Option<ClientId>,
    /// The model that it asked for last.
    pub model: ModelId,
    /// How long ago its last spell of work began and ended.
    pub began: Option<Duration>,
    pub worked: Duration,
    /// From the end of work to the next spell, from spell to spell, and the longest pauses within
    /// spells; newest last.
    pub pauses: Vec<Duration>,
    pub periods: Vec<Duration>,
    pub lulls: Vec<Duration>,
    /// Late requests of a spell for which no adapter is ready, in thousandths.
    pub late_permille: u32,
}

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
