//! Predicted progress of adapters: the arithmetic of routing, chunks and growth.
//!
//! For rows of one kind an adapter is a [`Slot`]: free after `free` seconds from now, then busy
//! `alpha + beta · rows` with each batch. The time in which several slots together serve a number
//! of rows is found like a common level in several vessels: `level` is the least time at which
//! their rows add up. A slot without any progress until then gets no rows: so a slow adapter leaves
//! rows to a faster one that will be free soon enough, and a large request is cut in proportion to
//! predicted speeds.

use super::ids::AdapterId;
use super::service::bucket;

/// The predicted capacity of an adapter for rows of one model and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot {
    pub(super) adapter: AdapterId,
    /// Seconds until it can begin, loading the model included.
    pub(super) free: f64,
    /// Seconds of a batch without its rows, and of each row.
    pub(super) alpha: f64,
    pub(super) beta: f64,
    /// Factor of the mean that bounds the time of a batch.
    pub(super) caution: f64,
    /// Rows of the largest batch.
    pub(super) max_rows: u32,
    /// True if it can begin now.
    pub(super) idle: bool,
    /// True if the model is loaded.
    pub(super) loaded: bool,
    /// True if a model in use would have to be evicted.
    pub(super) displaces: bool,
    /// Cost of the evicted models, in seconds of loading per second.
    pub(super) loss: f64,
    /// True if the times are based on measurements of this run.
    pub(super) measured: bool,
}

/// Partial batches that are counted after the full ones.
const SMALL_BATCHES: usize = 3;
/// Tolerance, so that rounding does not exclude a row that just fits.
const EPSILON: f64 = 1e-9;

impl Slot {
    /// Returns the seconds of one batch.
    pub(super) fn batch(&self, rows: u32) -> f64 {
        self.alpha + self.beta * f64::from(bucket(rows, self.max_rows))
    }

    /// The same without other work.
    pub(super) fn without_queue(&self) -> Slot {
        Slot { free: if self.loaded { 0.0 } else { self.free }, ..*self }
    }

    /// Returns the rows per second with full batches.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.max_rows) / self.batch(self.max_rows).max(EPSILON)
    }

    /// Returns the rows of the largest batch that takes no longer than this; 0 if there is none.
    pub(super) fn rows_within(&self, seconds: f64) -> u32 {
        let room = seconds * (1.0 + EPSILON) + EPSILON - self.alpha;
        if room < self.beta || room < 0.0 {
            return 0;
        }
        if room >= self.beta * f64::from(self.max_rows) {
            return self.max_rows;
        }
        // Truncated to the bucket below; smaller than `max_rows`, so that the cast loses nothing.
        let rows = (room / self.beta) as u32;
        1 << rows.max(1).ilog2()
    }

    /// Returns the rows served by `seconds` from now, batch after batch: full ones, and then ever
    /// smaller ones in the remaining time.
    pub(super) fn rows_by(&self, seconds: f64) -> f64 {
        let room = seconds - self.free;
        if room <= 0.0 {
            return 0.0;
        }
        let full = self.batch(self.max_rows).max(EPSILON);
        let whole = (room / full * (1.0 + EPSILON)).floor();
        let mut rest = room - whole * full;
        let mut rows = whole * f64::from(self.max_rows);
        for _ in 0..SMALL_BATCHES {
            let more = self.rows_within(rest);
            if more == 0 {
                break;
            }
            rows += f64::from(more);
            rest -= self.batch(more);
        }
        rows
    }

    /// Returns the seconds from now until it alone has served `rows` rows.
    pub(super) fn finish(&self, rows: u64) -> f64 {
        let max = u64::from(self.max_rows.max(1));
        let (whole, rest) = (rows / max, (rows % max) as u32);
        let rest = if rest == 0 { 0.0 } else { self.batch(rest) };
        self.free + whole as f64 * self.batch(self.max_rows) + rest
    }
}

