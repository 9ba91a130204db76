//! Recent load: rates of the last seconds and quantiles of the last half minute.
//!
//! Time is an argument: the time since the start of the server.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Number of one-second slots for rates: few enough to show a change, many enough to be readable.
const RATE_SLOTS: u64 = 5;
/// Number of ten-second slots for quantiles.
const TIME_SLOTS: u64 = 3;
const RATE_SLOT: Duration = Duration::from_secs(1);
const TIME_SLOT: Duration = Duration::from_secs(10);

/// Minimum time between two updates of the views.
const REFRESH: Duration = Duration::from_millis(500);

/// Maximum recorded time, in microseconds: ten minutes. Longer times are recorded as this.
const LONGEST_US: u64 = 600_000_000;
/// Significant digits of quantiles.
const DIGITS: u8 = 2;

/// Work of an adapter in the last half minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RecentView {
    pub requests_per_s: f64,
    pub rows_per_s: f64,
    pub batches_per_s: f64,
    /// Time from admission to dispatch.
    pub queue_p50_ms: f64,
    pub queue_p99_ms: f64,
    /// Time from dispatch of a batch until its outputs are on the host.
    pub run_p50_ms: f64,
    pub run_p99_ms: f64,
    /// Share of time with a batch in flight, between 0 and 1.
    pub busy: f64,
}

/// Requests of a model in the last half minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyView {
    pub requests_per_s: f64,
    pub rows_per_s: f64,
    /// Time from admission to answer.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Completed work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub requests: u64,
    pub rows: u64,
    pub batches: u64,
    /// The run time of a batch, or of a request of a model.
    pub run: Duration,
}

/// Recent work of one adapter or one model.
#[derive(Debug, Default)]
pub struct Recent {
    counts: TimeSlots<Counts>,
    times: TimeSlots<RecentTimes>,
    shown: Option<RecentView>,
    shown_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    rows: u64,
    batches: u64,
    busy: Duration,
}

/// Microseconds; `None` before the first value.
#[derive(Debug, Default)]
struct RecentTimes {
    queue: Option<Histogram<u32>>,
    run: Option<Histogram<u32>>,
}

impl Recent {
    /// Records the time that a request waited before it was dispatched.
    pub fn queued(&mut self, now: Duration, wait: Duration) {
        let slot = self.times.at(now, TIME_SLOT, TIME_SLOTS);
        record(&mut slot.queue, wait);
    }

    /// Records completed work.
    pub fn done(&mut self, now: Duration, done: Done) {
        let counts = self.counts.at(now, RATE_SLOT, RATE_SLOTS);
        counts.requests += done.requests;
        counts.rows += done.rows;
        counts.batches += done.batches;
        counts.busy += done.run;
        record(&mut self.times.at(now, TIME_SLOT, TIME_SLOTS).run, done.run);
    }

    /// Updates the views, unless they were updated a moment ago.
    pub fn refresh(&mut self, now: Duration) {
        if self.shown_at.is_none_or(|at| now.saturating_sub(at) >= REFRESH) {
            self.shown = self.reckon(now);
            self.shown_at = Some(now);
        }
    }

    /// Returns the view of an adapter; `None` if nothing was done for half a minute.
    pub fn view(&self) -> Option<RecentView> {
        self.shown
    }

    /// Returns the view of a model; `None` if nothing was done for half a minute.
    pub fn latency(&self) -> Option<LatencyView> {
        let RecentView { requests_per_s, rows_per_s, run_p50_ms, run_p99_ms, .. } = self.shown?;
        Some(LatencyView { requests_per_s, rows_per_s, p50_ms: run_p50_ms, p99_ms: run_p99_ms })
    }

    fn reckon(&mut self, now: Duration) -> Option<RecentView> {
        self.times.drop_old(now, TIME_SLOT, TIME_SLOTS);
        self.counts.drop_old(now, RATE_SLOT, RATE_SLOTS);
        let queue = quantiles(self.times.all().filter_map(|slot| slot.queue.as_ref()));
        let run = quantiles(self.times.all().filter_map(|slot| slot.run.as_ref()))?;
        let (queue_p50_ms, queue_p99_ms) = queue.unwrap_or_default();
        // The newest slot is not complete.
        let begun = Duration::from_secs((now.as_secs() + 1).saturating_sub(RATE_SLOTS));
        let seconds = now.saturating_sub(begun).as_secs_f64().max(RATE_SLOT.as_secs_f64());
        let sum =
            |part: fn(&Counts) -> u64| self.counts.all().map(part).sum::<u64>() as f64 / seconds;
        let busy: Duration = self.counts.all().map(|slot| slot.busy).sum();
        Some(RecentView {
            requests_per_s: sum(|slot| slot.requests),
            rows_per_s: sum(|slot| slot.rows),
            batches_per_s: sum(|slot| slot.batches),
            queue_p50_ms,
            queue_p99_ms,
            run_p50_ms: run.0,
            run_p99_ms: run.1,
            // A batch is counted when it is complete, including its time before the window.
            busy: (busy.as_secs_f64() / seconds).min(1.0),
        })
    }
}

