//! Value of avoiding a late request, learned from the requests that were late.
//!
//! Online quantile tracking ("conformal"): `theta` rises with each request that missed its target
//! while an adapter started and falls with every other one, so that in the long run the allowed
//! share of requests misses. Requests that missed for other reasons are deducted from the allowed
//! share.

/// Gain with which the price follows the misses.
const STEP: f64 = 0.4;
/// Share of requests that may miss their target; and the share that starts may always cause, even
/// if other misses have used up the first one.
const ALLOWED: f64 = 0.0055;
const LEAST: f64 = 0.001;
/// Misses without a start are averaged over some thousands of requests; this is the initial value.
const OTHERS: f64 = 0.0015;
const OTHERS_GAIN: f64 = 1.0 / 4000.0;
/// Limit of the logarithm of the price. `theta` may exceed it, so that after a bad period the price
/// stays high until enough requests were in time to compensate.
const PRICED_MAX: f64 = 10.0;
const THETA_MAX: f64 = 20.0;

/// Statistics of requests that missed their target.
#[derive(Clone, Copy, Debug)]
pub(super) struct LatePrice {
    /// Logarithm of the price, including the part above its limit.
    pub(super) theta: f64,
    /// Share of requests that missed although no adapter was starting.
    others: f64,
}

impl Default for LatePrice {
    fn default() -> LatePrice {
        LatePrice { theta: 0.0, others: OTHERS }
    }
}

impl LatePrice {
    /// Value of avoiding one late request, in joules.
    pub(super) fn price(&self) -> f64 {
        // `exp_m1`, so that the price is 0 at the lower limit of `theta`.
        self.theta.min(PRICED_MAX).exp_m1()
    }

    /// Returns the values to keep for the next run of the server, in millionths.
    pub(super) fn learned(&self) -> (i64, u64) {
        ((self.theta * 1e6) as i64, (self.others * 1e6) as u64)
    }

    /// Restores the values of an earlier run.
    pub(super) fn restore(&mut self, (theta, others): (i64, u64)) {
        self.theta = (theta as f64 * 1e-6).clamp(0.0, THETA_MAX);
        self.others = (others as f64 * 1e-6).clamp(0.0, 1.0);
    }

    /// Records an answer: late or not, with an adapter starting meanwhile or not.
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

    fn after(mut misses: LatePrice, times: u32, late: bool, cold: bool) -> LatePrice {
        (0..times).for_each(|_| misses.observe(late, cold));
        misses
    }

    #[test]
    fn price_follows_the_misses_that_starts_cause() {
        let calm = after(LatePrice::default(), 1000, false, false);
        assert_eq!(calm.price(), 0.0, "no misses, no price");
        let late = after(calm, 5, true, true);
        assert!((late.theta - 5.0 * (STEP - STEP * 0.004)).abs() < 0.01, "{}", late.theta);
        assert!((late.price() - late.theta.exp_m1()).abs() < 1e-9);
        assert_eq!(after(calm, 5, true, false).theta, 0.0, "no start caused the misses");
        // As many misses as are allowed leave the price where it is.
        let allowed = LatePrice { theta: 5.0, ..after(calm, 40_000, false, false) };
        let mut even = allowed;
        for _ in 0..1000 {
            even = after(after(even, 1, true, true), 181, false, false);
        }
        assert!((even.theta - allowed.theta).abs() < 1.0, "{}", even.theta);
    }

    #[test]
    fn price_falls_only_after_the_excess_of_misses_is_made_up_for() {
        let worst = after(LatePrice::default(), 1000, true, true);
        assert_eq!((worst.theta, worst.price()), (THETA_MAX, PRICED_MAX.exp_m1()));
        let after_half = after(worst, 2000, false, false);
        assert_eq!(after_half.price(), worst.price());
        assert!(after(worst, 8000, false, false).price() < worst.price());
    }

    #[test]
    fn misses_without_a_start_lower_the_allowance_for_starts() {
        let mut busy = LatePrice::default();
        for _ in 0..200 {
            busy = after(after(busy, 1, true, false), 99, false, false);
        }
        let fall = |misses: LatePrice| {
            let high = LatePrice { theta: 5.0, ..misses };
            high.theta - after(high, 1, false, false).theta
        };
        assert!((fall(busy) - STEP * LEAST).abs() < 1e-9, "{}", fall(busy));
        assert!(fall(LatePrice::default()) > 3.9 * STEP * LEAST);
    }
}
