//! Forms batches for free adapters, as late as possible, and only where that is soonest.

use super::action::{Action, Reject};
use super::batch::Batch;
use super::forecast::{Slot, level, rows_by};
use super::ids::{BatchId, ModelId, RequestId, Time};
use super::lane::Lane;
use super::lists::{End, First};
use super::scheduler::Scheduler;
use super::state::Adapter;
use std::cmp::Ordering;
use std::time::Duration;

/// A request that fits into one batch is cut only if it would take this many times longer whole.
const CUT_GAIN: f64 = 1.2;
/// Times the soonest that is nearly as soon.
const NEARLY: f64 = 1.5;
/// Who is held back looks again no sooner than this.
const LOOK_AGAIN_MIN: f64 = 0.001;

impl Scheduler {
    /// Gives idle adapters what they will finish sooner than any other would.
    pub(super) fn dispatch(&mut self, now: Time) {
        self.look_again = None;
        let mut held = Vec::new();
        while self.queue.len() > 0 && self.adapters.values().any(Adapter::takes_batches) {
            let Some(first) = self.next_lane(now, &held) else { return };
            if !self.serve(now, first) {
                held.push(first.lane.model);
            }
        }
    }

    /// The lane to serve next: the most urgent, then of the model that was served least.
    fn next_lane(&mut self, now: Time, held: &[ModelId]) -> Option<First> {
        let mut next: Option<(u32, f64, First)> = None;
        let mut unripe = None;
        for (model, _) in self.queue.waiting().filter(|(model, _)| !held.contains(model)) {
            let Some(first) = self.queue.first(model, self.delay(model), now) else { continue };
            if first.ripe > now {
                unripe = unripe.into_iter().chain([first.ripe]).min();
                continue;
            }
            let key = (first.place.priority, self.queue.served(model), first);
            let sooner = |other: &(u32, f64, First)| {
                let by_share = key.1.total_cmp(&other.1);
                let by_order = key.2.place.order.cmp(&other.2.place.order);
                key.0.cmp(&other.0).then(by_share).then(by_order).is_lt()
            };
            if next.as_ref().is_none_or(sooner) {
                next = Some(key);
            }
        }
        self.look_again_at(unripe);
        next.map(|(_, _, first)| first)
    }

    pub(super) fn look_again_at(&mut self, at: Option<Time>) {
        self.look_again = self.look_again.into_iter().chain(at).min();
    }

    /// How long the first request of a batch may wait for company.
    fn delay(&self, model: ModelId) -> Duration {
        // On the way down nobody waits for company any more.
        let open = self.models.get(&model).filter(|_| self.closing.is_none());
        open.map_or(Duration::ZERO, |model| model.delay)
    }

    /// Brings the lane forward by one step; false if it is best left to an adapter that is not
    /// free yet.
    fn serve(&mut self, now: Time, first: First) -> bool {
        let Lane { model, shape, .. } = first.lane;
        let mut slots = self.slots(now, model, shape.size);
        // Nobody who is ready is held back for one that would have to make room first.
        if slots.iter().any(|slot| slot.idle && slot.loaded) {
            slots.retain(|slot| slot.idle || !slot.displaces);
        }
        if self.packs()
            && let Some(served) = self.serve_thriftily(now, first, &slots)
        {
            return served;
        }
        let Some(best) = best_idle(&slots) else {
            self.look_again_at(self.room_at(now, model));
            return false;
        };
        let rows = self.rows_ahead(best, model, shape.size);
        let (share, level) = share(&slots, &best, rows);
        // Nor is a model loaded twice for rows that the first load serves nearly as soon.
        let comes = |slot: &Slot| {
            !slot.idle && !slot.loaded && slot.finish(rows) <= best.finish(1) * NEARLY
        };
        if share == 0 || (!best.loaded && slots.iter().any(comes)) {
            self.hold(now, model, &slots);
            return false;
        }
        if !best.loaded {
            return self.load_here(now, best.adapter, model);
        }
        let (lane, end) = self.lane_for(now, first, &slots, &best, (share, rows));
        self.serve_lane(now, (lane, end), &slots, best, (share, level))
    }

    /// What waits, in rows of this model: others count by the time that they take here.
    pub(super) fn rows_ahead(&self, slot: Slot, model: ModelId, size: u8) -> u64 {
        let own = self.queue.rows_of(model);
        let others = self.queue.waiting().filter(|(other, _)| *other != model);
        let others = others.map(|(other, rows)| {
            let service = self.service(slot.adapter, other, size);
            let max_rows = self.models.get(&other).map_or(1, |model| model.max_rows.max(1));
            rows as f64 * service.batch(max_rows) / f64::from(max_rows) * slot.rate()
        });
        own.saturating_add(others.sum::<f64>().round() as u64)
    }

    /// Looks again when the first of those that are awaited should be free, or have room.
    pub(super) fn hold(&mut self, now: Time, model: ModelId, slots: &[Slot]) {
        self.look_again_at(self.room_at(now, model));
        let awaited = slots.iter().filter(|slot| !slot.idle).map(|slot| slot.free);
        let soonest = awaited.fold(f64::INFINITY, f64::min).max(LOOK_AGAIN_MIN);
        if soonest.is_finite() {
            self.look_again_at(Some(now + Duration::from_secs_f64(soonest)));
        }
    }

