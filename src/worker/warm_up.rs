//! Warm-up: the runs of a model between its load and its first request.

use super::compare;
use super::guard::micros;
use super::loaded::{Loaded, Tools};
use model::{Batching, ModelError, buckets, warm_up_inputs};
use std::time::Duration;
use types::clock;
use wire::Slow;

/// Total time of the timed runs, which is enough for a first estimate.
const TIMED_ENOUGH: Duration = Duration::from_millis(50);
/// The largest bucket is timed too if it takes less than this: the estimate is best at both ends.
const LARGEST_MAX: Duration = Duration::from_millis(250);
/// A batch that takes less than this is always worth doubling.
const SHORT: Duration = Duration::from_millis(4);
/// A batch that takes longer than this is never worth doubling.
const LONG: Duration = Duration::from_millis(20);
/// Maximum size of the inputs and outputs of a batch to try, in bytes.
const GROWN_BYTES_MAX: usize = 64 << 20;

/// The runs of a model before it serves: each bucket of each datatype once, some again for timing,
/// larger buckets as long as they are worthwhile, and a comparison of rows together and separately.
pub(super) struct WarmUpRuns {
    /// Buckets with the shortest of their runs so far.
    buckets: Vec<(usize, Duration)>,
    /// Number of warm-up runs so far; each bucket has one per datatype.
    warmed: usize,
    pub(super) measured: Vec<(u32, u64)>,
    /// A remark for the operator.
    pub(super) note: Option<String>,
    /// Rows of the last run.
    pub(super) rows: usize,
    /// Rows of the largest bucket to try, if the batch size may grow.
    grows_to: Option<usize>,
    /// Bytes of the inputs and outputs of the last timed run.
    bytes: usize,
    compared: bool,
}

impl WarmUpRuns {
    pub(super) fn new(batch: &Batching) -> WarmUpRuns {
        let first = buckets(batch.first_rows());
        let buckets = first.into_iter().map(|rows| (rows, Duration::MAX)).collect();
        WarmUpRuns {
            buckets,
            warmed: 0,
            measured: Vec::new(),
            note: None,
            rows: 0,
            grows_to: batch.grows.then_some(batch.max_rows),
            bytes: 0,
            compared: false,
        }
    }

    /// Performs the next run. Returns true if it was the last one. A graph may reject generated
    /// inputs: that is recorded as a note, and the first requests are planned with their own
    /// shapes.
    pub(super) fn next(
        &mut self,
        loaded: &mut Loaded,
        name: &str,
        tools: &Tools<'_>,
    ) -> Result<bool, ModelError> {
        let hints = loaded.model.signature().output_hints;
        match self.step(loaded, name, tools) {
            Err(ModelError::Input(error) | ModelError::Broken(error)) if hints => {
                self.note = Some(format!("failed to warm up with generated inputs: {error}"));
                self.rows = 0;
                Ok(true)
            }
            outcome => outcome,
        }
    }

