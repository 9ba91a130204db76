//! Rows of decoupled models that the server has cancelled: the link thread records them, the
//! compute thread checks them between two steps.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Cancelled rows, as (batch, row). Shared by clones.
#[derive(Clone, Default)]
pub(super) struct Cancelled(Arc<Mutex<BTreeSet<(u64, u64)>>>);

impl Cancelled {
    pub(super) fn note(&self, batch: u64, row: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((batch, row));
    }

    /// Takes the rows of this batch. Rows of earlier batches are dropped: batch numbers ascend, and
    /// these batches have ended.
    pub(super) fn take(&self, batch: u64) -> Vec<u64> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = rows.split_off(&(batch.saturating_add(1), 0));
        let taken = std::mem::replace(&mut *rows, later);
        taken.into_iter().filter(|(of, _)| *of == batch).map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_batch_are_taken_once_and_older_ones_are_dropped() {
        let cancelled = Cancelled::default();
        for (batch, row) in [(1, 0), (2, 5), (2, 3), (3, 1)] {
            cancelled.clone().note(batch, row);
        }
        assert_eq!(cancelled.take(2), [3, 5]);
        assert!(cancelled.take(2).is_empty());
        assert!(cancelled.take(1).is_empty());
        assert_eq!(cancelled.take(3), [1]);
    }
}