/// Returns the rows that all slots together serve by `seconds` from now.
pub(super) fn rows_by(slots: &[Slot], seconds: f64) -> f64 {
    slots.iter().map(|slot| slot.rows_by(seconds)).sum()
}

/// Returns the seconds from now until all slots together have served `rows` rows; infinite without
/// slots.
pub(super) fn level(slots: &[Slot], rows: u64) -> f64 {
    let alone = slots.iter().map(|slot| slot.finish(rows));
    // An upper bound: by then one slot alone has served all rows.
    let mut high = alone.fold(f64::INFINITY, f64::min);
    // One row, or one slot, leaves nothing to divide.
    if rows <= 1 || slots.len() <= 1 || !high.is_finite() {
        return high;
    }
    let mut low = 0.0;
    // Each round halves the interval: 24 leave less than a millionth of it.
    for _ in 0..24 {
        let middle = (low + high) / 2.0;
        if rows_by(slots, middle) >= rows as f64 {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(free: f64, alpha: f64, beta: f64, max_rows: u32) -> Slot {
        let adapter = AdapterId(0);
        let (idle, loaded, displaces, caution) = (free == 0.0, true, false, 1.0);
        let (measured, loss) = (true, 0.0);
        Slot {
            adapter,
            free,
            alpha,
            beta,
            caution,
            max_rows,
            idle,
            loaded,
            displaces,
            loss,
            measured,
        }
    }

    #[test]
    fn a_slot_runs_batch_after_batch() {
        let one = slot(1.0, 0.5, 0.25, 4);
        assert_eq!([one.batch(1), one.batch(3), one.batch(4)], [0.75, 1.5, 1.5]);
        assert_eq!([one.finish(1), one.finish(4), one.finish(9)], [1.75, 2.5, 1.0 + 3.0 + 0.75]);
        let rows = [0.5, 1.0, 1.75, 2.2, 2.5, 3.3, 4.0].map(|seconds| one.rows_by(seconds));
        assert_eq!(rows, [0.0, 0.0, 1.0, 2.0, 4.0, 5.0, 8.0]);
    }

    #[test]
    fn rows_and_finish_agree() {
        for (alpha, beta, max) in [(0.01, 0.003, 13), (0.0, 0.1, 64), (0.5, 0.0, 7), (0.1, 0.1, 1)]
        {
            let one = slot(0.3, alpha, beta, max);
            for rows in 1..200 {
                let by = one.rows_by(one.finish(rows));
                assert!(by >= rows as f64, "{rows} rows, but {by} by then: {one:?}");
                assert!(one.rows_by(one.finish(rows) - 0.001) < (rows + u64::from(max)) as f64);
            }
        }
    }

    #[test]
    fn equal_slots_share_and_slow_ones_take_little() {
        let equal = [slot(0.0, 0.0, 1.0, 64), slot(0.0, 0.0, 1.0, 64)];
        assert!((level(&equal, 128) - 64.0).abs() < 0.01);
        let unequal = [slot(0.0, 0.0, 1.0, 1), slot(0.0, 0.0, 4.0, 1)];
        assert!((level(&unequal, 10) - 8.0).abs() < 0.01);
        let by = unequal.map(|slot| slot.rows_by(level(&unequal, 10)));
        assert_eq!(by, [8.0, 2.0]);
    }

    #[test]
    fn slot_that_cannot_help_in_time_gets_no_rows() {
        let slots = [slot(0.5, 0.0, 1.0, 8), slot(0.0, 4.0, 0.0, 8)];
        let level = level(&slots, 1);
        assert!((level - 1.5).abs() < 1e-6);
        assert_eq!(slots[1].rows_by(level), 0.0);
    }

    #[test]
    fn no_slots_serve_no_rows() {
        assert!(level(&[], 1).is_infinite());
        assert_eq!(rows_by(&[], 5.0), 0.0);
    }
}
