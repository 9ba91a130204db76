//! How many adapters this much load calls for.
//!
//! The law is the one of Guanhua Wang, *Distributed Machine Learning with Python*, chapter 11
//! ("Elasticity in model inference"): so many concurrent queries, so many devices. We count rows
//! instead of queries, as Ray Serve's `target_ongoing_requests` does per replica.

/// What is outstanding: queued and in flight together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Load {
    pub rows: u64,
    pub requests: u64,
}

/// The elastic policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `ceil(rows / target)` adapters, between `min` and `max`.
    Concurrency { target: u64, min: usize, max: usize },
}

impl Policy {
    /// How many adapters should be on for this load.
    pub fn wanted(&self, load: Load) -> usize {
        let Policy::Concurrency { target, min, max } = *self;
        // A request runs on one adapter, so more adapters than requests would stand idle.
        let count = load.rows.div_ceil(target.max(1)).min(load.requests);
        usize::try_from(count).unwrap_or(usize::MAX).max(min).min(max)
    }

    /// Rows that one adapter should carry.
    pub fn target(&self) -> u64 {
        let Policy::Concurrency { target, .. } = *self;
        target
    }

    /// Adapters that may be on for the load's sake.
    pub fn max(&self) -> usize {
        let Policy::Concurrency { max, .. } = *self;
        max
    }

    /// Adapters that are on without any load.
    pub fn min(&self) -> usize {
        let Policy::Concurrency { min, .. } = *self;
        min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_follows_the_load_between_its_bounds() {
        let policy = Policy::Concurrency { target: 2, min: 0, max: 3 };
        let wanted = |rows, requests| policy.wanted(Load { rows, requests });
        assert_eq!([wanted(0, 0), wanted(1, 1), wanted(2, 2), wanted(3, 3)], [0, 1, 1, 2]);
        assert_eq!([wanted(100, 100), wanted(100, 1), wanted(u64::MAX, u64::MAX)], [3, 1, 3]);
        let kept = Policy::Concurrency { target: 2, min: 1, max: 3 };
        assert_eq!(kept.wanted(Load::default()), 1);
    }

    #[test]
    fn wanted_never_falls_as_the_load_rises() {
        let policy = Policy::Concurrency { target: 3, min: 1, max: 5 };
        let wanted = (0..40).map(|n| policy.wanted(Load { rows: n, requests: n }));
        assert!(wanted.collect::<Vec<_>>().is_sorted());
    }
}
