//! Loads one model step by step, so that batches of other models run between the steps.

use super::faults::Spoiler;
use super::guard::micros;
use crate::clock;
use crate::model::golden::Sample;
use crate::model::{
    LoadContext, Model, ModelError, ModelInfo, Registry, bucket_for, buckets, golden, run_batch,
    warm_up_inputs,
};
use crate::tensor::Tensors;
use crate::wire::client::Sender;
use crate::wire::{LoadOrder, Slow, Up};
use burn::tensor::Device;
use std::time::{Duration, Instant};

/// Timed runs add up to this before they stop: enough for a first guess.
const TIMED_ENOUGH: Duration = Duration::from_millis(50);
/// The largest bucket is timed too if it takes less than this: the guess is best at both ends.
const LARGEST_MAX: Duration = Duration::from_millis(250);

/// A loaded model with the limit that it was warmed up for.
pub(super) struct Loaded {
    pub(super) name: String,
    model: Box<dyn Model>,
    golden: Option<Sample>,
    max_rows: usize,
    /// Memory that it takes, as `Up::Loaded` says.
    pub(super) memory_bytes: u64,
}

impl Loaded {
    /// Whether it has an answer that is known.
    pub(super) fn can_be_checked(&self) -> bool {
        self.golden.is_some()
    }

    /// Whether it still gives the answer that is known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&mut self) -> Result<(), ModelError> {
        let Loaded { model, golden, max_rows, .. } = self;
        golden.iter().try_for_each(|sample| sample.check(model.as_mut(), *max_rows))
    }

    /// Runs a batch that was taken at `begin`. A slowed worker sleeps until the least time for the
    /// batch's bucket has passed.
    ///
    /// # Errors
    /// What [`run_batch`] says.
    pub(super) fn run(
        &mut self,
        inputs: &Tensors,
        rows: usize,
        slow: Option<Slow>,
        begin: Instant,
    ) -> Result<Tensors, ModelError> {
        let outputs = run_batch(self.model.as_mut(), self.max_rows, inputs, rows);
        if let (Some(slow), Some(bucket)) = (slow, bucket_for(rows, self.max_rows)) {
            std::thread::sleep(slow.least(bucket).saturating_sub(begin.elapsed()));
        }
        outputs
    }
}

/// What a step works with.
pub(super) struct Tools<'a> {
    pub(super) registry: &'a Registry,
    pub(super) device: &'a Device,
    pub(super) sender: &'a Sender,
    pub(super) slow: Option<Slow>,
    pub(super) spoil: &'a Spoiler,
}

impl Tools<'_> {
    fn say(&self, doing: String) -> Result<(), ModelError> {
        let said = self.sender.send(Up::Progress { doing });
        said.map_err(|error| ModelError::Device(error.to_string()))
    }
}

/// One model on its way.
pub(super) struct Loading {
    order: LoadOrder,
    loaded: Option<Loaded>,
    runs: Runs,
    /// Memory taken by the steps so far; `None` where the device does not tell.
    grown: Option<i64>,
    load: Duration,
    warm_up: Duration,
}

impl Loading {
    pub(super) fn new(order: LoadOrder) -> Loading {
        Loading {
            runs: Runs::new(order.info.batch.max_rows),
            order,
            loaded: None,
            grown: Some(0),
            load: Duration::ZERO,
            warm_up: Duration::ZERO,
        }
    }

    /// The engine's number for the model.
    pub(super) fn model(&self) -> u32 {
        self.order.model
    }

    /// Rows of the bucket that its last step ran; 0 if that ran none.
    pub(super) fn rows(&self) -> u32 {
        self.loaded.as_ref().map_or(0, |_| u32::try_from(self.runs.rows).unwrap_or(u32::MAX))
    }

    /// Does one step and says before what it is. `true` if it was the last.
    ///
    /// # Errors
    /// Why the model cannot be loaded; there is no use in further steps.
    pub(super) fn step(&mut self, tools: &Tools<'_>) -> Result<bool, ModelError> {
        let begin = clock::now();
        let before = in_use(tools.device);
        let (time, last) = match &mut self.loaded {
            Some(loaded) => {
                (&mut self.warm_up, self.runs.next(loaded, &self.order.info.name, tools)?)
            }
            None => {
                self.loaded = Some(read(&self.order.info, tools)?);
                (&mut self.load, false)
            }
        };
        *time += begin.elapsed();
        let taken = growth(before, in_use(tools.device));
        self.grown = self.grown.zip(taken).map(|(sum, taken)| sum.saturating_add(taken));
        Ok(last)
    }

    /// The model after its last step, with the news of it; `None` before.
    pub(super) fn finish(self) -> Option<(Loaded, Up)> {
        let mut loaded = self.loaded?;
        let files_bytes = self.order.info.files_bytes;
        let grown = self.grown.map(|bytes| u64::try_from(bytes).unwrap_or(0));
        loaded.memory_bytes = grown.unwrap_or(files_bytes);
        let news = Up::Loaded {
            model: self.order.model,
            load_ms: millis(self.load),
            warm_up_ms: millis(self.warm_up),
            memory_bytes: loaded.memory_bytes,
            measured: self.runs.measured,
        };
        Some((loaded, news))
    }
}

