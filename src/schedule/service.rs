//! Service models: prediction of batch times, learned from measured batches.
//!
//! `time = alpha + beta · rows`, rows counted as padded to their bucket. The line is fitted by
//! least squares with exponential forgetting, recursively: only decayed sums are kept (the
//! information form of recursive least squares). As long as all batches have the same size, a slope
//! cannot be learned; then offset and slope keep their ratio, because a cause that slows one batch
//! down usually slows all of them down by the same factor.

use std::time::Duration;

/// Weight that a measurement loses with every later one: about 50 count.
const FORGETTING: f64 = 0.98;
/// Limit of the ratio of measured to predicted time: one outlier does not move the line far, and a
/// lasting change is still learned within a few batches.
const SURPRISE_MAX: f64 = 4.0;
/// Share of its weight that a line from another source keeps at the first measurement.
const PRIOR_WEIGHT: f64 = 0.25;
/// Variance of the rows, relative to their squared mean, from which on a slope is used.
const SPREAD_MIN: f64 = 0.02;
/// Standard deviations by which the cautious prediction exceeds the mean: the 99th percentile of a
/// normal distribution.
const CAUTION: f64 = 2.33;

/// A service model as plain numbers, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceTime {
    /// Time of a batch without its rows.
    pub alpha_ns: u64,
    /// Time of each row.
    pub beta_ns: u64,
    /// Standard deviation of measured from predicted time, in thousandths of the latter.
    pub spread_permille: u32,
}

/// Predicts batch times of one model on one adapter, for rows of one size. Times in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Service {
    alpha: f64,
    beta: f64,
    /// Decayed sums over the measurements: weight, rows, times, squared rows, products.
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    /// Decayed mean of the squared relative error.
    variance: f64,
    measured: u64,
}

impl Service {
    /// Creates a service model from a line of another source, with the weight of two measurements.
    pub(super) fn from_prior(line: ServiceTime) -> Service {
        let (alpha, beta) = (line.alpha_ns as f64 * 1e-9, line.beta_ns as f64 * 1e-9);
        let spread = f64::from(line.spread_permille) * 1e-3;
        let mut service = Service { alpha, beta, variance: spread * spread, ..Service::default() };
        // Two different sizes, since one would not determine a slope.
        for rows in [1.0, 16.0] {
            service.add(rows, alpha + beta * rows);
        }
        service
    }

    /// Learns from one measured batch of `rows` padded rows.
    pub(super) fn observe(&mut self, rows: u32, took: Duration) {
        let (x, mut y) = (f64::from(rows), took.as_secs_f64());
        if self.weight > 0.0 {
            let predicted = self.batch(rows).max(1e-9);
            let error = (y / predicted - 1.0).min(SURPRISE_MAX);
            y = y.min(predicted * SURPRISE_MAX);
            // The spread adapts faster than the line: about the last ten errors count.
            self.variance += (error * error - self.variance) * (1.0 - FORGETTING).max(0.1);
        }
        if self.measured == 0 {
            // Lines from other sources lose weight to measurements.
            for sum in [&mut self.weight, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy] {
                *sum *= PRIOR_WEIGHT;
            }
        }
        self.measured += 1;
        self.add(x, y);
        self.fit();
    }

