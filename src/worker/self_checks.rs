//! The schedule of self-checks: an idle worker runs the golden samples of its models again.

use super::loaded::Loaded;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};
use types::clock;

/// A long timeout, used if no check is due.
const NEVER: Duration = Duration::from_secs(3600);

/// The self-checks of one worker, one model after the other.
#[derive(Debug)]
pub(super) struct SelfChecks {
    /// Time between two checks; zero disables them.
    pub(super) interval: Duration,
    last: Instant,
    /// The model that was checked last.
    model: u32,
    /// Number of batches since the last successful check or load.
    pub(super) batches: u64,
}

impl Default for SelfChecks {
    fn default() -> SelfChecks {
        SelfChecks { interval: Duration::ZERO, last: clock::now(), model: 0, batches: 0 }
    }
}

impl SelfChecks {
    /// Time until the next check.
    pub(super) fn due_in(&self) -> Duration {
        if self.interval.is_zero() {
            return NEVER;
        }
        self.interval.saturating_sub(self.last.elapsed())
    }

    /// Counts the load of a model as a check: a load runs the golden sample.
    pub(super) fn loaded(&mut self) {
        // Otherwise a load that took longer than the interval was checked again at once, and an
        // adapter that computed wrongly after its load never reached its shadow run.
        self.last = clock::now();
    }

    /// The model to check now, if one is due and any can be checked.
    pub(super) fn next(&mut self, models: &BTreeMap<u32, Loaded>) -> Option<u32> {
        if !self.due_in().is_zero() {
            return None;
        }
        // Set even if no model can be checked: otherwise the next wait would be zero, and the
        // thread would spin.
        self.last = clock::now();
        let after = models.range((Bound::Excluded(self.model), Bound::Unbounded));
        let mut candidates = after.chain(models.range(..=self.model));
        let (model, _) = candidates.find(|(_, loaded)| loaded.can_be_checked())?;
        self.model = *model;
        Some(*model)
    }
}
