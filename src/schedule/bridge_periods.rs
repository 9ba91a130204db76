//! Busy periods for which bridges did not suffice.

use super::client_pattern::END_PAUSE;
use super::ids::Time;

/// Weight of the last busy period in the average of those in which bridges did not suffice, and the
/// average from which on they are expected not to: two such periods in a row, from none.
const PERIOD_GAIN: f64 = 0.5;
pub(super) const SHORT_FROM: f64 = 0.7;

/// History of the busy periods that began while only bridges were on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BridgePeriods {
    /// Arrival of the last request.
    last: Time,
    /// True if only bridges were on at the start of the present busy period.
    pub(super) counts: bool,
    /// True if bridges were too slow in the present busy period.
    pub(super) short: bool,
    /// Decayed share of the busy periods in which bridges were too slow.
    pub(super) share: f64,
}

impl BridgePeriods {
    pub(super) fn arrived(&mut self, now: Time, alone: bool) {
        if now.since(self.last) >= END_PAUSE {
            if self.counts {
                self.share += PERIOD_GAIN * (f64::from(u8::from(self.short)) - self.share);
            }
            (self.counts, self.short) = (alone, false);
        }
        self.last = now;
    }
}
