//! Idle periods of an adapter, and the time that it should wait for work before it turns off.
//!
//! Ski rental waits the break-even time, which costs at most twice the optimum. Traffic in clusters
//! rewards shorter waits: the longer an adapter has waited, the longer it will still wait. So the
//! wait is the one that would have cost least over the last idle periods (Augustine, Irani, Swamy,
//! *Optimal power-down strategies*, 2004: the best threshold for a known distribution), at most the
//! break-even time, so that the guarantee holds.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of idle periods that are kept.
const REMEMBERED: usize = 64;
/// Number of idle periods from which on a wait is learned.
const ENOUGH: usize = 8;
/// Waits to choose from, in break-even times; of equally good ones the longest is taken.
const WAITS: [f64; 8] = [1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02];

/// The last idle periods of one adapter.
#[derive(Clone, Debug, Default)]
pub(super) struct IdlePeriods {
    periods: VecDeque<IdlePeriod>,
    /// Cost of each of the waits, in seconds of idling.
    costs: [f64; WAITS.len()],
}

#[derive(Clone, Copy, Debug)]
struct IdlePeriod {
    /// Length of the period, and the break-even time then; both in seconds.
    seconds: f64,
    break_even: f64,
}

impl IdlePeriods {
    /// Returns the wait in break-even times, if it is known.
    pub(super) fn wait(&self) -> Option<f64> {
        let costs = WAITS.iter().zip(&self.costs);
        // `min_by` returns the first of equal ones, which is the longest.
        let best = costs.min_by(|a, b| a.1.total_cmp(b.1)).map(|(wait, _)| *wait);
        best.filter(|_| self.periods.len() >= ENOUGH)
    }

    /// Records an idle period; the break-even time is in seconds of idling.
    pub(super) fn record(&mut self, seconds: f64, break_even: f64) {
        if self.periods.len() == REMEMBERED {
            let oldest = self.periods.pop_front();
            self.count(oldest, -1.0);
        }
        let period = IdlePeriod { seconds, break_even };
        self.periods.push_back(period);
        self.count(Some(period), 1.0);
    }

    /// Returns whether no idle period has been recorded yet.
    pub(super) fn is_empty(&self) -> bool {
        self.periods.is_empty()
    }

    /// Returns the values to keep for the next run of the server: idle periods with break-even
    /// times.
    pub(super) fn learned(&self) -> Vec<(Duration, Duration)> {
        let duration = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        let period = |period: &IdlePeriod| (duration(period.seconds), duration(period.break_even));
        self.periods.iter().map(period).collect()
    }

    fn count(&mut self, period: Option<IdlePeriod>, sign: f64) {
        let Some(IdlePeriod { seconds, break_even }) = period else { return };
        for (wait, cost) in WAITS.iter().map(|wait| wait * break_even).zip(&mut self.costs) {
            *cost += sign * if seconds <= wait { seconds } else { wait + break_even };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(periods: impl Iterator<Item = f64>) -> Option<f64> {
        let mut all = IdlePeriods::default();
        periods.for_each(|seconds| all.record(seconds, 10.0));
        all.wait()
    }

    #[test]
    fn learned_wait_follows_the_traffic() {
        assert_eq!(learned((0..7).map(|_| 300.0)), None, "too few idle periods");
        assert_eq!(learned((0..8).map(|_| 300.0)), Some(0.02), "no pause is short");
        let clumps = |n| if n % 2 == 0 { 0.9 } else { 300.0 };
        assert_eq!(learned((0..64).map(clumps)), Some(0.1), "pauses are short or long");
        let often = |n: u32| if n.is_multiple_of(4) { 300.0 } else { 6.5 };
        assert_eq!(learned((0..64).map(often)), Some(0.7), "most pauses are short enough to wait");
        assert_eq!(learned((0..64).map(|_| 0.1)), Some(1.0), "all waits are equally good");
        // Idle periods that are long past do not count.
        assert_eq!(learned((0..128).map(|n| if n < 64 { 300.0 } else { often(n) })), Some(0.7));
    }

    #[test]
    fn wait_costs_at_most_twice_the_best() {
        for period in [0.0, 0.3, 1.0, 9.9, 10.1, 25.0, 1e6] {
            let mut all = IdlePeriods::default();
            (0..64).for_each(|_| all.record(period, 10.0));
            let wait = all.wait().unwrap() * 10.0;
            let cost = if period <= wait { period } else { wait + 10.0 };
            assert!(cost <= 2.0 * period.min(10.0) + 1e-9, "{period}: {cost}");
        }
    }
}
