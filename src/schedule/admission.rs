//! Admission of requests: by the limits of the queue, by fair shares of it, and by whether an
//! answer can still be in time.

use super::action::Reject;
use super::event::Arrival;
use super::forecast::{Slot, rows_by};
use super::ids::Time;
use super::lists::Order;
use super::outbox::Outbox;
use super::queue::Request;
use super::world::World;
use super::{bridge, early_start, requests, slots, target};
use std::time::Duration;

/// Share of the time until its deadline within which a request must be expected to be served: with
/// a queue that is just short enough, any batch that takes longer than predicted makes all of it
/// late.
const SURE: f64 = 0.8;

pub(super) fn admit(world: &mut World, out: &mut Outbox, now: Time, arrival: Arrival) {
    let Arrival { request: id, model, client, rows, priority, deadline, .. } = arrival;
    if world.closing.is_some() {
        return out.reject(id, Reject::ShuttingDown);
    }
    if !world.models.contains_key(&model) {
        return out.reject(id, Reject::ModelGone);
    }
    if deadline.is_some_and(|deadline| deadline <= now) {
        return out.reject(id, Reject::Deadline);
    }
    let due = now + target::effective_for(world, model, arrival.shape.size, rows.max(1));
    let due = deadline.map_or(due, |deadline| deadline.min(due));
    let priority = if priority == 0 { Arrival::PRIORITY_DEFAULT } else { priority };
    // Only an admitted request uses the number up.
    let order = Order { priority, due, number: world.numbers.request + 1 };
    if !arrival.continues && !make_place(world, out, now, order, &arrival) {
        return;
    }
    world.numbers.request += 1;
    world.arrivals.observe(now, rows.max(1));
    if !arrival.continues {
        world.popularity.note(now, model);
        bridge::record_bridge_arrival(world, now);
        early_start::record_arrival(world, now, model, client);
    }
    world.queue.admit(id, Request::new(now, order, &arrival));
}

/// Rejects the request if it would be late or its client holds its share of the queue; rejects
/// requests of other clients if they hold more than theirs. Returns true if the request has a
/// place.
fn make_place(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    order: Order,
    arrival: &Arrival,
) -> bool {
    if predicts_late(world, now, order, arrival) {
        let drain = drain(world, now);
        out.reject(arrival.request, Reject::Overload { drain });
        return false;
    }
    let room = world.queue.requests_to_evict(arrival.client, arrival.rows);
    let outside = room.clone().unwrap_or_else(|| vec![arrival.request]);
    if !outside.is_empty() {
        let drain = drain(world, now);
        requests::reject_all(world, out, outside, Reject::QueueFull { drain });
    }
    room.is_some()
}

/// Returns true if the rows before this request are too many for its deadline: it would only delay
/// others. Models without measurements are admitted, and so are urgent requests, which run before
/// the others.
fn predicts_late(world: &World, now: Time, order: Order, arrival: &Arrival) -> bool {
    let Some(deadline) = arrival.deadline else { return false };
    let left = deadline.since(now).as_secs_f64();
    let slots = slots::all_slots(world, now, arrival.model, arrival.shape.size);
    let measured = slots.iter().all(|slot| slot.measured);
    // A request that would be late without any load is not rejected for overload.
    let alone: Vec<_> = slots.iter().map(Slot::without_queue).collect();
    let slow = rows_by(&alone, left) < f64::from(arrival.rows);
    if order.priority < Arrival::PRIORITY_DEFAULT || !measured || slow {
        return false;
    }
    let most = rows_by(&slots, left * SURE);
    rows_up_to(world, order, arrival, &slots, most) as f64 > most
}

/// Returns the rows until this request is served: its own, those of its client that are due before
/// it, and those of other clients that are served in between; counted exactly only up to `many`.
fn rows_up_to(world: &World, order: Order, arrival: &Arrival, slots: &[Slot], many: f64) -> u64 {
    let Arrival { model, client, shape, rows, .. } = *arrival;
    let best = slots.iter().min_by(|a, b| a.finish(1).total_cmp(&b.finish(1)));
    let ahead = best.map_or(0, |best| slots::rows_ahead(world, *best, model, shape.size));
    let all = ahead.saturating_add(rows.into());
    // The exact count walks the queue: it is needed only if all rows are too many.
    if all as f64 <= many {
        return all;
    }
    let own = world.queue.rows_before(model, client, order, many as u64) + u64::from(rows);
    own.saturating_mul(world.queue.clients_beside(model, client) + 1).min(all)
}

/// Returns the predicted time to serve the queue with the adapters that are on.
pub(super) fn drain(world: &World, now: Time) -> Duration {
    let mut seconds = 0.0;
    for (model, rows) in world.queue.waiting() {
        let slots = slots::slots(world, now, model, 0);
        let rate: f64 = slots.iter().map(|slot| slot.rate()).sum();
        let first = slots.iter().map(|slot| slot.finish(1)).fold(f64::INFINITY, f64::min);
        let wait = rows as f64 / rate;
        if wait.is_finite() && first.is_finite() {
            seconds += wait.max(first);
        }
    }
    // Bounded, since a longer estimate has no use.
    Duration::from_secs_f64(seconds.min(3600.0))
}
