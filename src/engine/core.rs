//! The state of the driver, and the execution of the scheduler's actions.

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

/// The outcome of a batch, kept until the scheduler emits the action for it.
pub(crate) enum BatchOutcome {
    Outputs(Tensors, Compute),
    Error(Error),
}

/// State of the server's shutdown.
#[derive(Default)]
pub(crate) struct Shutdown {
    /// True once no further request is admitted.
    pub(crate) has_begun: bool,
    /// The end of the time for admitted requests; the scheduler is shut down then.
    pub(crate) deadline: Option<Instant>,
    /// Number of requests that were rejected because of the shutdown.
    pub(crate) rejected: u64,
}

/// The scheduler and the data behind the numbers that it uses. Each part changes only through its
/// own methods.
pub(crate) struct Core {
    pub(crate) scheduler: Scheduler,
    pub(crate) catalogue: Catalogue,
    /// The catalogue that clients' requests read.
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
    /// The time at which learned values were last written to disk.
    pub(crate) saved: Instant,
    pub(crate) arrivals: Arrivals,
    pub(crate) begin: Instant,
    pub(crate) admissions: Admissions,
    pub(crate) shutdown: Shutdown,
    pub(crate) config: EngineConfig,
}

impl Core {
    /// Handles an event and performs the resulting actions, then handles the events that follow.
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
        // The error of a failed batch is needed only by the rejections of the same turn.
        self.outcomes.retain(|_, outcome| matches!(outcome, BatchOutcome::Outputs(..)));
    }

    /// Publishes a snapshot of the current state.
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
                // Shapes wait under numbers until a load or the file needs them under names.
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
            // A shadow run answers no request, so that it has no queue times.
            self.expect_same_outputs(adapter, batch.id, other);
        } else {
            let time = self.time();
            let waits = self.requests.start(&batch, time);
            self.fleet.queued(adapter, time, waits);
        }
        let inputs = match self.requests.gather(&batch) {
            Ok(inputs) => inputs,
            Err(error) => {
                // A batch is formed only of requests that are pending, so this is a bug.
                tracing::error!(
                    batch = batch.id.0,
                    "failed to gather the inputs of a batch: {error}"
                );
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
