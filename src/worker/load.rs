//! Loads one model step by step, so that batches of other models run between the steps.

use super::loaded::{Loaded, Tools};
use super::tuning::{self, cached_bytes};
use super::warm_up::WarmUpRuns;
use burn::tensor::Device;
use kinds::LoadContext;
use model::transfer::VersionInUse;
use model::{ModelError, ModelInfo, golden};
use std::time::Duration;
use types::clock;
use wire::{FromWorker, LoadRequest};

/// The load of one model.
pub(super) struct OngoingLoad {
    request: LoadRequest,
    /// Keeps received files from being removed.
    _files: Option<VersionInUse>,
    loaded: Option<Loaded>,
    runs: WarmUpRuns,
    /// Growth of the memory in use by the steps so far; `None` if the device does not report it.
    grown: Option<i64>,
    load: Duration,
    warm_up: Duration,
    /// Size of the caches and total tuning time at the first step.
    begun: Option<(u64, Duration)>,
    tuning: Option<Duration>,
}

impl OngoingLoad {
    pub(super) fn new(request: LoadRequest, files: Option<VersionInUse>) -> OngoingLoad {
        OngoingLoad {
            _files: files,
            runs: WarmUpRuns::new(&request.info.batch),
            request,
            loaded: None,
            grown: Some(0),
            load: Duration::ZERO,
            warm_up: Duration::ZERO,
            begun: None,
            tuning: None,
        }
    }

    /// The engine's number for the model.
    pub(super) fn model(&self) -> u32 {
        self.request.model
    }

    /// Rows of the bucket that the last step ran; 0 if it ran none.
    pub(super) fn rows(&self) -> u32 {
        self.loaded.as_ref().map_or(0, |_| u32::try_from(self.runs.rows).unwrap_or(u32::MAX))
    }

    /// Reports and runs one step. Returns true if it was the last one.
    ///
    /// # Errors
    /// If the model cannot be loaded; no further step may be run then.
    pub(super) fn step(&mut self, tools: &Tools<'_>) -> Result<bool, ModelError> {
        let (cached, tuned) =
            *self.begun.get_or_insert_with(|| (cached_bytes(tools.caches), tuning::total()));
        let begin = clock::now();
        let before = in_use(tools.device);
        let (time, last) = match &mut self.loaded {
            Some(loaded) => {
                (&mut self.warm_up, self.runs.next(loaded, &self.request.info.name, tools)?)
            }
            None => {
                self.loaded = Some(read(&self.request.info, tools)?);
                (&mut self.load, false)
            }
        };
        *time += begin.elapsed();
        // Measured per step, since batches of other models run between the steps.
        let taken = growth(before, in_use(tools.device));
        self.grown = self.grown.zip(taken).map(|(sum, taken)| sum.saturating_add(taken));
        // Only kernels that are new in the caches make the next load shorter.
        if last && cached_bytes(tools.caches) > cached {
            self.tuning = Some(tuning::total().saturating_sub(tuned));
        }
        Ok(last)
    }

    /// The model after its last step, with its `Loaded` message; `None` before.
    pub(super) fn finish(self) -> Option<(Loaded, FromWorker)> {
        let mut loaded = self.loaded?;
        let files_bytes = self.request.info.files_bytes;
        let grown = self.grown.map(|bytes| u64::try_from(bytes).unwrap_or(0));
        loaded.memory_bytes = grown.unwrap_or(files_bytes);
        let message = FromWorker::Loaded {
            model: self.request.model,
            load_ms: millis(self.load),
            warm_up_ms: millis(self.warm_up),
            memory_bytes: loaded.memory_bytes,
            measured: self.runs.measured,
            tuning_ms: self.tuning.map(millis),
            note: self.runs.note,
        };
        Some((loaded, message))
    }
}

fn read(info: &ModelInfo, tools: &Tools<'_>) -> Result<Loaded, ModelError> {
    tools.report_progress(format!("loading {}", info.name))?;
    let files = info.files()?;
    let context = LoadContext { info, files: &files, device: tools.device };
    let mut model = tools.corruption.wrap(tools.registry.load(&context)?);
    // The sample is run before the warm-up, so that a wrong model fails before the kernels of all
    // buckets are compiled.
    let (golden, max_rows) = (golden::sample(&files, info)?, info.batch.max_rows);
    golden.iter().try_for_each(|sample| sample.check(model.as_mut(), max_rows))?;
    let name = info.name.clone();
    Ok(Loaded { name, model, golden, max_rows, memory_bytes: 0 })
}

/// Device memory that tensors use; `None` if the backend does not report it.
pub(super) fn in_use(device: &Device) -> Option<u64> {
    usage(device).map(|(in_use, _)| in_use)
}

/// Device memory that tensors use, and memory that is reserved for tensors.
pub(super) fn usage(device: &Device) -> Option<(u64, u64)> {
    let usage = device.memory_pool_usage()?;
    let in_use = usage.bytes_in_use.saturating_add(usage.bytes_padding);
    Some((in_use, usage.bytes_reserved.max(in_use)))
}

/// The growth between two readings; negative for a decrease.
fn growth(before: Option<u64>, after: Option<u64>) -> Option<i64> {
    let (before, after) = (i64::try_from(before?).ok()?, i64::try_from(after?).ok()?);
    Some(after.saturating_sub(before))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
