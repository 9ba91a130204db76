//! How long an adapter stood without work, and how long it should wait for more before it goes.
//!
//! Ski rental waits the break-even time, which is never worse than twice the best. Traffic that
//! comes in clumps rewards less: whoever has waited long will wait longer. So the wait is the one
//! that would have cost least over the last spells (Augustine, Irani, Swamy, *Optimal power-down
//! strategies*, 2004: the best threshold for a known distribution), the break-even at most, so that
//! the guarantee stays.

use std::collections::VecDeque;

/// Spells that count.
const REMEMBERED: usize = 64;
/// With fewer nothing is learned.
const ENOUGH: usize = 8;
/// Waits to choose from, in break-evens; the longest of equally good ones is taken.
const WAITS: [f64; 8] = [1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02];

/// The last spells of one adapter without work.
#[derive(Clone, Debug)]
pub(super) struct Spells {
    /// Seconds.
    lasted: VecDeque<f64>,
    /// The best wait in break-evens.
    wait: f64,
}

impl Spells {
    pub(super) fn new() -> Spells {
        Spells { lasted: VecDeque::new(), wait: 1.0 }
    }

    /// Break-evens to wait, if that is known.
    pub(super) fn wait(&self) -> Option<f64> {
        (self.lasted.len() >= ENOUGH).then_some(self.wait)
    }

    /// A spell is over; the break-even is in seconds of idling.
    pub(super) fn record(&mut self, seconds: f64, break_even: f64) {
        if self.lasted.len() == REMEMBERED {
            self.lasted.pop_front();
        }
        self.lasted.push_back(seconds);
        let cost = |wait: &f64| self.cost(wait * break_even, break_even);
        let best = WAITS.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        self.wait = best.copied().unwrap_or(1.0);
    }

    /// What a wait would have cost, in seconds of idling.
    fn cost(&self, wait: f64, break_even: f64) -> f64 {
        let spell = |lasted: &f64| if *lasted <= wait { *lasted } else { wait + break_even };
        self.lasted.iter().map(spell).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(spells: impl Iterator<Item = f64>) -> Option<f64> {
        let mut all = Spells::new();
        spells.for_each(|seconds| all.record(seconds, 10.0));
        all.wait()
    }

    #[test]
    fn the_wait_follows_the_traffic() {
        assert_eq!(learned((0..7).map(|_| 300.0)), None, "too few to tell");
        assert_eq!(learned((0..8).map(|_| 300.0)), Some(0.02), "it never comes back soon");
        let clumps = |n| if n % 2 == 0 { 0.9 } else { 300.0 };
        assert_eq!(learned((0..64).map(clumps)), Some(0.1), "soon, or not for long");
        let often = |n: u32| if n.is_multiple_of(4) { 300.0 } else { 6.5 };
        assert_eq!(learned((0..64).map(often)), Some(0.7), "soon enough to wait for it");
        assert_eq!(learned((0..64).map(|_| 0.1)), Some(1.0), "any wait will do");
        // What is long past does not count.
        assert_eq!(learned((0..128).map(|n| if n < 64 { 300.0 } else { often(n) })), Some(0.7));
    }

    #[test]
    fn it_costs_no_more_than_twice_the_best_whatever_comes() {
        for spell in [0.0, 0.3, 1.0, 9.9, 10.1, 25.0, 1e6] {
            let mut all = Spells::new();
            (0..64).for_each(|_| all.record(spell, 10.0));
            let cost = all.cost(all.wait().unwrap() * 10.0, 10.0);
            assert!(cost <= 2.0 * 64.0 * spell.min(10.0) + 1e-9, "{spell}: {cost}");
        }
    }
}
