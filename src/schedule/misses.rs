//! What it is worth to avoid a late request, as learned from those that were late.
//!
//! Online quantile tracking ("conformal"): `theta` rises with each request that missed its target
//! while an adapter started and falls with every other one, so that in the long run as many miss
//! as are allowed to. Those that missed for other reasons are allowed for.

/// How fast the price follows the misses.
const STEP: f64 = 0.4;
/// Share of requests that may miss their target; and of them those that starts may cause although
/// others were too many.
const ALLOWED: f64 = 0.0055;
const LEAST: f64 = 0.001;
/// Misses without a start are averaged over some thousands of requests; this is believed before.
const OTHERS: f64 = 0.0015;
const OTHERS_GAIN: f64 = 1.0 / 4000.0;
/// The price goes no higher than this, but what a bad time owes beyond it is remembered: the price
/// stays high until as many requests were in time as make up for it.
const PRICED_MAX: f64 = 10.0;
const THETA_MAX: f64 = 20.0;

/// What is known of requests that missed their target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misses {
    /// Logarithm of the price, and what is owed beyond it.
    pub(super) theta: f64,
    /// Share of requests that missed although nothing was starting.
    others: f64,
}

impl Default for Misses {
    fn default() -> Misses {
        Misses { theta: 0.0, others: OTHERS }
    }
}

impl Misses {
    /// Joules that it is worth to avoid one.
    pub(super) fn price(&self) -> f64 {
        self.theta.min(PRICED_MAX).exp_m1()
    }

    /// What is worth keeping for the next run of the server, in millionths.
    pub(super) fn learned(&self) -> (i64, u64) {
        ((self.theta * 1e6) as i64, (self.others * 1e6) as u64)
    }

    /// What an earlier run learned.
    pub(super) fn recall(&mut self, (theta, others): (i64, u64)) {
        self.theta = (theta as f64 * 1e-6).clamp(0.0, THETA_MAX);
        self.others = (others as f64 * 1e-6).clamp(0.0, 1.0);
    }

    /// A request was answered, late or not, with an adapter starting meanwhile or not.
    pub(super) fn observe(&mut self, late: bool, cold: bool) {
        let share = |is: bool| if is { 1.0 } else { 0.0 };
        self.others += OTHERS_GAIN * (share(late && !cold) - self.others);
        let wanted = (ALLOWED - self.others).max(LEAST);
        let theta = self.theta + STEP * (share(late && cold) - wanted);
        self.theta = theta.clamp(0.0, THETA_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(mut misses: Misses, times: u32, late: bool, cold: bool) -> Misses {
        (0..times).for_each(|_| misses.observe(late, cold));
        misses
    }

    #[test]
    fn the_price_follows_the_misses_that_starts_cause() {
        let calm = after(Misses::default(), 1000, false, false);
        assert_eq!(calm.price(), 0.0, "nothing is paid for what does not happen");
        let late = after(calm, 5, true, true);
        assert!((late.theta - 5.0 * (STEP - STEP * 0.004)).abs() < 0.01, "{}", late.theta);
        assert!((late.price() - late.theta.exp_m1()).abs() < 1e-9);
        assert_eq!(after(calm, 5, true, false).theta, 0.0, "no start is to blame");
        // As many as are allowed leave it where it is.
        let allowed = Misses { theta: 5.0, ..after(calm, 40_000, false, false) };
        let mut even = allowed;
        for _ in 0..1000 {
            even = after(after(even, 1, true, true), 181, false, false);
        }
        assert!((even.theta - allowed.theta).abs() < 1.0, "{}", even.theta);
    }

    #[test]
    fn a_debt_is_paid_off_before_the_price_falls() {
        let worst = after(Misses::default(), 1000, true, true);
        assert_eq!((worst.theta, worst.price()), (THETA_MAX, PRICED_MAX.exp_m1()));
        let after_half = after(worst, 2000, false, false);
        assert_eq!(after_half.price(), worst.price());
        assert!(after(worst, 8000, false, false).price() < worst.price());
    }

    #[test]
    fn other_misses_leave_less_for_starts() {
        let mut busy = Misses::default();
        for _ in 0..200 {
            busy = after(after(busy, 1, true, false), 99, false, false);
        }
        let fall = |misses: Misses| {
            let high = Misses { theta: 5.0, ..misses };
            high.theta - after(high, 1, false, false).theta
        };
        assert!((fall(busy) - STEP * LEAST).abs() < 1e-9, "{}", fall(busy));
        assert!(fall(Misses::default()) > 3.9 * STEP * LEAST);
    }
}
