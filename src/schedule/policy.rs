//! The policies and their settings. Adapters are turned on in `cost.rs` and `scale.rs`.

use std::time::Duration;

/// Outstanding work: queued and in flight together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Load {
    pub rows: u64,
    pub requests: u64,
}

/// The elastic policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// As many adapters as meet the latency targets with the least energy. One is turned on when
    /// the active ones cannot serve the waiting rows within their target, and off when staying on
    /// has cost as much energy as turning on again will.
    Cost {
        goal: Goal,
        /// Millijoules that every activation costs in addition to its energy: wear of hardware and
        /// driver.
        price_mj: u64,
        /// Additional millijoules that an activation costs for each request that it makes late,
        /// where it makes requests late.
        late_penalty_mj: u64,
        /// Maximum of load-driven activations of one adapter per hour.
        starts_per_hour: u32,
    },
    /// No policy: adapters turn on and off only by `Event::Wished`. The simulator runs rival laws
    /// in this way.
    Manual { goal: Goal },
    /// `ceil(rows / target)` adapters: the law of Guanhua Wang, *Distributed Machine Learning with
    /// Python*, chapter 11 ("Elasticity in model inference"), with a fixed number of concurrent
    /// queries per device. Rows are counted instead of queries, as Ray Serve's
    /// `target_ongoing_requests` does per replica.
    Concurrency {
        /// Outstanding rows that one adapter should carry.
        target: u64,
        /// Duration of a surplus before one adapter begins draining.
        scale_down_delay: Duration,
        /// The same for the last adapter that is on.
        scale_to_zero_delay: Duration,
    },
}

/// Trade-off of the `cost` policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Short answer times first.
    Latency,
    /// Immediate answers by active adapters.
    #[default]
    Balanced,
    /// Least energy: rows may wait for larger batches as long as their target allows.
    Energy,
}

/// Requests and rows that are not answered at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Requests with a waiting part, and the rows that wait.
    pub queued: Load,
    /// Requests that are wholly in flight with workers, and the rows in flight.
    pub in_flight: Load,
}

impl Load {
    /// Returns the number of adapters that should be on at `target` rows each.
    pub(super) fn adapters(self, target: u64, min: usize, max: usize) -> usize {
        // More adapters than requests would mostly be idle.
        let count = self.rows.div_ceil(target.max(1)).min(self.requests);
        usize::try_from(count).unwrap_or(usize::MAX).max(min).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_follows_the_load_between_its_bounds() {
        let wanted = |rows, requests| Load { rows, requests }.adapters(2, 0, 3);
        assert_eq!([wanted(0, 0), wanted(1, 1), wanted(2, 2), wanted(3, 3)], [0, 1, 1, 2]);
        assert_eq!([wanted(100, 100), wanted(100, 1), wanted(u64::MAX, u64::MAX)], [3, 1, 3]);
        assert_eq!(Load::default().adapters(2, 1, 3), 1);
    }

    #[test]
    fn wanted_never_falls_as_the_load_rises() {
        let wanted = (0..40).map(|n| Load { rows: n, requests: n }.adapters(3, 1, 5));
        assert!(wanted.collect::<Vec<_>>().is_sorted());
    }
}