    fn step(
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
            tools.report_progress(format!("warming up {name} ({} of {runs})", self.warmed))?;
            self.warm_up(loaded, bucket, datatype)?;
            return Ok(false);
        }
        if let Some(rows) = self.next_timed(tools.slow) {
            tools.report_progress(format!("timing {name}"))?;
            self.time(loaded, rows, tools.slow)?;
            return Ok(self.is_done(loaded, tools.slow));
        }
        if let Some(rows) = self.next_larger() {
            tools.report_progress(format!("timing {name} ({rows} rows)"))?;
            self.buckets.push((rows, Duration::MAX));
            // `larger` runs the new bucket. Without this count it was warmed up a second time.
            self.warmed += datatypes;
            match self.larger(loaded, rows, tools.slow) {
                // The smaller buckets have run successfully.
                Err(ModelError::Input(_) | ModelError::Broken(_)) => self.grows_to = None,
                outcome => outcome?,
            }
            return Ok(false);
        }
        if !std::mem::replace(&mut self.compared, true) && compare::is_wanted(loaded) {
            tools.report_progress(format!("comparing rows of {name}"))?;
            self.note = compare::rows(loaded)?;
        }
        Ok(true)
    }

    /// Runs a larger bucket once for warm-up and once for timing.
    fn larger(
        &mut self,
        loaded: &mut Loaded,
        rows: usize,
        slow: Option<Slow>,
    ) -> Result<(), ModelError> {
        self.warm_up(loaded, self.buckets.len() - 1, 0)?;
        self.time(loaded, rows, slow)
    }

    /// True if no run is left.
    fn is_done(&self, loaded: &Loaded, slow: Option<Slow>) -> bool {
        let compares = !self.compared && compare::is_wanted(loaded);
        self.next_timed(slow).is_none() && self.next_larger().is_none() && !compares
    }

    /// Rows of a larger bucket to time, as long as larger batches are worthwhile: the overhead of a
    /// short batch exceeds the cost of its rows; a longer batch must reduce the time per row
    /// enough.
    fn next_larger(&self) -> Option<usize> {
        let most = self.grows_to?;
        let [.., (fewer, less), (rows, took)] = self.measured[..] else { return None };
        let largest = self.buckets.last().is_some_and(|(largest, _)| *largest == rows as usize);
        // Twice as many rows must save a tenth of the time per row.
        let gain =
            u128::from(less) * u128::from(rows) * 10 > u128::from(took) * u128::from(fewer) * 11;
        let batch = Duration::from_micros(took);
        let pays = batch < SHORT || (batch < LONG && gain);
        let next = (rows as usize).checked_mul(2)?;
        // The next batch has twice the bytes of the last one, hence the half.
        (largest && pays && next <= most && self.bytes <= GROWN_BYTES_MAX / 2).then_some(next)
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
        if let Some(inputs) = loaded.warm_up_inputs(*rows).get(datatype) {
            // Without the artificial delay of tests (`Slow`), since this run is not measured.
            loaded.run(inputs, *rows, None, begin)?;
        }
        // A first run includes the compilation of kernels, so that the shortest of several runs is
        // the best estimate.
        *shortest = begin.elapsed().min(*shortest);
        Ok(())
    }

    /// Times a warm bucket with a batch like that of a client.
    fn time(
        &mut self,
        loaded: &mut Loaded,
        rows: usize,
        slow: Option<Slow>,
    ) -> Result<(), ModelError> {
        self.rows = rows;
        let inputs = loaded.warm_up_inputs(rows);
        let begin = clock::now();
        if let Some(inputs) = inputs.first() {
            let outputs = loaded.run(inputs, rows, slow, begin)?;
            self.bytes = inputs.bytes().saturating_add(outputs.bytes());
        }
        // A time of 0 would make any batching delay worthwhile.
        let took = micros(begin).max(1);
        self.measured.push((u32::try_from(rows).unwrap_or(u32::MAX), took));
        Ok(())
    }

    /// Rows of the bucket to time next: ascending until the total time is enough, then the largest
    /// unless it takes long.
    fn next_timed(&self, slow: Option<Slow>) -> Option<usize> {
        let spent: u64 = self.measured.iter().map(|(_, took)| took).sum();
        let next = self.buckets.get(self.measured.len()).map(|(rows, _)| *rows);
        if self.measured.is_empty() || Duration::from_micros(spent) < TIMED_ENOUGH {
            return next;
        }
        let (largest, took) = *self.buckets.last()?;
        let timed = self.measured.last().is_some_and(|(rows, _)| *rows as usize == largest);
        // The runs of the warm-up had no artificial delay; the timed run will have it.
        let least = slow.map_or(Duration::ZERO, |slow| slow.least(largest));
        (!timed && took.max(least) < LARGEST_MAX).then_some(largest)
    }
}
