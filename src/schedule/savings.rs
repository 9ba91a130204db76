//! Estimated savings of an adapter that is off.

use super::ids::Time;

/// Energy that an adapter that is off would have saved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SavingsEstimate {
    /// Times of the first and the last batch that counts.
    pub(super) since: Time,
    pub(super) until: Time,
    pub(super) rows: f64,
    pub(super) joules: f64,
    /// Seconds after the last batch for which it counts.
    pub(super) recent: f64,
}

impl SavingsEstimate {
    /// Returns the seconds from the first to the last batch.
    pub(super) fn lasted(&self) -> f64 {
        self.until.since(self.since).as_secs_f64()
    }
}
