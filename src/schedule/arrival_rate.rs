//! The rate of arriving rows.

use super::ids::Time;

/// Time constant of the average of arriving rows, in seconds.
const AVERAGED: f64 = 60.0;

/// A decayed average of the rows that arrive per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArrivalRate {
    at: Time,
    rows_per_second: f64,
}

impl ArrivalRate {
    pub(super) fn observe(&mut self, now: Time, rows: u32) {
        // Each row adds a decaying pulse with the integral 1 over time.
        self.rows_per_second = self.now(now) + f64::from(rows) / AVERAGED;
        self.at = now;
    }

    pub(super) fn now(&self, now: Time) -> f64 {
        self.rows_per_second * (-now.since(self.at).as_secs_f64() / AVERAGED).exp()
    }
}
