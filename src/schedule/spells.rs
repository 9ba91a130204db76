//! How long an adapter stood without work, and how long it should wait for more before it goes.
//!
//! Ski rental waits the break-even time, which is never worse than twice the best. Traffic that
//! comes in clumps rewards less: whoever has waited long will wait longer. So the wait is the one
//! that would have cost least over the last spells (Augustine, Irani, Swamy, *Optimal power-down
//! strategies*, 2004: the best threshold for a known distribution), the break-even at most, so that
//! the guarantee stays.

use std::collections::VecDeque;
use std::time::Duration;

/// Spells that count.
const REMEMBERED: usize = 64;
/// With fewer nothing is learned.
const ENOUGH: usize = 8;
/// Waits to choose from, in break-evens; of equally good ones the longest is taken.
const WAITS: [f64; 8] = [1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02];

/// The last spells of one adapter without work.
#[derive(Clone, Debug, Default)]
pub(super) struct Spells {
    lasted: VecDeque<Spell>,
    /// What each of the waits would have cost, in seconds of idling.
    costs: [f64; WAITS.len()],
}

#[derive(Clone, Copy, Debug)]
struct Spell {
    /// How long it lasted, and the break-even then; both in seconds.
    seconds: f64,
    break_even: f64,
}

impl Spells {
    /// Break-evens to wait, if that is known.
    pub(super) fn wait(&self) -> Option<f64> {
        let costs = WAITS.iter().zip(&self.costs);
        let best = costs.min_by(|a, b| a.1.total_cmp(b.1)).map(|(wait, _)| *wait);
        best.filter(|_| self.lasted.len() >= ENOUGH)
    }

    /// A spell is over; the break-even is in seconds of idling.
    pub(super) fn record(&mut self, seconds: f64, break_even: f64) {
        if self.lasted.len() == REMEMBERED {
            let oldest = self.lasted.pop_front();
            self.count(oldest, -1.0);
        }
        let spell = Spell { seconds, break_even };
        self.lasted.push_back(spell);
        self.count(Some(spell), 1.0);
    }

    /// Whether none was seen yet.
    pub(super) fn is_empty(&self) -> bool {
        self.lasted.is_empty()
    }

    /// What is worth keeping for the next run of the server: spells with their break-evens.
    pub(super) fn learned(&self) -> Vec<(Duration, Duration)> {
        let duration = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        let spell = |spell: &Spell| (duration(spell.seconds), duration(spell.break_even));
        self.lasted.iter().map(spell).collect()
    }

    fn count(&mut self, spell: Option<Spell>, sign: f64) {
        let Some(Spell { seconds, break_even }) = spell else { return };
        for (wait, cost) in WAITS.iter().map(|wait| wait * break_even).zip(&mut self.costs) {
            *cost += sign * if seconds <= wait { seconds } else { wait + break_even };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(spells: impl Iterator<Item = f64>) -> Option<f64> {
        let mut all = Spells::default();
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
            let mut all = Spells::default();
            (0..64).for_each(|_| all.record(spell, 10.0));
            let wait = all.wait().unwrap() * 10.0;
            let cost = if spell <= wait { spell } else { wait + 10.0 };
            assert!(cost <= 2.0 * spell.min(10.0) + 1e-9, "{spell}: {cost}");
        }
    }
}
