//! Delivery of the outcomes of batches to their requests.

use crate::calls::rejections::{deadline_passed, model_failed, rejection};
use crate::calls::requests::Collected;
use crate::core::{BatchOutcome, Core};
use crate::statistics::{Executed, cause};
use model::batch::bucket_for;
use schedule::{AdapterId, Batch, BatchId, Reject, RequestId};
use telemetry::Compute;
use types::error::Error;
use types::tensor::Tensors;

impl Core {
    /// Records that a batch repeats another one, so that its outputs must be equal.
    pub(crate) fn expect_same_outputs(
        &mut self,
        adapter: AdapterId,
        batch: BatchId,
        other: BatchId,
    ) {
        if let Some(BatchOutcome::Outputs(outputs, _)) = self.outcomes.get(&other) {
            // The tensors share their bytes, so that nothing is copied.
            self.shadows.expect(adapter, batch, outputs.clone());
        }
    }

    /// Distributes the outputs of a batch to its requests.
    pub(crate) fn collect(&mut self, adapter: AdapterId, batch: &Batch) {
        let Some(BatchOutcome::Outputs(outputs, compute)) = self.outcomes.remove(&batch.id) else {
            return;
        };
        self.fleet.count(adapter, self.time(), batch);
        self.count_batch(adapter, batch, compute);
        // The slices share their memory, which is counted until the last of them is dropped.
        let outputs = self.memory.owing(outputs);
        let mut row = 0usize;
        for part in &batch.parts {
            let (from, rows) = (row, part.rows as usize);
            row += rows;
            // The outputs of a decoupled model have already been sent as partial answers.
            let part_of = |outputs: &Tensors| match outputs.0.is_empty() {
                true => Ok(Tensors::default()),
                false => outputs.slice_rows(from, rows),
            };
            match part_of(&outputs) {
                Ok(outputs) => {
                    let adapter = self.fleet.name(adapter);
                    let (first, batch_rows) = (part.first, batch.rows());
                    let collected = Collected { first, outputs, adapter, compute, batch_rows };
                    self.requests.collect(part.request, collected);
                }
                Err(error) => {
                    let error = Error::internal(error.to_string());
                    self.reject_with(part.request, "outputs", error);
                }
            }
        }
    }

    pub(crate) fn answer(&mut self, request: RequestId) {
        if self.continues(request) {
            return;
        }
        let Some(mut pending) = self.requests.remove(request) else { return };
        let (model, arrived) = (pending.model, pending.arrived);
        let (time, shape) = (self.time(), pending.take_shape());
        match pending.finish(&self.memory, time) {
            Some(answered) => {
                self.statistics.answered(model, time, answered);
                if let Some(shape) = shape {
                    self.learned_profiles.answered(model, shape);
                }
            }
            None => {
                let why = ("outputs", "the outputs of its parts cannot be joined");
                self.statistics.failed(model, why, time.since(arrived));
            }
        }
    }

    fn count_batch(&mut self, adapter: AdapterId, batch: &Batch, compute: Compute) {
        let rows = batch.rows();
        let max_rows = self.catalogue.get(batch.model).map_or(0, |info| info.batch.max_rows);
        let bucket = bucket_for(rows as usize, max_rows).unwrap_or_default();
        let bucket = u32::try_from(bucket).unwrap_or(rows);
        let adapter = self.fleet.name(adapter);
        let executed = Executed { adapter: &adapter, rows, bucket, compute };
        self.statistics.executed(batch.model, executed);
    }

    pub(crate) fn reject(&mut self, request: RequestId, reason: Reject) {
        self.shutdown.rejected += u64::from(reason == Reject::ShuttingDown);
        let error = match reason {
            Reject::Input { batch } => match self.outcomes.get(&batch) {
                Some(BatchOutcome::Error(error)) => error.clone(),
                Some(BatchOutcome::Outputs(..)) | None => Error::internal("the model failed"),
            },
            Reject::Deadline => deadline_passed(self.requests.timeout(request)),
            Reject::ModelFailed | Reject::NoneHolds => {
                let model = self.requests.model(request);
                model_failed(reason, model.and_then(|model| self.fleet.load_error(model)))
            }
            other => {
                let fault = self.environment.fault();
                // If no process can be started, the reason is the environment of the server.
                let fault = fault.filter(|_| matches!(other, Reject::NoAdapter { .. }));
                fault.map_or_else(|| rejection(other), Error::unavailable)
            }
        };
        self.reject_with(request, cause(&reason), error);
    }

    pub(crate) fn reject_with(&mut self, request: RequestId, cause: &'static str, error: Error) {
        // Before the removal, since only a pending request has a slice to cancel.
        self.cancel_slice(request);
        if let Some(pending) = self.requests.remove(request) {
            let took = self.time().since(pending.arrived);
            self.statistics.failed(pending.model, (cause, &error.message), took);
            pending.reply.fail(error);
        }
    }
}
