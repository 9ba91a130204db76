//! The memory budget of models: the memory that other programs do not use.

use adapter::in_use::InUse;
use schedule::AdapterId;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Time between two samples while events occur; cards are read at the same interval.
const INTERVAL: Duration = Duration::from_secs(2);
/// Number of consecutive samples that must show a smaller budget: batches need buffers for a short
/// time, and the reports of a worker and of its card are not from the same moment.
const SAMPLES: usize = 3;
/// Divisor: this fraction of the memory is reserved for buffers and for growth of other programs.
const RESERVE_PART: u64 = 10;
/// Divisor: a change by less than this fraction of the memory is not reported.
const REPORTED_PART: u64 = 128;

/// Budget samples by adapter.
#[derive(Default)]
pub(crate) struct MemoryBudgets {
    pub(crate) sampled_at: Option<Instant>,
    pub(crate) adapters: HashMap<AdapterId, BudgetSamples>,
}

/// The last samples of one adapter, and the budget that was last reported to the scheduler.
#[derive(Default)]
pub(crate) struct BudgetSamples {
    last: VecDeque<u64>,
    pub(crate) reported: Option<u64>,
}

impl MemoryBudgets {
    pub(crate) fn is_due(&self) -> bool {
        self.sampled_at.is_none_or(|at| at.elapsed() >= INTERVAL)
    }
}

impl BudgetSamples {
    /// Adds a sample; returns the budget to report to the scheduler, if it has changed.
    pub(crate) fn take(&mut self, sample: Option<(u64, u64)>) -> Option<Option<u64>> {
        let Some((budget, total)) = sample else {
            self.last.clear();
            return self.reported.take().map(|_| None);
        };
        self.last.truncate(SAMPLES - 1);
        self.last.push_front(budget);
        // The largest sample: a smaller budget needs all of them, a larger one only the newest.
        let budget = self.last.iter().max().copied()?;
        let differs = |reported: u64| reported.abs_diff(budget) >= (total / REPORTED_PART).max(1);
        self.reported.is_none_or(differs).then(|| {
            self.reported = Some(budget);
            self.reported
        })
    }
}

/// Bytes that models may use, if `ours` of the memory in use is that of our worker.
pub(crate) fn budget(in_use: InUse, ours: u64) -> u64 {
    let InUse { total, used } = in_use;
    let others = used.saturating_sub(ours);
    total.saturating_sub(others).saturating_sub(total / RESERVE_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_excludes_memory_of_other_programs_and_a_tenth() {
        let budget = |total, used, ours| budget(InUse { total, used }, ours);
        assert_eq!(budget(1000, 0, 0), 900);
        assert_eq!(budget(1000, 300, 0), 600);
        assert_eq!(budget(1000, 300, 300), 900);
        // The memory of the worker can be a later reading than the memory in use.
        assert_eq!(budget(1000, 300, 400), 900);
        assert_eq!(budget(1000, 950, 0), 0);
        assert_eq!(budget(1000, u64::MAX, 0), 0);
        assert_eq!(budget(u64::MAX, 0, u64::MAX), u64::MAX - u64::MAX / 10);
    }

    #[test]
    fn smaller_budget_counts_after_three_samples_and_larger_at_once() {
        let mut samples = BudgetSamples::default();
        let mut take = |budget| samples.take(Some((budget, 1000)));
        assert_eq!(take(600), Some(Some(600)));
        assert_eq!(take(100), None);
        assert_eq!(take(100), None);
        assert_eq!(take(110), Some(Some(110)));
        assert_eq!(take(700), Some(Some(700)));
        // Too small a change to be reported.
        assert_eq!(take(706), None);
        assert_eq!(take(708), Some(Some(708)));
    }

    #[test]
    fn missing_sample_removes_the_budget() {
        let mut samples = BudgetSamples::default();
        assert_eq!(samples.take(None), None);
        samples.take(Some((600, 1000)));
        assert_eq!(samples.take(None), Some(None));
        assert_eq!(samples.take(None), None);
        assert_eq!(samples.take(Some((100, 1000))), Some(Some(100)));
    }
}
