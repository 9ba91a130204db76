//! Averages over time of the inputs of laws.

use super::ROUNDING;

/// The time integral of a level that changes at events, in buckets of equal width, of which a fixed
/// number is kept.
#[derive(Clone, Debug)]
pub(super) struct LevelMeter {
    /// Seconds of a bucket.
    width: f64,
    /// Level times seconds; bucket number `n` is at `n` modulo the length.
    buckets: Vec<f64>,
    level: f64,
    at: f64,
    newest: u64,
}

impl LevelMeter {
    /// Keeps the last `seconds`, in buckets of `width` seconds, and the bucket that is not yet
    /// over.
    pub(super) fn new(width: f64, seconds: f64) -> LevelMeter {
        let kept = (seconds / width).ceil().max(1.0) as usize + 1;
        LevelMeter { width, buckets: vec![0.0; kept], level: 0.0, at: 0.0, newest: 0 }
    }

    /// Returns the number of the bucket that contains this time.
    pub(super) fn index(&self, time: f64) -> u64 {
        ((time + ROUNDING) / self.width) as u64
    }

    /// Sets the level from now on.
    pub(super) fn observe(&mut self, now: f64, level: f64) {
        let (from, to, kept) = (self.index(self.at), self.index(now), self.buckets.len() as u64);
        for index in from.max((to + 1).saturating_sub(kept))..=to {
            let start = index as f64 * self.width;
            let seconds = (now.min(start + self.width) - self.at.max(start)).max(0.0);
            let Some(bucket) = self.buckets.get_mut((index % kept) as usize) else { continue };
            if index > self.newest {
                *bucket = 0.0;
            }
            *bucket += seconds * self.level;
        }
        self.newest = self.newest.max(to);
        (self.at, self.level) = (now, level);
    }

    /// Returns the mean level in one bucket, as if it were over; 0 for buckets that are not kept.
    pub(super) fn bucket(&self, index: u64) -> f64 {
        let kept = self.buckets.len() as u64;
        let known = index <= self.newest && index + kept > self.newest;
        let bucket = self.buckets.get((index % kept) as usize).filter(|_| known);
        bucket.map_or(0.0, |integral| integral / self.width)
    }

    /// Returns the mean level over the last `seconds`, or since time 0, up to the last observation.
    pub(super) fn mean(&self, seconds: f64) -> f64 {
        let count = ((seconds / self.width).round() as u64).max(1);
        let from = (self.newest + 1).saturating_sub(count);
        let sum: f64 = (from..=self.newest).map(|index| self.bucket(index)).sum();
        let covered = self.at - from as f64 * self.width;
        if covered > 0.0 { sum * self.width / covered } else { 0.0 }
    }

    /// Returns the level that was observed last.
    pub(super) fn level(&self) -> f64 {
        self.level
    }
}

/// The last results of a law.
#[derive(Clone, Debug)]
pub(super) struct RecentValues {
    values: Vec<usize>,
    count: usize,
}

impl RecentValues {
    /// Keeps `kept` values.
    pub(super) fn new(kept: usize) -> RecentValues {
        RecentValues { values: vec![0; kept.max(1)], count: 0 }
    }

    pub(super) fn push(&mut self, value: usize) {
        let at = self.count % self.values.len();
        if let Some(slot) = self.values.get_mut(at) {
            *slot = value;
        }
        self.count += 1;
    }

    /// Returns the newest `count` values.
    pub(super) fn newest(&self, count: usize) -> impl Iterator<Item = usize> {
        let kept = self.values.len();
        let count = count.min(self.count).min(kept);
        (self.count - count..self.count).filter_map(move |at| self.values.get(at % kept).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_weighted_by_time() {
        let mut meter = LevelMeter::new(1.0, 4.0);
        meter.observe(0.5, 2.0);
        meter.observe(1.25, 4.0);
        meter.observe(3.0, 0.0);
        assert_eq!([0, 1, 2, 3].map(|at| meter.bucket(at)), [1.0, 3.5, 4.0, 0.0]);
        assert_eq!(meter.mean(4.0), 8.5 / 3.0);
        meter.observe(3.5, 0.0);
        assert_eq!(meter.mean(2.0), 4.0 / 1.5);
    }

    #[test]
    fn a_long_pause_leaves_zeros() {
        let mut meter = LevelMeter::new(0.1, 1.0);
        meter.observe(0.0, 7.0);
        meter.observe(0.3, 0.0);
        assert!((meter.mean(1.0) - 7.0).abs() < 1e-6);
        meter.observe(1e6, 3.0);
        assert_eq!((meter.mean(1.0), meter.level()), (0.0, 3.0));
        meter.observe(1e6 + 0.5, 0.0);
        assert!((meter.mean(0.5) - 3.0).abs() < 0.7, "{}", meter.mean(0.5));
    }

    #[test]
    fn the_newest_values_are_kept() {
        let mut recent = RecentValues::new(3);
        assert_eq!(recent.newest(9).max(), None);
        (1..=5).for_each(|value| recent.push(value));
        assert_eq!(recent.newest(9).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(recent.newest(1).collect::<Vec<_>>(), [5]);
    }
}
