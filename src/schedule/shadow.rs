//! Trust after wrong answers. An adapter that computed wrongly passes the checks of its next start,
//! and may still compute wrongly now and then. So as long as another can answer, perhaps after a
//! start, it only runs once more what that one has just answered; the driver compares, and a
//! difference is a fault.

use super::action::Action;
use super::batch::Batch;
use super::ids::{AdapterId, ModelId, Time};
use super::scheduler::Scheduler;
use super::state::{Adapter, State};

/// Batches in which an adapter must have agreed with others before it answers again.
pub(super) const SHADOWED: u32 = 3;

impl Scheduler {
    /// Whether this adapter must leave the model to others that can be trusted.
    pub(super) fn is_on_trial(&self, id: AdapterId, adapter: &Adapter, model: ModelId) -> bool {
        let trusted = |(other, a): (&AdapterId, &Adapter)| {
            let goes = matches!(a.state, State::Stopping { fault: None, .. });
            let back = goes && self.is_eligible(*other) && self.on() < self.settings.max;
            let comes = a.state.is_on() || back || self.may_be_turned_on(*other, a);
            *other != id && a.trial == 0 && comes && self.takes(a, model)
        };
        adapter.trial > 0 && self.adapters.iter().any(trusted)
    }

    /// Whether turning this adapter on may help with what waits for a model: one that failed again
    /// and again, or computed wrongly, gives way as long as a better one may be turned on.
    pub(super) fn helps_with(&self, adapter: &Adapter, model: ModelId) -> bool {
        let good = |a: &Adapter| a.trial == 0 && self.is_trusted(a);
        let better = |(other, a): (&AdapterId, &Adapter)| {
            good(a) && self.may_be_turned_on(*other, a) && self.takes(a, model)
        };
        self.takes(adapter, model) && (good(adapter) || !self.adapters.iter().any(better))
    }

    /// Whether this adapter is not on and may be.
    pub(super) fn may_be_turned_on(&self, id: AdapterId, adapter: &Adapter) -> bool {
        let off = matches!(adapter.state, State::Off | State::Draining { .. });
        off && self.is_eligible(id) && self.on() < self.settings.max
    }

    /// Has a batch that was just answered run once more where that is to be compared; before its
    /// requests are forgotten.
    pub(super) fn shadow(&mut self, now: Time, by: AdapterId, batch: &Batch) {
        let owed = batch.parts.iter().all(|part| self.queue.get(part.request).is_some());
        if self.adapters.get(&by).is_none_or(|adapter| adapter.trial > 0) || !owed {
            return;
        }
        let idle = |(id, a): &(&AdapterId, &Adapter)| {
            let holds = a.replicas.contains_key(&batch.model);
            a.trial > 0 && a.is_idle() && holds && batch.rows() <= self.max_rows(**id, batch.model)
        };
        let Some((id, _)) = self.adapters.iter().find(idle) else { return };
        let (id, repeats) = (*id, Some(batch.id));
        let batch = Batch { id: self.next_batch(), repeats, ..batch.clone() };
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        adapter.run(now, batch.clone());
        let incarnation = adapter.incarnation;
        self.actions.push_back(Action::Run { adapter: id, incarnation, batch });
    }

    /// The adapter answered as another had before.
    pub(super) fn agreed(&mut self, id: AdapterId) {
        if let Some(adapter) = self.adapters.get_mut(&id) {
            adapter.trial = adapter.trial.saturating_sub(1);
        }
    }
}
