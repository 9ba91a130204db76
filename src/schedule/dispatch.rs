//! Forms batches for free adapters, as late as possible, the fastest adapter first.

use super::queue::Lane;
use super::scheduler::Scheduler;
use super::state::{Adapter, Batch, State};
use super::types::{Action, AdapterId, Time};

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
        let loaded = |lane: &Lane| adapter.loaded.contains(&lane.model);
        self.queue.lanes().find(|lane| loaded(lane) && self.ripe(*lane).is_some_and(|at| at <= now))
    }

    /// When the lane's first request has waited long enough for company: at once if the batch
    /// is full, or must not have company.
    fn ripe(&self, lane: Lane) -> Option<Time> {
        let model = self.models.get(&lane.model)?;
        let (head, rows) = self.queue.head(lane)?;
        let full = rows >= u64::from(model.max_rows) || head.alone || self.closing.is_some();
        Some(if full { head.arrived } else { head.arrived + model.delay })
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
        let lanes = idle.flat_map(|adapter| {
            self.queue.lanes().filter(|lane| adapter.loaded.contains(&lane.model))
        });
        lanes.filter_map(|lane| self.ripe(lane)).min()
    }
}