    /// Which requests this adapter takes: the first ones, or, if a busy one will be done with the
    /// first ones sooner, the last ones, which would wait longest for it.
    fn lane_for(
        &self,
        now: Time,
        first: First,
        slots: &[Slot],
        best: &Slot,
        (share, rows): (u32, u64),
    ) -> (Lane, End) {
        let done = best.finish(u64::from(share));
        let sooner = slots.iter().any(|slot| !slot.idle && slot.finish(1) < done);
        let last = self.queue.last(first.lane.model, self.delay(first.lane.model), now);
        match last.filter(|_| sooner && rows > u64::from(share)) {
            Some(last) => (last.lane, End::Back),
            None => (first.lane, End::Front),
        }
    }

    pub(super) fn serve_lane(
        &mut self,
        now: Time,
        (lane, end): (Lane, End),
        slots: &[Slot],
        best: Slot,
        (share, level): (u32, f64),
    ) -> bool {
        let Some(id) = self.queue.at(lane, end) else { return false };
        let Some(request) = self.queue.get(id) else { return false };
        let left = request.waiting_rows();
        let mut share = share;
        if left > share && left <= best.max_rows && best.finish(left.into()) <= level * CUT_GAIN {
            share = left;
        }
        if let Some(deadline) = request.deadline {
            let time = deadline.since(now).as_secs_f64();
            let chunk = left.min(best.max_rows);
            if best.batch(chunk.min(share)) > time {
                return self.give_up_or_hold(now, id, slots, (u64::from(left), time));
            }
            share = share.min(best.rows_within(time / best.caution).max(chunk.min(share)));
        }
        self.run(now, best, (lane, end), share)
    }

    /// This adapter cannot make the deadline of a request: if none can it is turned away before
    /// it wastes one, else it is left to who can.
    fn give_up_or_hold(
        &mut self,
        now: Time,
        id: RequestId,
        slots: &[Slot],
        (rows, time): (u64, f64),
    ) -> bool {
        if slots.iter().any(|slot| slot.finish(rows) <= time || !slot.measured) {
            if slots.iter().any(|slot| !slot.idle) {
                if let Some(model) = self.queue.get(id).map(|request| request.lane.model) {
                    self.hold(now, model, slots);
                }
                return false;
            }
            // Nobody has measured it yet: trying is the only way to know.
            return self.try_alone(now, id, slots);
        }
        self.queue.forget(id);
        self.reject(id, Reject::Deadline);
        true
    }

    fn try_alone(&mut self, now: Time, id: RequestId, slots: &[Slot]) -> bool {
        let Some(request) = self.queue.get(id) else { return false };
        let (lane, rows) = (request.lane, request.waiting_rows());
        let loaded = slots.iter().filter(|slot| slot.idle && slot.loaded);
        let soonest = loaded.min_by(|a, b| a.finish(1).total_cmp(&b.finish(1))).copied();
        let end = if self.queue.at(lane, End::Front) == Some(id) { End::Front } else { End::Back };
        soonest.is_some_and(|slot| self.run(now, slot, (lane, end), rows))
    }

    fn run(&mut self, now: Time, slot: Slot, (lane, end): (Lane, End), rows: u32) -> bool {
        let parts = self.queue.take(lane, rows, slot.max_rows, end);
        let (model, size) = (lane.model, lane.shape.size);
        let batch = Batch { id: self.next_batch(), model, size, parts, repeats: None };
        self.regret(now, &slot, (model, size), batch.rows());
        let Some(adapter) = self.adapters.get_mut(&slot.adapter).filter(|_| batch.rows() > 0)
        else {
            return false;
        };
        self.queue.serve(model, slot.batch(batch.rows()));
        if let Some(replica) = adapter.replicas.get_mut(&model) {
            replica.used = now;
        }
        let (id, incarnation) = (slot.adapter, adapter.incarnation);
        adapter.end_spell(now);
        adapter.run(now, batch.clone());
        self.actions.push_back(Action::Run { adapter: id, incarnation, batch });
        true
    }

    pub(super) fn next_batch(&mut self) -> BatchId {
        self.numbers.batch += 1;
        BatchId(self.numbers.batch)
    }
}

/// The idle slot that serves a row soonest; of those that are nearly as soon, the one where what has
/// to make room is missed least.
fn best_idle(slots: &[Slot]) -> Option<Slot> {
    let idle = || slots.iter().filter(|slot| slot.idle);
    let soonest = idle().map(|slot| slot.finish(1)).fold(f64::INFINITY, f64::min);
    let near = idle().filter(|slot| slot.finish(1) <= soonest * NEARLY);
    let by = |slot: &&Slot| (slot.loss, slot.finish(1));
    near.min_by(|a, b| by(a).partial_cmp(&by(b)).unwrap_or(Ordering::Equal)).copied()
}

/// How many rows the best idle slot should take now so that all rows are served soonest, and
/// when they are: nothing if others are done with all of them before it could be with one.
fn share(slots: &[Slot], best: &Slot, rows: u64) -> (u32, f64) {
    let full = u32::try_from(rows).unwrap_or(u32::MAX).min(best.max_rows);
    let done = best.finish(u64::from(full));
    let others = rows_by(slots, done) - best.rows_by(done);
    if others + f64::from(full) <= rows as f64 {
        return (full, done);
    }
    let level = level(slots, rows);
    // What one batch can have done by then: a larger one would be padded to a larger bucket.
    (full.min(best.rows_within(level - best.free)), level)
}
