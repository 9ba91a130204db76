//! Forms batches for free adapters, as late as possible, the fastest adapter first.

use super::queue::{First, Lane};
use super::scheduler::Scheduler;
use super::state::{Adapter, Batch, State};
use super::types::{Action, AdapterId, Time};
use std::time::Duration;

impl Scheduler {
    /// Gives every idle adapter a batch, if one is due.
    pub(super) fn dispatch(&mut self, now: Time) {
        for at in 0..self.order.len() {
            if self.queue.len() == 0 {
                return;
            }
            let id = self.order[at];
            let idle = |adapter: &&Adapter| matches!(adapter.state, State::Idle { .. });
            let Some(adapter) = self.adapters.get(&id).filter(idle) else { continue };
            if let Some(lane) = self.due_lane(now, adapter) {
                self.run(now, id, lane);
            }
        }
    }

    /// The lane that has waited longest among those this adapter can serve now.
    fn due_lane(&self, now: Time, adapter: &Adapter) -> Option<Lane> {
        let due = self.firsts(now, adapter).filter(|first| first.due <= now);
        due.min().map(|first| first.lane)
    }

    /// For every model that the adapter has loaded, the lane to serve first.
    fn firsts(&self, now: Time, adapter: &Adapter) -> impl Iterator<Item = First> {
        adapter.loaded.iter().filter_map(move |model| {
            // On the way down nobody waits for company any more.
            let closing = self.closing.map(|_| Duration::ZERO);
            let delay = closing.or(self.models.get(model).map(|model| model.delay))?;
            self.queue.first(*model, delay, now)
        })
    }

    fn run(&mut self, now: Time, id: AdapterId, lane: Lane) {
        let max_rows = self.models.get(&lane.model).map_or(1, |model| model.max_rows);
        let taken = self.queue.take(lane, max_rows);
        let requests = taken.iter().map(|(id, request)| (*id, request.rows)).collect();
        self.flying.extend(taken);
        let batch = Batch { id: self.next_batch(), model: lane.model, requests };
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        let incarnation = adapter.incarnation;
        adapter.state = State::Busy { since: now, batch: batch.clone() };
        self.actions.push_back(Action::Run { adapter: id, incarnation, batch });
    }

    /// When the next batch becomes due for an adapter that is idle already.
    pub(super) fn ripe_at(&self) -> Option<Time> {
        let idle = self.adapters.values().filter(|a| matches!(a.state, State::Idle { .. }));
        // Looked at from the beginning of time: what is due already comes before all else.
        let firsts = idle.flat_map(|adapter| self.firsts(Time::default(), adapter));
        firsts.map(|first| first.due).min()
    }
}
