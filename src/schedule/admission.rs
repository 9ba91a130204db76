//! Whether to take a request in: by what may wait, by fair shares of it, and by whether an answer
//! can still come in time.

use super::action::Reject;
use super::event::Arrival;
use super::forecast::{Slot, rows_by};
use super::ids::{ModelId, Time};
use super::lists::Order;
use super::queue::Request;
use super::scheduler::Scheduler;
use super::state::State;
use std::time::Duration;

/// Share of the time until its deadline in which a request must be expected to be served: with a
/// queue that is just short enough, whatever takes longer than predicted makes all of it late.
const SURE: f64 = 0.8;

impl Scheduler {
    pub(super) fn admit(&mut self, now: Time, arrival: Arrival) {
        let Arrival { request: id, model, client, rows, priority, deadline, .. } = arrival;
        if self.closing.is_some() {
            return self.reject(id, Reject::ShuttingDown);
        }
        if !self.models.contains_key(&model) {
            return self.reject(id, Reject::ModelGone);
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            return self.reject(id, Reject::Deadline);
        }
        let due = now + self.aim_for(model, arrival.shape.size, rows.max(1));
        let due = deadline.map_or(due, |deadline| deadline.min(due));
        let priority = if priority == 0 { Arrival::PRIORITY_DEFAULT } else { priority };
        let order = Order { priority, due, number: self.numbers.request + 1 };
        if self.foresees_overload(now, order, &arrival) {
            let drain = self.drain(now);
            return self.reject(id, Reject::Overload { drain });
        }
        let room = self.queue.make_room(client, rows);
        let outside = room.clone().unwrap_or_else(|| vec![id]);
        if !outside.is_empty() {
            let drain = self.drain(now);
            self.reject_all(outside, Reject::QueueFull { drain });
        }
        if room.is_none() {
            return;
        }
        self.numbers.request += 1;
        self.arrivals.observe(now, rows.max(1));
        self.popularity.note(now, model);
        self.note_bridge_spell(now);
        self.note_arrival(now, model, client);
        self.queue.admit(id, Request::new(now, order, &arrival));
    }

    /// Whether so much goes before this request that its deadline will pass: it would only keep
    /// others waiting. Nobody knows that of what was never measured, and what is urgent finds its
    /// way past others.
    fn foresees_overload(&self, now: Time, order: Order, arrival: &Arrival) -> bool {
        let Some(deadline) = arrival.deadline else { return false };
        let left = deadline.since(now).as_secs_f64();
        let slots = self.all_slots(now, arrival.model, arrival.shape.size);
        let measured = slots.iter().all(|slot| slot.measured);
        // Who would be late even alone is not told that others are to blame.
        let alone: Vec<_> = slots.iter().map(Slot::unburdened).collect();
        let slow = rows_by(&alone, left) < f64::from(arrival.rows);
        if order.priority < Arrival::PRIORITY_DEFAULT || !measured || slow {
            return false;
        }
        let most = rows_by(&slots, left * SURE);
        self.rows_up_to(order, arrival, &slots, most) as f64 > most
    }

    /// Rows until this request is served: its own, those of its client that are due before it, and
    /// those of others that have their turn meanwhile; counted exactly until they are too many.
    fn rows_up_to(&self, order: Order, arrival: &Arrival, slots: &[Slot], many: f64) -> u64 {
        let Arrival { model, client, shape, rows, .. } = *arrival;
        let best = slots.iter().min_by(|a, b| a.finish(1).total_cmp(&b.finish(1)));
        let ahead = best.map_or(0, |best| self.rows_ahead(*best, model, shape.size));
        let all = ahead.saturating_add(rows.into());
        if all as f64 <= many {
            return all;
        }
        let own = self.queue.rows_before(model, client, order, many as u64) + u64::from(rows);
        own.saturating_mul(self.queue.clients_beside(model, client) + 1).min(all)
    }

    /// What the adapters offer that are on, and those that may be turned on.
    fn all_slots(&self, now: Time, model: ModelId, size: u8) -> Vec<Slot> {
        let mut slots = self.slots(now, model, size);
        for (id, adapter) in &self.adapters {
            let off = matches!(adapter.state, State::Off | State::Stopping { fault: None, .. });
            if off && self.is_eligible(*id) && self.takes(adapter, model) {
                let free = adapter.cold_start() + self.load_time(*id, model);
                slots.push(Slot { free, ..self.slot(now, *id, adapter, model, size) });
            }
        }
        slots
    }

    /// How long it will take to serve what waits with what is on.
    pub fn drain(&self, now: Time) -> Duration {
        let mut seconds = 0.0;
        for (model, rows) in self.queue.waiting() {
            let slots = self.slots(now, model, 0);
            let rate: f64 = slots.iter().map(|slot| slot.rate()).sum();
            let first = slots.iter().map(|slot| slot.finish(1)).fold(f64::INFINITY, f64::min);
            let wait = rows as f64 / rate;
            if wait.is_finite() && first.is_finite() {
                seconds += wait.max(first);
            }
        }
        // Bounded: a guess of hours helps nobody.
        Duration::from_secs_f64(seconds.min(3600.0))
    }
}
