//! What the driver knows, and how it performs the actions of the scheduler.

use crate::calls::admissions::Admissions;
use crate::calls::held_memory::Memory;
use crate::calls::next_slices::NextSlices;
use crate::calls::requests::Requests;
use crate::calls::shadows::Shadows;
use crate::learned_profiles::{self, LearnedProfiles};
use crate::models::file_keeper::FileKeeper;
use crate::modes::Modes;
use crate::publish::{Publisher, SnapshotSources};
use crate::statistics::Statistics;
use crate::workers::environment::Environment;
use crate::workers::fleet::Fleet;
use crate::workers::listings::Listings;
use crate::workers::memory_budget::MemoryBudgets;
use crate::workers::sensors::Sensors;
use crate::{Catalogue, EngineConfig};
use schedule::{Action, AdapterId, Batch, BatchId, Event, Scheduler, Time};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use telemetry::{Arrivals, Compute};
use tokio::sync::watch;
use types::clock;
use types::error::Error;
use types::tensor::Tensors;
use wire::server::Outgoing;
use wire::{TensorHeader, ToWorker};

/// What came of a batch, until the scheduler says what to do with it.
pub(crate) enum BatchOutcome {
    Outputs(Tensors, Compute),
    Error(Error),
}

/// The way down of the server.
#[derive(Default)]
pub(crate) struct Shutdown {
    /// True once nothing more is admitted.
    pub(crate) has_begun: bool,
    /// Until when admitted requests may end, before the scheduler is told to shut down.
    pub(crate) deadline: Option<Instant>,
    /// Requests that were turned away because the server goes down.
    pub(crate) cut: u64,
}

/// Owns the scheduler and everything it only knows by number. Each part is changed by its own methods.
pub(crate) struct Core {
    pub(crate) scheduler: Scheduler,
    pub(crate) catalogue: Catalogue,
    /// Where clients look models up.
    pub(crate) catalogues: watch::Sender<Arc<Catalogue>>,
    pub(crate) fleet: Fleet,
    pub(crate) requests: Requests,
    pub(crate) slices: NextSlices,
    pub(crate) outcomes: HashMap<BatchId, BatchOutcome>,
    pub(crate) shadows: Shadows,
    pub(crate) statistics: Statistics,
    pub(crate) publisher: Publisher,
    pub(crate) memory: Memory,
    pub(crate) sensors: Sensors,
    pub(crate) memory_budgets: MemoryBudgets,
    pub(crate) learned_profiles: LearnedProfiles,
    pub(crate) modes: Modes,
    pub(crate) environment: Environment,
    pub(crate) keeper: FileKeeper,
    pub(crate) listings: Listings,
    /// When what was learned was last written.
    pub(crate) saved: Instant,
    pub(crate) arrivals: Arrivals,
    pub(crate) begin: Instant,
    pub(crate) admissions: Admissions,
    pub(crate) shutdown: Shutdown,
    pub(crate) config: EngineConfig,
}

impl Core {
    /// One turn: the event in, the actions out; then the same for what follows from them.
    pub(crate) fn turn(&mut self, event: Event) {
        self.step(event);
        while let Some(event) = self.slices.due.pop_front() {
            self.step(event);
        }
        self.publisher.touch();
    }

    fn step(&mut self, event: Event) {
        self.scheduler.handle(self.time(), event);
        while let Some(action) = self.scheduler.poll_action() {
            self.perform(action);
        }
        // A failed batch's error is only of use to the rejections of its own turn.
        self.outcomes.retain(|_, outcome| matches!(outcome, BatchOutcome::Outputs(..)));
    }

    /// Shows what there is now.
    pub(crate) fn publish(&mut self) {
        let time = self.time();
        self.fleet.refresh(time);
        self.statistics.refresh(time);
        let sources = SnapshotSources {
            scheduler: &self.scheduler,
            closing: self.shutdown.has_begun,
            fleet: &self.fleet,
            catalogue: &self.catalogue,
            statistics: &self.statistics,
            memory: &self.memory,
            environment: &self.environment,
            sensors: &self.sensors,
        };
        self.publisher.publish(time, &sources);
    }

    pub(crate) fn time(&self) -> Time {
        Time(clock::now().duration_since(self.begin))
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start { adapter, incarnation } => self.fleet.start(adapter, incarnation),
            Action::Load { adapter, model, max_rows, .. } => {
                self.learned_profiles.enter_shapes(&self.catalogue);
                if let Some(info) = self.catalogue.get(model) {
                    let shapes = self.learned_profiles.shapes(&learned_profiles::key(info));
                    self.fleet.load(adapter, model, (info, max_rows), shapes);
                }
            }
            Action::Unload { adapter, model, .. } => {
                self.fleet.send_control(adapter, ToWorker::Unload { model: model.0 });
            }
            Action::Run { adapter, batch, .. } => self.send_batch(adapter, batch),
            Action::Stop { adapter, .. } => self.fleet.send_control(adapter, ToWorker::Stop),
            Action::Kill { adapter, .. } => self.fleet.kill(adapter),
            Action::Collect { adapter, batch } => self.collect(adapter, &batch),
            Action::Answer { request } => self.answer(request),
            Action::Discard { batch } => {
                self.outcomes.remove(&batch);
            }
            Action::Reject { request, reason } => self.reject(request, reason),
            Action::Decided(decision) => {
                let metrics = &self.statistics.metrics;
                metrics.decided(decision.change.as_str(), decision.reason.as_str());
                self.publisher.decided(&decision, &self.fleet, &self.catalogue);
            }
        }
    }

    fn send_batch(&mut self, adapter: AdapterId, batch: Batch) {
        if let Some(other) = batch.repeats {
            self.expect_same_outputs(adapter, batch.id, other);
        } else {
            let time = self.time();
            let waits = self.requests.start(&batch, time);
            self.fleet.queued(adapter, time, waits);
        }
        let inputs = match self.requests.gather(&batch) {
            Ok(inputs) => inputs,
            Err(error) => {
                // Every request of a batch is owed an answer when the batch is formed.
                tracing::error!(batch = batch.id.0, "a batch cannot be put together: {error}");
                return;
            }
        };
        let mut body = Vec::new();
        let mut tensors = Vec::with_capacity(inputs.len());
        for input in inputs {
            let bytes = input.parts.iter().map(|part| part.len() as u64).sum();
            let (name, datatype, shape) = (input.name, input.datatype, input.shape);
            tensors.push(TensorHeader { name, datatype, shape, bytes });
            body.extend(input.parts);
        }
        let (id, model, rows) = (batch.id.0, batch.model.0, u64::from(batch.rows()));
        let slices = self.requests.slices(&batch);
        let message = ToWorker::Run { batch: id, model, rows, slices, tensors };
        self.fleet.send_batch(adapter, batch.id, Outgoing { message, body });
    }
}
