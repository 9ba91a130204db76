//! Forecast of a client's next request, learned from the gaps between its busy periods.
//!
//! A busy period begins with a request after a pause of [`END_PAUSE`]. The last gaps are kept, from the
//! end of work to the next busy period and from the start of one to the start of the next. A
//! forecast is a window in which most gaps ended and which is narrow relative to them: of all such
//! windows between two of the gaps the one with the least expected cost, if it is well below the
//! cost of waiting.

use super::ids::{ModelId, Time};
use super::learned_profile::LearnedClient;
use std::collections::VecDeque;
use std::time::Duration;

/// A pause of this length ends a busy period.
pub(super) const END_PAUSE: Duration = Duration::from_secs(15);
/// A busy period is considered over after a pause of this multiple of the longest one within the
/// last busy periods, plus `LULL_MIN` seconds.
const INNER_PAUSE_CAUTION: f64 = 1.5;
const INNER_PAUSE_MARGIN: f64 = 1.0;
/// Number of gaps that are kept.
const REMEMBERED: usize = 32;
/// Number of gaps from which on a forecast is made.
const ENOUGH: usize = 6;
/// Share of the gaps that a window has to cover.
const COVERED: f64 = 0.75;
/// Maximum width of a window, as a share of its beginning.
const WIDTH_MAX: f64 = 0.5;
/// A window is widened on both sides by these seconds, and by `MARGIN_SHARE` of the gap.
const MARGIN: f64 = 0.5;
const MARGIN_SHARE: f64 = 0.01;
/// Minimum of seconds for which an adapter is turned off because of a forecast: less would cycle
/// the driver for a small saving.
pub(super) const SHORTEST: f64 = 60.0;
/// A forecast is used if it costs at most this share of waiting.
const WORTH: f64 = 0.8;
/// Share of a gap for which the server may have been down: with more, a request may have been
/// missed.
const UNSEEN_MAX: f64 = 0.1;
/// Weight of the last busy period in the average of requests that a cold start makes late.
const LATE_GAIN: f64 = 0.2;

/// Costs of an adapter while it is not needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// Watts while idle.
    pub(super) idle: f64,
    /// Joules of a start.
    pub(super) start: f64,
    /// Joules of a busy period that begins with the adapter off, in addition to the start.
    pub(super) miss: f64,
    /// Seconds that the adapter waits for work without a forecast.
    pub(super) wait: f64,
}

/// Interval in which the next busy period is expected to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    pub(super) from: Time,
    pub(super) until: Time,
}

/// The busy periods of one client.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientPattern {
    /// Beginning of the present or last busy period and end of its last work, in seconds, which are
    /// negative before the server started.
    began: Option<f64>,
    ended: f64,
    /// Seconds since then in which the server was down and recorded no requests.
    down: f64,
    /// Seconds from the end of work to the next busy period, and from beginning to beginning.
    pauses: VecDeque<f64>,
    periods: VecDeque<f64>,
    /// The longest pauses within the last busy periods, and within the present one, in seconds.
    inner_pauses: VecDeque<f64>,
    inner_pause: f64,
    /// Late requests of the present busy period; `None` if an adapter was ready for it.
    late: Option<u32>,
    /// Mean of the late requests of a busy period that begins without a ready adapter.
    late_requests: f64,
    /// The pause after the present busy period has been evaluated.
    pub(super) forecast_done: bool,
}

impl ClientPattern {
    /// Records a request; `ready` if an adapter had been started ahead for it. Returns whether it
    /// begins a busy period.
    pub(super) fn arrived(&mut self, now: Time, ready: bool) -> bool {
        let (now, pause) = (seconds(now), seconds(now) - self.ended);
        let begins = self.began.is_none() || pause >= END_PAUSE.as_secs_f64();
        if !begins {
            self.inner_pause = self.inner_pause.max(pause);
        } else {
            if let Some(began) = self.began.filter(|_| self.down <= UNSEEN_MAX * pause) {
                keep(&mut self.pauses, pause);
                keep(&mut self.periods, now - began);
                keep(&mut self.inner_pauses, std::mem::take(&mut self.inner_pause));
            }
            self.end_busy_period();
            self.began = Some(now);
            self.late = (!ready).then_some(0);
        }
        (self.ended, self.down) = (now, 0.0);
        self.forecast_done = false;
        begins
    }

    /// Records an answer, late because of a start or not.
    pub(super) fn answered(&mut self, now: Time, late: bool) {
        self.ended = seconds(now);
        if let Some(count) = &mut self.late {
            *count = count.saturating_add(u32::from(late));
        }
    }

