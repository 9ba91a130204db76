//! Costs and learned values of an adapter's starts and idle periods: the basis of when it starts
//! and how long it stays on.

use super::help_record::HelpRecord;
use super::idle_periods::IdlePeriods;
use super::ids::{ModelId, Time};
use super::learned_profile::LearnedProfile;
use super::savings::SavingsEstimate;
use std::collections::VecDeque;
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Weight of the last start in the estimate of the next.
const LATE_GAIN: f64 = 0.8;
/// Weight of the last start in the long average of requests that starts make late.
const LATE_GAIN_LONG: f64 = 0.2;

/// The expected client for which an adapter is on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) model: ModelId,
    /// End of the wait for its request.
    pub(super) until: Time,
}

/// The record of an adapter's starts and idle periods.
#[derive(Debug)]
pub(super) struct Economy {
    /// Times at which the starts of the last hour for the load will be an hour old.
    pub(super) starts: VecDeque<Time>,
    /// Time since which it has had no work, on or off; `None` while it has work, or is started for
    /// some.
    pub(super) no_work_since: Option<Time>,
    pub(super) idle_periods: IdlePeriods,
    pub(super) savings: SavingsEstimate,
    /// Requests that a start makes miss their target, on average; and so far for the last start.
    pub(super) late_per_start: f64,
    pub(super) late_this_start: f64,
    /// The same over more starts, for adapters with a start that fits into the target: there it is
    /// a price that must not change with each start.
    pub(super) late_per_start_long: f64,
    /// The expected client for which it is on.
    pub(super) expected: Option<Expected>,
    /// True if its last start was not for waiting requests: that start made no request late.
    pub(super) early: bool,
    /// True if it has run a batch since its last start.
    pub(super) served: bool,
    pub(super) helped: HelpRecord,
    /// Since when it was idle when it was found worth keeping for its models, and for how many
    /// seconds from then on.
    pub(super) kept: Option<(Time, f64)>,
    /// Seconds of idling that cost as much as the last start would have.
    pub(super) break_even: f64,
}

impl Default for Economy {
    fn default() -> Economy {
        Economy {
            starts: VecDeque::new(),
            no_work_since: None,
            idle_periods: IdlePeriods::default(),
            savings: SavingsEstimate::default(),
            // One late request is assumed until a start has been observed.
            late_per_start: 1.0,
            late_this_start: 0.0,
            late_per_start_long: 1.0,
            expected: None,
            // Without an observed start `late_this_start` must not count (`late_requests`).
            early: true,
            served: false,
            helped: HelpRecord::default(),
            kept: None,
            break_even: 1.0,
        }
    }
}

impl Economy {
    /// The adapter is turned on. `waited_for` is true if requests wait for this start.
    pub(super) fn started(&mut self, now: Time, waited_for: bool) {
        self.late_per_start_long +=
            LATE_GAIN_LONG * (self.late_this_start - self.late_per_start_long);
        self.late_per_start = self.late_requests();
        self.starts.push_back(now + HOUR);
        self.end_idle_period(now);
        self.expected = None;
        (self.early, self.served) = (!waited_for, false);
        self.late_this_start = 0.0;
    }

    /// The adapter runs a batch.
    pub(super) fn ran(&mut self) {
        (self.expected, self.served) = (None, true);
    }

    /// Ends the idle period: it has work again, or is started for some.
    pub(super) fn end_idle_period(&mut self, now: Time) {
        if let Some(since) = self.no_work_since.take() {
            self.idle_periods.record(now.since(since).as_secs_f64(), self.break_even);
        }
    }

    /// Returns the requests that a start makes late: on average over the starts that requests
    /// waited for, the last one included.
    pub(super) fn late_requests(&self) -> f64 {
        if self.early {
            return self.late_per_start;
        }
        self.late_per_start + LATE_GAIN * (self.late_this_start - self.late_per_start)
    }

    /// Restores the values of an earlier run, unless values were learned in this one.
    pub(super) fn restore(&mut self, now: Time, profile: &LearnedProfile) {
        if !self.idle_periods.is_empty() {
            return;
        }
        self.late_per_start =
            profile.late_permille.map_or(self.late_per_start, |late| f64::from(late) * 1e-3);
        for (period, break_even) in &profile.idle_periods {
            self.idle_periods.record(period.as_secs_f64(), break_even.as_secs_f64());
        }
        self.helped =
            profile.helped.map_or(self.helped, |helped| HelpRecord::restored(now, helped));
        // An hour at most: if the clock was set back, the file contains longer times.
        self.starts = profile.starts.iter().map(|left| now + (*left).min(HOUR)).collect();
    }
}
