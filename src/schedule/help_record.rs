//! The record of the help that an adapter needed from a more expensive one.

use super::ids::Time;
use std::time::Duration;

/// Time after help for which an adapter does not count as cheap; it doubles with each help that
/// follows soon.
const HELPED_MIN: Duration = Duration::from_secs(600);
const HELPED_MAX: Duration = Duration::from_secs(2400);
/// Multiple of that time within which help counts as soon.
const SOON: f64 = 2.0;

/// Time at which an adapter that was ready last needed the help of a more expensive one, and for
/// how long that counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HelpRecord {
    /// In seconds, which are negative before the server started.
    at: Option<f64>,
    counts: f64,
}

impl HelpRecord {
    /// Restores the record of an earlier run: the time since the help, and for how long it counts.
    pub(super) fn restored(now: Time, (ago, counts): (Duration, Duration)) -> HelpRecord {
        let at = Some(now.0.as_secs_f64() - ago.as_secs_f64());
        HelpRecord { at, counts: counts.min(HELPED_MAX).as_secs_f64() }
    }

    pub(super) fn learned(&self, now: Time) -> Option<(Duration, Duration)> {
        let duration = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        Some((duration(now.0.as_secs_f64() - self.at?), duration(self.counts)))
    }

    pub(super) fn is_recent(&self, now: Time) -> bool {
        self.at.is_some_and(|at| now.0.as_secs_f64() - at < self.counts)
    }

    pub(super) fn record(&mut self, now: Time) {
        let seconds = now.0.as_secs_f64();
        // Help within the time extends it, but does not double it again.
        if !self.is_recent(now) {
            let soon = self.at.is_some_and(|at| seconds - at < self.counts * SOON);
            let longer = (self.counts * 2.0).min(HELPED_MAX.as_secs_f64());
            self.counts = if soon { longer } else { HELPED_MIN.as_secs_f64() };
        }
        self.at = Some(seconds);
    }
}