    fn end_busy_period(&mut self) {
        if let Some(late) = self.late.take() {
            // The first measurement replaces the initial value of 0, which was a guess.
            let gain = if self.pauses.len() <= 1 { 1.0 } else { LATE_GAIN };
            self.late_requests += gain * (f64::from(late) - self.late_requests);
        }
    }

    /// Returns the time at which the pause is long enough for a forecast, if there are enough gaps.
    pub(super) fn forecast_at(&self) -> Option<Time> {
        let enough = self.began.is_some() && self.pauses.len() >= ENOUGH;
        (enough && !self.forecast_done).then(|| time(self.ended + self.end_pause()))
    }

    /// Returns the time at which the present busy period is over without further requests, by its
    /// pauses or, with too few gaps, by `QUIET`.
    pub(super) fn paused_at(&self) -> Option<Time> {
        let enough = self.pauses.len() >= ENOUGH;
        let end_pause = if enough { self.end_pause() } else { END_PAUSE.as_secs_f64() };
        self.began.map(|_| time(self.ended + end_pause))
    }

    /// Returns the seconds without work after which a busy period is over, judged by the pauses
    /// within earlier ones.
    fn end_pause(&self) -> f64 {
        let inner_pause = self.inner_pauses.iter().copied().fold(self.inner_pause, f64::max);
        (inner_pause * INNER_PAUSE_CAUTION + INNER_PAUSE_MARGIN).min(END_PAUSE.as_secs_f64())
    }

    /// Returns the time at which work of this client was last recorded, in seconds.
    pub(super) fn ended(&self) -> f64 {
        self.ended
    }

    /// Returns whether work of this client was recorded within this time.
    pub(super) fn was_seen(&self, now: Time, within: Duration) -> bool {
        seconds(now) - self.ended < within.as_secs_f64()
    }

    /// Returns the late requests of a busy period without a ready adapter.
    pub(super) fn late_requests(&self) -> f64 {
        let late = self.late.map_or(self.late_requests, |late| {
            self.late_requests + LATE_GAIN * (f64::from(late) - self.late_requests)
        });
        late.max(0.0)
    }