    fn add(&mut self, x: f64, y: f64) {
        for sum in [&mut self.weight, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy] {
            *sum *= FORGETTING;
        }
        self.weight += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    fn fit(&mut self) {
        let (x, y) = (self.x / self.weight, self.y / self.weight);
        let variance = self.xx / self.weight - x * x;
        if variance > SPREAD_MIN * x * x {
            self.beta = (self.xy / self.weight - x * y) / variance;
        } else if self.alpha + self.beta * x > 0.0 {
            // With a fixed slope, batches of 16 rows that were three times slower let one row be
            // predicted at 4.9 s; with a fixed ratio it is 0.48 s.
            self.beta *= y / (self.alpha + self.beta * x);
        } else {
            // The slope is not known yet: as if the offset took as long as one row.
            self.beta = y / (x + 1.0);
        }
        // Noise must give neither a negative slope nor a negative offset.
        self.beta = self.beta.clamp(0.0, y / x.max(1.0));
        self.alpha = (y - self.beta * x).max(0.0);
    }

    /// Seconds of a batch without its rows.
    pub(super) fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Seconds of each row.
    pub(super) fn beta(&self) -> f64 {
        self.beta
    }

    /// Predicted seconds of a batch of `rows` padded rows.
    pub(super) fn batch(&self, rows: u32) -> f64 {
        self.alpha + self.beta * f64::from(rows)
    }

    /// Factor on the mean for a cautious prediction.
    pub(super) fn caution(&self) -> f64 {
        1.0 + CAUTION * self.variance.sqrt()
    }

    /// Returns whether there is a measurement, of this run or an earlier one.
    pub(super) fn is_known(&self) -> bool {
        self.weight > 0.0
    }

    /// Returns whether the model is based on measurements of this run.
    pub(super) fn is_measured(&self) -> bool {
        self.measured >= 3
    }

    /// Returns whether there is a measurement of this run.
    pub(super) fn is_tried(&self) -> bool {
        self.measured > 0
    }

    /// Returns the model of an adapter that is slower by this factor.
    pub(super) fn slower(&self, times: f64) -> Service {
        let line = self.service_time();
        let scale = |ns: u64| (ns as f64 * times) as u64;
        let (alpha_ns, beta_ns) = (scale(line.alpha_ns), scale(line.beta_ns));
        Service::from_prior(ServiceTime { alpha_ns, beta_ns, ..line })
    }

    pub(super) fn service_time(&self) -> ServiceTime {
        ServiceTime {
            alpha_ns: (self.alpha * 1e9) as u64,
            beta_ns: (self.beta * 1e9) as u64,
            spread_permille: (self.variance.sqrt() * 1e3) as u32,
        }
    }
}

/// Returns the bucket that a batch of `rows` is padded to: the next power of two, or the limit. The
/// same rule as the workers' (`model/batch.rs`).
pub(super) fn bucket(rows: u32, max_rows: u32) -> u32 {
    rows.max(1).checked_next_power_of_two().unwrap_or(u32::MAX).min(max_rows.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(alpha: f64, beta: f64, rows: u32) -> Duration {
        Duration::from_secs_f64(alpha + beta * f64::from(rows))
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= 0.02 * expected
    }

    #[test]
    fn a_line_is_learned_from_batches_of_different_sizes() {
        let mut service = Service::default();
        for rows in [1, 8, 2, 32, 4, 16, 1, 64] {
            service.observe(rows, took(0.004, 0.001, rows));
        }
        assert!(near(service.batch(1), 0.005) && near(service.batch(64), 0.068), "{service:?}");
        assert!(service.caution() < 2.0, "{service:?}");
    }

    #[test]
    fn equal_batches_keep_the_ratio_of_offset_and_slope() {
        let line = ServiceTime { alpha_ns: 4_000_000, beta_ns: 1_000_000, spread_permille: 0 };
        let mut service = Service::from_prior(line);
        for _ in 0..400 {
            service.observe(1, took(0.009, 0.001, 1));
        }
        assert!(near(service.batch(1), 0.010), "{service:?}");
        assert!((0.0005..0.0025).contains(&service.beta()), "{service:?}");
    }

    #[test]
    fn a_slow_phase_with_batches_of_one_size_does_not_become_a_fixed_time() {
        let mut service = Service::default();
        for rows in [1, 2, 4, 8, 16] {
            service.observe(rows, took(0.01, 0.15, rows));
        }
        for slower in [1.0, 3.0] {
            for _ in 0..400 {
                service.observe(16, took(0.01 * slower, 0.15 * slower, 16));
            }
        }
        assert!(near(service.batch(1), 0.48) && near(service.batch(16), 7.23), "{service:?}");
    }

    #[test]
    fn nearly_equal_batches_do_not_change_the_slope() {
        let line = ServiceTime { alpha_ns: 10_000_000, beta_ns: 10_000, spread_permille: 0 };
        let mut service = Service::from_prior(line);
        for round in 0..400 {
            service.observe([100, 101][round % 2], Duration::from_millis([10, 12][round % 2]));
        }
        assert!((0.000005..0.00002).contains(&service.beta()), "{service:?}");
    }

    #[test]
    fn a_change_is_followed_and_a_hiccup_forgotten() {
        let mut service = Service::default();
        for round in 0..30 {
            service.observe([1, 8][round % 2], took(0.01, 0.001, [1, 8][round % 2]));
        }
        service.observe(1, Duration::from_secs(30));
        assert!(service.batch(1) < 0.03 && service.caution() < 5.0, "{service:?}");
        for round in 0..300 {
            service.observe([1, 8][round % 2], took(0.1, 0.01, [1, 8][round % 2]));
        }
        assert!(near(service.batch(8), 0.18), "{service:?}");
    }

    #[test]
    fn nonsense_gives_no_negative_times() {
        let mut service = Service::default();
        for (rows, ms) in [(64, 1), (1, 500), (64, 0), (2, 400), (64, 0)] {
            service.observe(rows, Duration::from_millis(ms));
        }
        assert!(service.alpha() >= 0.0 && service.beta() >= 0.0 && service.batch(1) >= 0.0);
        assert!(service.service_time().alpha_ns < u64::MAX);
    }

    #[test]
    fn prior_holds_until_batches_are_measured() {
        let line = ServiceTime { alpha_ns: 2_000_000, beta_ns: 500_000, spread_permille: 100 };
        let service = Service::from_prior(line);
        assert!(near(service.batch(4), 0.004) && !service.is_measured());
        assert!(near(service.slower(4.0).batch(4), 0.016));
        assert!(near(service.caution(), 1.233));
    }

    #[test]
    fn three_measurements_are_enough() {
        let mut service = Service::from_prior(ServiceTime::default());
        let mut measure = || {
            service.observe(1, Duration::from_millis(1));
            service.is_measured()
        };
        assert_eq!([measure(), measure(), measure()], [false, false, true]);
    }

    #[test]
    fn buckets_are_powers_of_two_and_the_limit() {
        let buckets = |max| [0, 1, 3, 5, 9, u32::MAX].map(|rows| bucket(rows, max));
        assert_eq!(buckets(12), [1, 1, 4, 8, 12, 12]);
        assert_eq!(bucket(u32::MAX, u32::MAX), u32::MAX);
    }
}