/// The newest slots of equal length, oldest first, with their numbers.
#[derive(Debug, Default)]
struct TimeSlots<T>(VecDeque<(u64, T)>);

impl<T: Default> TimeSlots<T> {
    /// Returns the slot of this moment.
    fn at(&mut self, now: Duration, length: Duration, count: u64) -> &mut T {
        self.drop_old(now, length, count);
        let number = now.as_secs() / length.as_secs();
        // Moments arrive in order; a late one is counted in the newest slot.
        if self.0.back().is_none_or(|(newest, _)| *newest < number) {
            self.0.push_back((number, T::default()));
        }
        let newest = self.0.len() - 1;
        &mut self.0[newest].1
    }

    fn drop_old(&mut self, now: Duration, length: Duration, count: u64) {
        let number = now.as_secs() / length.as_secs();
        while self.0.front().is_some_and(|(oldest, _)| oldest + count <= number) {
            self.0.pop_front();
        }
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, slot)| slot)
    }
}

fn record(histogram: &mut Option<Histogram<u32>>, time: Duration) {
    if histogram.is_none() {
        // The bounds are valid, so creation does not fail.
        *histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok();
    }
    let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
    if let Some(histogram) = histogram {
        histogram.saturating_record(micros.clamp(1, LONGEST_US));
    }
}

/// Returns the median and the 99th percentile of all parts in milliseconds; `None` if they are
/// empty.
fn quantiles<'a>(parts: impl Iterator<Item = &'a Histogram<u32>>) -> Option<(f64, f64)> {
    let whole = parts.fold(None, |whole: Option<Histogram<u32>>, part| match whole {
        None => Some(part.clone()),
        Some(mut whole) => {
            // Adding histograms of equal bounds does not fail.
            let _ = whole.add(part);
            Some(whole)
        }
    })?;
    let ms = |quantile| whole.value_at_quantile(quantile) as f64 / 1e3;
    Some((ms(0.5), ms(0.99)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn batch(rows: u64, run: Duration) -> Done {
        Done { requests: 1, rows, batches: 1, run }
    }

    fn seen(recent: &mut Recent, now: Duration) -> Option<RecentView> {
        recent.refresh(now);
        recent.view()
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut recent = Recent::default();
        for tenth in 0..100u32 {
            recent.done(tenth * 100 * MS, batch(3, 50 * MS));
        }
        let view = seen(&mut recent, Duration::from_millis(9_999)).unwrap();
        assert!((view.requests_per_s - 10.0).abs() < 0.1, "{view:?}");
        assert!((view.rows_per_s - 30.0).abs() < 0.1, "{view:?}");
        assert!((view.busy - 0.5).abs() < 0.01, "{view:?}");
        // Half of the window has passed without work.
        let view = seen(&mut recent, Duration::from_millis(12_500)).unwrap();
        assert!((view.requests_per_s - 20.0 / 4.5).abs() < 0.1, "{view:?}");
    }

    #[test]
    fn quantiles_are_of_the_last_half_minute() {
        let mut recent = Recent::default();
        recent.done(Duration::ZERO, batch(1, 5000 * MS));
        let late = Duration::from_secs(31);
        for run in 1..=100u32 {
            recent.queued(late, run * MS / 10);
            recent.done(late, batch(1, run * MS));
        }
        let view = seen(&mut recent, late).unwrap();
        assert!((view.run_p50_ms - 50.0).abs() < 1.0, "{view:?}");
        assert!((view.run_p99_ms - 99.0).abs() < 1.0, "{view:?}");
        assert!((view.queue_p50_ms - 5.0).abs() < 0.1, "{view:?}");
    }

    #[test]
    fn old_work_is_not_counted() {
        let mut recent = Recent::default();
        assert_eq!(seen(&mut recent, Duration::ZERO), None);
        recent.done(Duration::from_secs(3), batch(1, MS));
        let view = seen(&mut recent, Duration::from_secs(29)).unwrap();
        assert_eq!(view.requests_per_s, 0.0);
        assert_eq!(seen(&mut recent, Duration::from_secs(30)), None);
    }

    #[test]
    fn rates_of_a_new_server_use_its_uptime() {
        let mut recent = Recent::default();
        recent.done(Duration::from_millis(1500), batch(1, Duration::from_secs(9000)));
        let view = seen(&mut recent, Duration::from_secs(2)).unwrap();
        assert!((view.requests_per_s - 0.5).abs() < 0.01, "{view:?}");
        assert_eq!((view.busy, view.run_p99_ms >= 599_000.0), (1.0, true));
    }
}