    /// Returns the interval in which the next busy period is expected, if being ready just then
    /// costs clearly less than waiting.
    pub(super) fn forecast(&self, costs: Costs) -> Option<Window> {
        if self.pauses.len() < ENOUGH {
            return None;
        }
        let waiting = mean(&self.pauses, costs, |gap| {
            if gap <= costs.wait {
                gap * costs.idle
            } else {
                costs.wait * costs.idle + costs.start + costs.miss
            }
        });
        let end_pause = self.end_pause();
        let pauses = best(&self.pauses, costs, (0.0, end_pause));
        let began = self.began?;
        let periods = best(&self.periods, costs, (self.ended - began, end_pause));
        let (cost, from, until, anchor) = [(pauses, self.ended), (periods, began)]
            .into_iter()
            .filter_map(|(best, anchor)| {
                best.map(|(cost, from, until)| (cost, from, until, anchor))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        if from - (self.ended - anchor) < SHORTEST {
            return None;
        }
        let at = |seconds: f64| time(anchor + seconds.min(1e7));
        (cost < WORTH * waiting).then(|| Window { from: at(from), until: at(until) })
    }

    /// Returns the values to keep for the next run of the server.
    pub(super) fn learned(&self, now: Time) -> LearnedClient {
        let ago = |at: f64| duration(seconds(now) - at);
        let all = |gaps: &VecDeque<f64>| gaps.iter().copied().map(duration).collect();
        LearnedClient {
            client: None,
            model: ModelId(0),
            began: self.began.map(ago),
            ended: ago(self.ended),
            pauses: all(&self.pauses),
            periods: all(&self.periods),
            inner_pauses: all(&self.inner_pauses),
            late_permille: (self.late_requests() * 1e3) as u32,
        }
    }

    /// Restores the values of an earlier run; the server was down since they were written.
    pub(super) fn restored(now: Time, learned: &LearnedClient, down: Duration) -> ClientPattern {
        let at = |ago: Duration| seconds(now) - ago.saturating_add(down).as_secs_f64();
        let all = |gaps: &[Duration]| {
            let last = gaps.len().saturating_sub(REMEMBERED);
            gaps.iter().skip(last).map(Duration::as_secs_f64).collect()
        };
        ClientPattern {
            began: learned.began.map(at),
            ended: at(learned.ended),
            down: down.as_secs_f64(),
            pauses: all(&learned.pauses),
            periods: all(&learned.periods),
            inner_pauses: all(&learned.inner_pauses),
            late_requests: f64::from(learned.late_permille) * 1e-3,
            ..ClientPattern::default()
        }
    }
}

fn seconds(time: Time) -> f64 {
    time.0.as_secs_f64()
}

fn time(seconds: f64) -> Time {
    Time(duration(seconds))
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn keep(gaps: &mut VecDeque<f64>, gap: f64) {
    if gaps.len() == REMEMBERED {
        gaps.pop_front();
    }
    gaps.push_back(gap);
}

/// Returns the mean cost of the gaps, with one more that is outside the window.
fn mean(gaps: &VecDeque<f64>, costs: Costs, cost: impl Fn(f64) -> f64) -> f64 {
    // A few equal gaps do not prove the next one (compare the rule of succession of Laplace).
    let unseen = costs.start + costs.miss;
    (gaps.iter().map(|gap| cost(*gap)).sum::<f64>() + unseen) / (gaps.len() + 1) as f64
}

/// Returns the window with the least expected cost: its cost in joules, beginning and end in
/// seconds after the anchor, which lies `worked` seconds before the end of work.
fn best(
    gaps: &VecDeque<f64>,
    costs: Costs,
    (ended, end_pause): (f64, f64),
) -> Option<(f64, f64, f64)> {
    let mut sorted: Vec<f64> = gaps.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let covered = (COVERED * sorted.len() as f64).ceil() as usize;
    // At most 32 gaps (`REMEMBERED`), so that all pairs can be tried.
    let windows = (0..sorted.len()).flat_map(|first| {
        (first + covered.max(1) - 1..sorted.len()).map(move |last| (first, last))
    });
    let priced = windows.filter_map(|(first, last)| {
        let (low, high) = (*sorted.get(first)?, *sorted.get(last)?);
        if high - low > WIDTH_MAX * low {
            return None;
        }
        // The window cannot begin before the present busy period is over.
        let from = (low - MARGIN - MARGIN_SHARE * low).max(ended + end_pause);
        let until = high + MARGIN + MARGIN_SHARE * high;
        let cost = mean(gaps, costs, |gap| {
            let late = costs.start + costs.miss;
            let held = if gap < from {
                costs.miss
            } else if gap <= until {
                (gap - from) * costs.idle
            } else {
                (until - from) * costs.idle + late
            };
            end_pause * costs.idle + costs.start + held
        });
        Some((cost, from, until))
    });
    priced.min_by(|a, b| a.0.total_cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { idle: 20.0, start: 65.6, miss: 5000.0, wait: 250.0 };

    fn learned(gaps: impl IntoIterator<Item = f64>) -> ClientPattern {
        let mut pattern = ClientPattern::default();
        let mut at = 100.0;
        pattern.arrived(Time(Duration::from_secs_f64(at)), false);
        for gap in gaps {
            at += gap;
            pattern.arrived(Time(Duration::from_secs_f64(at)), false);
        }
        pattern
    }

    fn expected(pattern: &ClientPattern, costs: Costs) -> Option<(u64, u64)> {
        let window = pattern.forecast(costs)?;
        let after = |at: Time| (seconds(at) - pattern.ended()) as u64;
        Some((after(window.from), after(window.until)))
    }

    #[test]
    fn regular_client_is_expected_and_random_one_is_not() {
        assert_eq!(expected(&learned([600.0; 5]), COSTS), None, "too few gaps");
        assert_eq!(expected(&learned([600.0; 6]), COSTS), Some((593, 606)));
        let jitter = (0..32).map(|n| 600.0 + 20.0 * f64::from(n % 5 - 2));
        assert_eq!(expected(&learned(jitter), COSTS), Some((553, 646)));
        let random = (1..33).map(|n| -600.0 * (f64::from(n) / 33.0).ln());
        assert_eq!(expected(&learned(random), COSTS), None);
    }

    #[test]
    fn client_that_costs_nothing_to_miss_is_not_expected() {
        let pattern = learned([600.0; 8]);
        assert_eq!(expected(&pattern, Costs { miss: 0.0, wait: 3.0, ..COSTS }), None);
        // An adapter is not turned off before a request that is expected soon.
        assert_eq!(expected(&learned([40.0; 8]), COSTS), None);
    }

    #[test]
    fn only_cold_busy_periods_count_for_the_cost_of_a_miss() {
        let mut pattern = ClientPattern::default();
        let at = |seconds: u64| Time(Duration::from_secs(seconds));
        for period in 0..8 {
            let ready = period >= 4;
            pattern.arrived(at(1000 * (period + 1)), ready);
            (0..5).for_each(|_| pattern.answered(at(1000 * (period + 1) + 1), !ready));
        }
        assert!((pattern.late_requests() - 5.0).abs() < 1e-9, "{}", pattern.late_requests());
    }
}
