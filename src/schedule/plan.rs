//! Which adapter serves which rows when, and which rows will be late.
//!
//! Adapters are asked in the order of their energy per row. The first idle one that makes the
//! target takes the rows; a busy one, or one that is coming, is trusted with what it can serve in
//! time, and only what is left over goes to dearer ones. So the dear ones fall idle. Under the
//! `energy` goal rows wait besides for company: until one more row would make the first one late,
//! or until a batch is so large that waiting for more would hardly save anything. Under the `latency`
//! goal rows go where they are done soonest (`dispatch.rs`); only growth is planned here, the soonest
//! first.
//!
//! The plan is that of elastic serving with deadlines: consolidate on few, earliest due first.

use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::lists::{End, First};
use super::policy::{Goal, Policy};
use super::scheduler::Scheduler;
use super::state::State;
use std::time::Duration;

/// A batch of this many times `alpha / beta` rows: the next row would save less than a hundredth
/// of what each one takes, `alpha / (b (b + 1)) < beta / 100`.
const KNEE: f64 = 10.0;
/// A plan looks no further than so many rows: those behind are counted as a flow.
const PLANNED_ROWS: usize = 512;
/// Share of the target that the `latency` goal does without before it turns another adapter on.
const HURRY: f64 = 0.5;
/// Times its mean that a start may take.
const START_CAUTION: f64 = 1.3;
const THETA_LAZY: f64 = 2.0;
/// Where the price of a miss is so high a whole start is kept in reserve.
const THETA_RESERVE: f64 = 6.0;
/// Share of the target that is kept for what nobody foresees.
const MARGIN: f64 = 0.02;

impl Scheduler {
    /// Whether rows go to the adapters that take the least energy for them, as long as they make
    /// the target there; not to where they are served soonest.
    pub(super) fn packs(&self) -> bool {
        matches!(self.goal(), Some(Goal::Balanced | Goal::Energy)) && self.closing.is_none()
    }

    /// Whether short answer times come first.
    pub(super) fn hurries(&self) -> bool {
        self.goal() == Some(Goal::Latency)
    }

    /// Whether rows should wait for company as long as they may.
    fn waits_for_company(&self) -> bool {
        self.goal() == Some(Goal::Energy)
    }

    pub(super) fn goal(&self) -> Option<Goal> {
        match self.settings.policy {
            Policy::Cost { goal, .. } | Policy::ByHand { goal } => Some(goal),
            Policy::Concurrency { .. } => None,
        }
    }

    /// Brings the lane forward by one step, or not yet; `None` if nobody makes the target, so that
    /// waiting is no use.
    pub(super) fn serve_thriftily(
        &mut self,
        now: Time,
        first: First,
        slots: &[Slot],
    ) -> Option<bool> {
        let model = first.lane.model;
        let slo = self.aim(model);
        let slack = first.due().since(now).as_secs_f64();
        let window = (self.queue.newest(model) + slo).since(now).as_secs_f64();
        let mut rows = self.queue.rows_of(model);
        let mut passed = Vec::new();
        for slot in self.by_preference(now, model, slots) {
            if slot.free + slot.batch(1) * slot.caution > slack {
                passed.extend(Some(slot.adapter).filter(|_| slot.loaded));
                continue;
            }
            if slot.idle {
                self.note_help(now, &passed);
                return Some(self.serve_when_due(now, first, slots, (slot, rows)));
            }
            let trusted = slot.rows_by(window) as u64;
            passed.extend(Some(slot.adapter).filter(|_| slot.loaded));
            if trusted >= rows {
                self.hold(now, model, slots);
                return Some(false);
            }
            rows -= trusted;
        }
        None
    }

    /// Rows that will be late although every slot runs batch after batch, each as large as the due
    /// time of its first row allows: what there is to turn on another adapter for.
    pub(super) fn late_rows(&self, now: Time, model: ModelId, slots: &[Slot]) -> u64 {
        let Some(first) = self.queue.first(model, Duration::ZERO, now) else { return 0 };
        let slo = self.aim(model);
        let hurry = if self.hurries() { slo.as_secs_f64() * HURRY } else { 0.0 };
        let slacks = self.queue.dues(first.lane).flat_map(|(due, rows)| {
            std::iter::repeat_n(due.since(now).as_secs_f64() - hurry, rows as usize)
        });
        let slacks: Vec<f64> = slacks.take(PLANNED_ROWS).collect();
        let mut planned = 0;
        for slot in self.by_preference(now, model, slots) {
            planned += match self.trusted_rows(now, (model, &slot), 0.0, slo) {
                Some(rows) => rows as usize,
                None => rows_in_turn(&slot, slacks.get(planned..).unwrap_or_default()),
            };
        }
        slacks.len().saturating_sub(planned) as u64
    }

