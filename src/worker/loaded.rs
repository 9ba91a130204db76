//! A loaded model in a worker, and the context of the steps that load it.

use super::faults::OutputCorruption;
use super::slice;
use burn::tensor::Device;
use kinds::Registry;
use model::golden::GoldenSample;
use model::{Model, ModelError, bucket_for, run_batch, warm_up_inputs};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use types::tensor::Tensors;
use wire::client::WorkerSender;
use wire::{FromWorker, Slow};

/// A loaded model with the batch size limit for which it was warmed up.
pub(super) struct Loaded {
    pub(super) name: String,
    pub(super) model: Box<dyn Model>,
    pub(super) golden: Option<GoldenSample>,
    pub(super) max_rows: usize,
    /// Memory of the model, as in `FromWorker::Loaded`.
    pub(super) memory_bytes: u64,
}

impl Loaded {
    /// True if the model has a golden sample.
    pub(super) fn can_be_checked(&self) -> bool {
        self.golden.is_some()
    }

    /// Runs the golden sample and compares its outputs.
    ///
    /// # Errors
    /// If the outputs are wrong, or the run fails.
    pub(super) fn check(&mut self) -> Result<(), ModelError> {
        let Loaded { model, golden, max_rows, .. } = self;
        golden.iter().try_for_each(|sample| sample.check(model.as_mut(), *max_rows))
    }

    /// Batches to warm up with, one per datatype. Inputs of the golden sample replace the zeros of
    /// the same datatypes.
    pub(super) fn warm_up_inputs(&self, rows: usize) -> Vec<Tensors> {
        let mut sets = warm_up_inputs(self.model.signature(), rows);
        let Some(Ok(sample)) = self.golden.as_ref().map(|sample| sample.inputs(rows)) else {
            return sets;
        };
        let types = |inputs: &Tensors| {
            let types = inputs.0.iter().map(|tensor| (tensor.name.clone(), tensor.datatype));
            types.collect::<BTreeMap<_, _>>()
        };
        // Some graphs fail for zeros or made-up lengths; the inputs of the sample are valid.
        if let Some(set) = sets.iter_mut().find(|set| types(set) == types(&sample)) {
            *set = sample;
        }
        sets
    }

    /// Runs a batch that was taken at `begin`; of a decoupled model the first step, without its
    /// answers. A slowed worker sleeps until the least time for the batch's bucket has passed.
    ///
    /// # Errors
    /// Those of [`run_batch`].
    pub(super) fn run(
        &mut self,
        inputs: &Tensors,
        rows: usize,
        slow: Option<Slow>,
        begin: Instant,
    ) -> Result<Tensors, ModelError> {
        let decoupled = self.model.generator().is_some();
        let outputs = match decoupled {
            true => slice::warm_up(self.model.as_mut(), self.max_rows, inputs, rows)
                .map(|()| Tensors::default()),
            false => run_batch(self.model.as_mut(), self.max_rows, inputs, rows),
        };
        if let (Some(slow), Some(bucket)) = (slow, bucket_for(rows, self.max_rows)) {
            std::thread::sleep(slow.least(bucket).saturating_sub(begin.elapsed()));
        }
        outputs
    }
}

/// The context of a step of a load.
pub(super) struct Tools<'a> {
    pub(super) registry: &'a Registry,
    pub(super) device: &'a Device,
    pub(super) sender: &'a WorkerSender,
    pub(super) slow: Option<Slow>,
    pub(super) corruption: &'a OutputCorruption,
    /// The folder of the adapter's caches.
    pub(super) caches: &'a Path,
}

impl Tools<'_> {
    pub(super) fn report_progress(&self, doing: String) -> Result<(), ModelError> {
        let sent = self.sender.send(FromWorker::Progress { doing });
        sent.map_err(|error| ModelError::Device(error.to_string()))
    }
}
