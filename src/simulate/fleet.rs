//! Description of adapters for the simulator, the rival laws and the bounds.

/// One adapter serving one model. Seconds, watts and joules; watts count above those of the adapter
/// when it is off.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub name: String,
    /// Seconds of a batch, without its rows.
    pub alpha: f64,
    /// Seconds of each row; rows are padded to their bucket.
    pub beta: f64,
    /// Rows of the largest batch.
    pub max_rows: u32,
    /// Seconds from off to serving: process, device, check and model.
    pub start: f64,
    /// Watts with an open device and no work.
    pub idle_w: f64,
    /// Watts while computing.
    pub active_w: f64,
    /// Watts while starting.
    pub start_w: f64,
}

impl Machine {
    /// Seconds of a batch of `rows`, padded to the next power of two or the largest batch.
    pub fn batch(&self, rows: u32) -> f64 {
        self.alpha + self.beta * f64::from(bucket(rows, self.max_rows))
    }

    /// Rows of the largest batch that takes no longer than `seconds`; 0 if there is none.
    pub fn rows_within(&self, seconds: f64) -> u32 {
        let fits = |rows: &u32| self.batch(*rows) <= seconds * (1.0 + 1e-12);
        self.buckets().find(fits).unwrap_or(0)
    }

    /// Rows per second at the best batch size with a batch no longer than the deadline:
    /// `max b / batch(b)`; 0 if there is none.
    pub fn rate(&self, deadline: f64) -> f64 {
        let in_time = self.buckets().filter(|rows| self.batch(*rows) <= deadline);
        in_time.map(|rows| f64::from(rows) / self.batch(rows)).fold(0.0, f64::max)
    }

    /// The sizes that batches are padded to, largest first.
    pub fn buckets(&self) -> impl Iterator<Item = u32> {
        let below = |rows: &u32| (*rows > 1).then(|| 1 << (*rows - 1).ilog2());
        std::iter::successors(Some(self.max_rows.max(1)), below)
    }

    /// Joules of one activation.
    pub fn start_joules(&self) -> f64 {
        self.start * self.start_w
    }

    /// Seconds of idling that take as much energy as one activation.
    pub fn break_even(&self) -> f64 {
        self.start_joules() / self.idle_w.max(1e-9)
    }
}

/// The rows that a batch is padded to: the next power of two, or the largest batch.
pub(super) fn bucket(rows: u32, max_rows: u32) -> u32 {
    rows.max(1).checked_next_power_of_two().unwrap_or(u32::MAX).min(max_rows.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_time_and_rate_agree() {
        let machine = Machine {
            name: String::new(),
            alpha: 1.0,
            beta: 0.5,
            max_rows: 12,
            start: 2.0,
            idle_w: 10.0,
            active_w: 100.0,
            start_w: 50.0,
        };
        assert_eq!(machine.buckets().collect::<Vec<_>>(), [12, 8, 4, 2, 1]);
        assert_eq!([1, 3, 8, 9, 99].map(|rows| machine.batch(rows)), [1.5, 3.0, 5.0, 7.0, 7.0]);
        assert_eq!([1.4, 1.5, 4.9, 5.0, 9.0].map(|s| machine.rows_within(s)), [0, 1, 4, 8, 12]);
        assert_eq!([1.0, 3.0, 9.0].map(|s| machine.rate(s)), [0.0, 4.0 / 3.0, 12.0 / 7.0]);
        assert_eq!([machine.start_joules(), machine.break_even()], [100.0, 10.0]);
    }
}
