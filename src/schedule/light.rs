//! Which adapter serves light traffic: the one that takes the least energy for a row, with its share
//! of the energy of waiting for it.
//!
//! `J = (active - idle) / rate + idle / lambda` joules for a row, with `lambda` rows per second that
//! arrive: under light traffic the idle power decides, under heavy traffic the energy of the work.
//! An adapter to which a dearer one had to come to help lately is not taken for cheap.

use super::event::Wish;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::scheduler::Scheduler;
use super::settings::Role;
use std::time::Duration;

/// Logarithm of the smallest difference in energy that counts.
const STEP: f64 = 0.05;
/// Time constant of the average of arriving rows, in seconds.
const AVERAGED: f64 = 60.0;
/// Rows per second that are assumed at least.
const RATE_MIN: f64 = 0.001;
/// An adapter is not taken for cheap for so long after it needed help, twice as long each time that
/// it needs help soon afterwards.
const HELPED_MIN: Duration = Duration::from_secs(600);
const HELPED_MAX: Duration = Duration::from_secs(2400);
/// It needs help soon if that is within so many times as long.
const SOON: f64 = 2.0;

/// An average of the rows that arrive per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArrivalRate {
    at: Time,
    rows_per_second: f64,
}

impl ArrivalRate {
    pub(super) fn observe(&mut self, now: Time, rows: u32) {
        self.rows_per_second = self.now(now) + f64::from(rows) / AVERAGED;
        self.at = now;
    }

    fn now(&self, now: Time) -> f64 {
        self.rows_per_second * (-now.since(self.at).as_secs_f64() / AVERAGED).exp()
    }
}

/// When an adapter, which was ready, last needed the help of a dearer one, and for how long that is
/// remembered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Helped {
    /// In seconds, which are negative before the server started.
    at: Option<f64>,
    counts: f64,
}

impl Helped {
    /// What an earlier run of the server knew: how long ago that was, and for how long it counts.
    pub(super) fn recalled(now: Time, (ago, counts): (Duration, Duration)) -> Helped {
        let at = Some(now.0.as_secs_f64() - ago.as_secs_f64());
        Helped { at, counts: counts.min(HELPED_MAX).as_secs_f64() }
    }

    pub(super) fn learned(&self, now: Time) -> Option<(Duration, Duration)> {
        let duration = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        Some((duration(now.0.as_secs_f64() - self.at?), duration(self.counts)))
    }

    fn lately(&self, now: Time) -> bool {
        self.at.is_some_and(|at| now.0.as_secs_f64() - at < self.counts)
    }

    fn note(&mut self, now: Time) {
        let seconds = now.0.as_secs_f64();
        if !self.lately(now) {
            let soon = self.at.is_some_and(|at| seconds - at < self.counts * SOON);
            let longer = (self.counts * 2.0).min(HELPED_MAX.as_secs_f64());
            self.counts = if soon { longer } else { HELPED_MIN.as_secs_f64() };
        }
        self.at = Some(seconds);
    }
}

impl Scheduler {
    /// Joules of a row with its share of waiting.
    fn full_row_joules(&self, now: Time, slot: &Slot) -> f64 {
        let power = self.adapters.get(&slot.adapter).map(|adapter| adapter.profile.power);
        let idle_watts = power.map_or(0, |power| power.idle_mw) as f64 * 1e-3;
        self.work_joules(slot) + idle_watts / self.arrivals.now(now).max(RATE_MIN)
    }

    /// Whether every start of an adapter makes requests for the model late, so that one of them has
    /// to wait for light traffic.
    pub(super) fn starts_late(&self, model: ModelId) -> bool {
        let aim = self.aim(model).as_secs_f64();
        let regular = self.adapters.iter().filter(|(_, adapter)| {
            adapter.profile.role == Role::Regular && adapter.is_there() && adapter.wish != Wish::Off
        });
        let mut fits = regular.filter(|(id, adapter)| {
            let slot = self.warm_slot(**id, model, 0);
            let start = adapter.cold_start() + self.load_time(**id, model);
            start + slot.batch(1) * slot.caution <= aim
        });
        fits.next().is_none()
    }

    /// Joules of a row on a logarithmic scale, in steps of 5 %: what differs less is the same, and
    /// then the first adapter takes all, so that the others fall idle. `late` as
    /// [`Scheduler::starts_late`]: then those that carry what comes are ranked by all that they take,
    /// before those that needed help lately. All others are ranked by their work alone.
    pub(super) fn cost_rank(&self, now: Time, slot: &Slot, late: bool) -> (bool, i64) {
        let helped = late && self.needed_help(now, slot.adapter);
        let joules =
            if late && !helped { self.full_row_joules(now, slot) } else { self.work_joules(slot) };
        (helped, (joules.max(1e-9).ln() / STEP).round() as i64)
    }

    /// Joules above idling of a row in a full batch.
    fn work_joules(&self, slot: &Slot) -> f64 {
        let power = self.adapters.get(&slot.adapter).map(|adapter| adapter.profile.power);
        let watts = power.map_or(0, |power| power.active_mw.saturating_sub(power.idle_mw));
        watts as f64 * 1e-3 / slot.rate()
    }

    /// Whether a dearer adapter had to help this one lately.
    pub(super) fn needed_help(&self, now: Time, id: AdapterId) -> bool {
        self.adapters.get(&id).is_some_and(|adapter| adapter.helped.lately(now))
    }

    /// Remembers that these adapters, which are ready, needed help.
    pub(super) fn note_help(&mut self, now: Time, ids: &[AdapterId]) {
        for id in ids {
            if let Some(adapter) = self.adapters.get_mut(id) {
                adapter.helped.note(now);
            }
        }
    }
}
