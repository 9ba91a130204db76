//! Times at which batches were sent to a worker.

use schedule::BatchId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use types::clock;
use wire::BATCHES_MAX;

/// The batches that were last sent to a worker, newest first.
#[derive(Default)]
pub(crate) struct SentBatches {
    batches: VecDeque<(BatchId, Instant)>,
    /// The time of the last answer.
    answered: Option<Instant>,
}

impl SentBatches {
    /// Records that a batch is sent now.
    pub(crate) fn note(&mut self, batch: BatchId) {
        self.batches.truncate(BATCHES_MAX - 1);
        self.batches.push_front((batch, clock::now()));
    }

    /// The time since this batch was sent; `None` for older batches.
    pub(crate) fn ago(&self, batch: BatchId) -> Option<Duration> {
        let (_, at) = self.batches.iter().find(|(handed, _)| *handed == batch)?;
        Some(at.elapsed())
    }

    /// Records that a batch is answered now. Returns the longest time that the worker can have run
    /// it: since it was sent, or since the previous batch was answered.
    pub(crate) fn answered(&mut self, batch: BatchId) -> Duration {
        let handed = self.ago(batch).unwrap_or_default();
        let before = self.answered.replace(clock::now());
        before.map_or(handed, |before| before.elapsed().min(handed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_counts_from_the_answer_of_the_previous_batch() {
        let (mut handed, wait) = (SentBatches::default(), Duration::from_millis(20));
        (0..2).for_each(|id| handed.note(BatchId(id)));
        std::thread::sleep(wait);
        assert!(handed.answered(BatchId(0)) >= wait);
        let (whole, run) = (handed.ago(BatchId(1)), handed.answered(BatchId(1)));
        assert!(whole >= Some(wait) && whole >= Some(run + wait), "{whole:?} {run:?}");
        assert_eq!(handed.ago(BatchId(9)), None);
    }

    #[test]
    fn old_batches_are_forgotten() {
        let mut handed = SentBatches::default();
        (0..1000).for_each(|id| handed.note(BatchId(id)));
        assert_eq!(handed.batches.len(), BATCHES_MAX);
        assert_eq!((handed.ago(BatchId(0)), handed.ago(BatchId(999)).is_some()), (None, true));
    }
}