    /// The slots, those first that should take rows: under the `latency` goal the soonest, else
    /// those that take the least energy above idling for a row.
    fn by_preference(&self, now: Time, model: ModelId, slots: &[Slot]) -> Vec<Slot> {
        let mut sorted = slots.to_vec();
        if self.hurries() {
            sorted.sort_by(|a, b| a.finish(1).total_cmp(&b.finish(1)));
        } else {
            // Nobody displaces a model for rows that another can serve.
            let late = self.starts_late(model);
            sorted.sort_by_cached_key(|slot| {
                (slot.displaces, slot.loss.to_bits(), self.cost_rank(now, slot, late))
            });
        }
        sorted
    }

    fn serve_when_due(
        &mut self,
        now: Time,
        first: First,
        slots: &[Slot],
        (slot, rows): (Slot, u64),
    ) -> bool {
        let at = self.last_moment(now, first, &slot, rows);
        if at > now {
            self.look_again_at(Some(at));
            return false;
        }
        if !slot.loaded {
            return self.load_here(now, slot.adapter, first.lane.model);
        }
        let slack = first.due().since(now).as_secs_f64();
        let fits = slot.rows_within((slack - slot.free) / slot.caution).max(1);
        let share = fits.min(u32::try_from(rows).unwrap_or(u32::MAX));
        let level = slot.finish(u64::from(share));
        self.serve_lane(now, (first.lane, End::Front), slots, slot, (share, level))
    }

    /// Seconds of slack that are kept for the start of another adapter if more comes than those that
    /// are on can serve: the more, the more requests missed their target because of starts.
    fn reserve(&self, model: ModelId) -> f64 {
        let off =
            self.adapters.iter().filter(|(id, a)| a.state == State::Off && self.is_eligible(**id));
        let starts = off.map(|(id, a)| a.cold_start() + self.load_time(*id, model));
        let soonest = starts.fold(f64::INFINITY, f64::min);
        if soonest.is_finite() {
            soonest * (self.misses.theta / THETA_RESERVE).min(1.0)
        } else {
            0.0
        }
    }

    /// Until when turning an adapter on can wait if nothing is on: until all that waits, and one
    /// more row, would only just be served before the first is due. Only where rows wait for company.
    pub(super) fn last_start(
        &self,
        now: Time,
        (model, rows): (ModelId, u64),
        (id, ready): (AdapterId, f64),
    ) -> Time {
        let first =
            self.queue.first(model, Duration::ZERO, now).filter(|_| self.waits_for_company());
        let adapter = self.adapters.get(&id).filter(|_| self.closing.is_none());
        let (Some(first), Some(adapter)) = (first, adapter) else { return now };
        let slot = Slot { free: 0.0, ..self.slot(now, id, adapter, model, first.lane.shape.size) };
        let slo = self.aim(model);
        let needs = ready * START_CAUTION
            + slot.finish(rows + 1) * slot.caution
            + slo.as_secs_f64() * MARGIN;
        let slack = first.due().since(now).as_secs_f64() - needs;
        let slack = slack * (1.0 - self.misses.theta / THETA_LAZY).max(0.0);
        now + Duration::from_secs_f64(slack.clamp(0.0, 1e6))
    }

    /// When the batch should be formed: when it is large enough, or one more row would make it
    /// late.
    fn last_moment(&self, now: Time, first: First, slot: &Slot, rows: u64) -> Time {
        let slo = self.aim(first.lane.model);
        let knee = (KNEE * slot.alpha / slot.beta.max(1e-12)).clamp(1.0, 1e9) as u64;
        if !self.waits_for_company() || rows >= knee.min(u64::from(slot.max_rows)) {
            return now;
        }
        let more = u32::try_from(rows + 1).unwrap_or(u32::MAX).min(slot.max_rows);
        let needs = slot.free
            + slot.batch(more) * slot.caution
            + slo.as_secs_f64() * MARGIN
            + self.reserve(first.lane.model);
        let slack = first.due().since(now).as_secs_f64() - needs;
        now + Duration::from_secs_f64(slack.clamp(0.0, 1e6))
    }
}

/// Of rows that leave so many seconds each, the first due first: how many a slot serves in time,
/// running batch after batch, each as large as its first row allows.
fn rows_in_turn(slot: &Slot, slacks: &[f64]) -> usize {
    let (mut free, mut planned) = (slot.free, 0);
    while let Some(slack) = slacks.get(planned) {
        let left = u32::try_from(slacks.len() - planned).unwrap_or(u32::MAX);
        let rows = slot.rows_within((slack - free) / slot.caution).min(left);
        if rows == 0 {
            break;
        }
        free += slot.batch(rows);
        planned += rows as usize;
    }
    planned
}