fn read(info: &ModelInfo, tools: &Tools<'_>) -> Result<Loaded, ModelError> {
    tools.say(format!("loading {}", info.name))?;
    let files = info.files()?;
    let context = LoadContext { info, files: &files, device: tools.device };
    let mut model = tools.spoil.wrap(tools.registry.load(&context)?);
    let (golden, max_rows) = (golden::sample(&files, info)?, info.batch.max_rows);
    golden.iter().try_for_each(|sample| sample.check(model.as_mut(), max_rows))?;
    let name = info.name.clone();
    Ok(Loaded { name, model, golden, max_rows, memory_bytes: 0 })
}

/// What a model runs before it serves: every bucket of every datatype once, then some again with
/// a clock.
struct Runs {
    /// Buckets with the shortest of their runs so far.
    buckets: Vec<(usize, Duration)>,
    /// Runs of the warm-up that are done; each bucket has one per datatype.
    warmed: usize,
    measured: Vec<(u32, u64)>,
    /// Rows of the last run.
    rows: usize,
}

impl Runs {
    fn new(max_rows: usize) -> Runs {
        let buckets = buckets(max_rows).into_iter().map(|rows| (rows, Duration::MAX)).collect();
        Runs { buckets, warmed: 0, measured: Vec::new(), rows: 0 }
    }

    /// Does the next run. `true` if it was the last.
    fn next(
        &mut self,
        loaded: &mut Loaded,
        name: &str,
        tools: &Tools<'_>,
    ) -> Result<bool, ModelError> {
        let datatypes = warm_up_inputs(loaded.model.signature(), 1).len();
        let runs = self.buckets.len() * datatypes;
        if self.warmed < runs {
            let (bucket, datatype) = (self.warmed / datatypes, self.warmed % datatypes);
            self.warmed += 1;
            tools.say(format!("warming up {name} ({} of {runs})", self.warmed))?;
            self.warm_up(loaded, bucket, datatype)?;
            return Ok(false);
        }
        let Some(rows) = self.next_timed(tools.slow) else { return Ok(true) };
        tools.say(format!("timing {name}"))?;
        self.time(loaded, rows, tools.slow)?;
        Ok(self.next_timed(tools.slow).is_none())
    }

    /// Runs a bucket once for one datatype, so that no client waits for a compiler.
    fn warm_up(
        &mut self,
        loaded: &mut Loaded,
        bucket: usize,
        datatype: usize,
    ) -> Result<(), ModelError> {
        let Some((rows, shortest)) = self.buckets.get_mut(bucket) else { return Ok(()) };
        self.rows = *rows;
        let begin = clock::now();
        if let Some(inputs) = warm_up_inputs(loaded.model.signature(), *rows).get(datatype) {
            loaded.run(inputs, *rows, None, begin)?;
        }
        *shortest = begin.elapsed().min(*shortest);
        Ok(())
    }

    /// Times a warm bucket as a client's batch would find it.
    fn time(
        &mut self,
        loaded: &mut Loaded,
        rows: usize,
        slow: Option<Slow>,
    ) -> Result<(), ModelError> {
        self.rows = rows;
        let inputs = warm_up_inputs(loaded.model.signature(), rows);
        let begin = clock::now();
        if let Some(inputs) = inputs.first() {
            loaded.run(inputs, rows, slow, begin)?;
        }
        // A batch that takes no time at all would be worth any wait.
        let took = micros(begin).max(1);
        self.measured.push((u32::try_from(rows).unwrap_or(u32::MAX), took));
        Ok(())
    }

    /// Rows of the bucket to time next: the smallest first until there is enough, then the largest
    /// unless it takes long.
    fn next_timed(&self, slow: Option<Slow>) -> Option<usize> {
        let spent: u64 = self.measured.iter().map(|(_, took)| took).sum();
        let next = self.buckets.get(self.measured.len()).map(|(rows, _)| *rows);
        if self.measured.is_empty() || Duration::from_micros(spent) < TIMED_ENOUGH {
            return next;
        }
        let (largest, took) = *self.buckets.last()?;
        let timed = self.measured.last().is_some_and(|(rows, _)| *rows as usize == largest);
        let least = slow.map_or(Duration::ZERO, |slow| slow.least(largest));
        (!timed && took.max(least) < LARGEST_MAX).then_some(largest)
    }
}

/// Memory of the device that tensors hold; `None` where the backend does not tell.
pub(super) fn in_use(device: &Device) -> Option<u64> {
    usage(device).map(|(in_use, _)| in_use)
}

/// The same, and what is kept for tensors in all.
pub(super) fn usage(device: &Device) -> Option<(u64, u64)> {
    let usage = device.memory_pool_usage()?;
    let in_use = usage.bytes_in_use.saturating_add(usage.bytes_padding);
    Some((in_use, usage.bytes_reserved.max(in_use)))
}

/// By how much it grew; negative if it shrank.
fn growth(before: Option<u64>, after: Option<u64>) -> Option<i64> {
    let (before, after) = (i64::try_from(before?).ok()?, i64::try_from(after?).ok()?);
    Some(after.saturating_sub(before))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
