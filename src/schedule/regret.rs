//! What an adapter that is off would have saved.

use super::ids::Time;

/// What an adapter that is off would have saved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Regret {
    /// The first and the last batch that counts.
    pub(super) since: Time,
    pub(super) until: Time,
    pub(super) rows: f64,
    pub(super) joules: f64,
    /// How long after the last batch it counts, in seconds.
    pub(super) recent: f64,
}

impl Regret {
    /// Seconds from the first to the last batch.
    pub(super) fn lasted(&self) -> f64 {
        self.until.since(self.since).as_secs_f64()
    }
}
