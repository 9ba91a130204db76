//! The slots of time over which the bound is computed, and the capacity of each machine in each
//! slot.

use super::Objective;
use super::prices::{Prices, buckets};
use crate::fleet::Machine;

/// Aimed-at maximum of the slots in which some arrival can be served.
const SLOTS: f64 = 50_000.0;
/// Factor by which `SLOTS` may be exceeded to keep slots short relative to the shortest start.
const SLOTS_STRETCH: f64 = 8.0;
/// Maximum number of slots of the whole plan.
const SLOTS_IN_ALL: f64 = 4e6;
/// Maximum number of values in the tables of all slots; above it, rows are cut less finely.
const CELLS: f64 = 2.5e8;
/// Lower limit of the shortest start in seconds, so that very short starts do not shorten slots.
const SHORTEST: f64 = 0.1;
/// Tolerance in seconds: rounding must not make the grid stricter than time itself.
const EPSILON: f64 = 1e-7;

/// A slot in which something can be served, or a stretch of slots in which nothing can.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GridSlot {
    /// Number of consecutive slots; one unless nothing can be served.
    pub(super) len: u32,
    /// Units of rows that arrive in it.
    pub(super) arrived: usize,
    /// Units of rows that may be left after it: those not due by its end.
    pub(super) allowed: usize,
    /// The requests that can be served in it: from the first not yet due to the last arrived.
    live: (usize, usize),
}

/// Capacity of a machine that is on, in one slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotService {
    /// Units of rows, rounded up.
    pub(super) units: usize,
    /// Price of a unit in addition to that of being on.
    pub(super) price: f64,
    /// Rows per second at the best batch that the surrounding rows can form.
    rate: f64,
}

/// The instance cut into slots of time and units of rows.
#[derive(Debug)]
pub(super) struct Grid {
    /// Seconds of a slot.
    pub(super) slot: f64,
    /// Units of a row.
    pub(super) units: usize,
    pub(super) slots: Vec<GridSlot>,
    /// The service of each machine in each slot: slots outside, machines inside.
    pub(super) services: Vec<SlotService>,
}

impl Grid {
    /// Cuts ascending `arrivals` in seconds from zero.
    pub(super) fn new(
        machines: &[Machine],
        arrivals: &[f64],
        slo: f64,
        objective: Objective,
    ) -> Grid {
        let slot = slot_seconds(machines, arrivals, slo);
        let mut slots = cut(arrivals, slo, slot);
        let units = units_per_row(machines, slot, &slots);
        for slot in &mut slots {
            slot.arrived *= units;
            slot.allowed *= units;
        }
        let mut grid = Grid {
            slot,
            units,
            services: vec![SlotService::default(); slots.len() * machines.len()],
            slots,
        };
        for (index, machine) in machines.iter().enumerate() {
            grid.offer(index, machines.len(), machine, arrivals, slo);
            grid.price(index, machines.len(), Prices::new(machine, objective).extra(slot));
        }
        grid
    }

    /// Finds one machine's best rate in each slot.
    fn offer(&mut self, index: usize, count: usize, machine: &Machine, arrivals: &[f64], slo: f64) {
        for rows in buckets(machine) {
            let seconds = machine.batch(rows);
            if seconds > slo + EPSILON {
                break;
            }
            let together = together(arrivals, slo - seconds);
            let services = self.services.iter_mut().skip(index).step_by(count.max(1));
            for (service, slot) in services.zip(&self.slots) {
                let most = most_rows(&together, slot.live, rows);
                service.rate = service.rate.max(f64::from(most) / seconds.max(EPSILON));
            }
        }
    }

    /// Converts one machine's rates to units per slot and their price, where a second of computing
    /// costs `extra` in addition to being on.
    fn price(&mut self, index: usize, count: usize, extra: f64) {
        let per_slot = self.slot * self.units as f64;
        for service in self.services.iter_mut().skip(index).step_by(count.max(1)) {
            if service.rate > 0.0 {
                service.units = (service.rate * per_slot).ceil() as usize;
                service.price = extra / (service.rate * self.units as f64);
            }
        }
    }
}

/// Returns the seconds of a slot: a power of two times a part of the shortest start, so that a
/// little more slack rarely changes it; as short as the number of slots allows.
fn slot_seconds(machines: &[Machine], arrivals: &[f64], slo: f64) -> f64 {
    let shortest = machines.iter().map(|machine| machine.start).fold(1e3, f64::min).max(SHORTEST);
    let gaps = arrivals.iter().zip(arrivals.iter().skip(1)).map(|(a, b)| (b - a).min(slo));
    let busy = gaps.sum::<f64>() + slo;
    let span = arrivals.last().map_or(slo, |last| last + slo);
    let too_many = |slot: f64| match busy / slot {
        busy if busy > SLOTS * SLOTS_STRETCH || span / slot > SLOTS_IN_ALL => true,
        busy => busy > SLOTS && slot < shortest / 4.0,
    };
    let mut slot = shortest / 32.0;
    while too_many(slot) {
        slot *= 2.0;
    }
    slot
}

/// Returns the units of a row, a power of two: enough that the slowest machine serves several units
/// in a slot, because the service of a slot is rounded up.
fn units_per_row(machines: &[Machine], slot: f64, slots: &[GridSlot]) -> usize {
    let slowest = machines.iter().map(|machine| machine.batch(1)).fold(slot, f64::max);
    let rows: usize = slots.iter().map(|slot| slot.allowed + 1).sum();
    let masks = f64::from(1_u32 << machines.len().min(16));
    let mut units = 4;
    while units < 256
        && (units as f64) < 8.0 * slowest / slot
        && 2.0 * units as f64 * rows as f64 * masks <= CELLS
    {
        units *= 2;
    }
    units
}

/// Cuts time into slots. A request may be served from the slot of its arrival to the slot of its
/// deadline, both whole. Rows are counted in rows here.
fn cut(arrivals: &[f64], slo: f64, slot: f64) -> Vec<GridSlot> {
    let first = |arrival: &f64| ((arrival - EPSILON) / slot).floor().max(0.0) as u64;
    let due = |arrival: &f64| ((arrival + slo + EPSILON) / slot).floor() as u64;
    let (mut slots, mut number, mut arrived, mut gone) = (Vec::new(), 0, 0, 0);
    while let Some(oldest) = arrivals.get(gone) {
        if gone == arrived && first(oldest) > number {
            let len = first(oldest) - number;
            slots.push(GridSlot { len: len as u32, live: (gone, gone), ..GridSlot::default() });
            number += len;
        }
        let came = run(arrivals, arrived, |arrival| first(arrival) <= number);
        let left = run(arrivals, gone, |arrival| due(arrival) <= number);
        let live = (gone, arrived + came);
        (arrived, gone) = (arrived + came, gone + left);
        slots.push(GridSlot { len: 1, arrived: came, allowed: arrived - gone, live });
        number += 1;
    }
    slots
}

/// Number of consecutive arrivals from `from` on that satisfy `so`.
fn run(arrivals: &[f64], from: usize, so: impl Fn(&f64) -> bool) -> usize {
    arrivals.iter().skip(from).take_while(|arrival| so(arrival)).count()
}

/// Returns for each request the number that arrived within `seconds` up to and including it: the
/// most rows of a batch of which it is the last.
fn together(arrivals: &[f64], seconds: f64) -> Vec<u32> {
    let mut oldest = arrivals.iter().enumerate().peekable();
    let count = |(last, arrival): (usize, &f64)| {
        while oldest.next_if(|(_, old)| **old < arrival - seconds - EPSILON).is_some() {}
        oldest.peek().map_or(0, |(first, _)| (last + 1 - first) as u32)
    };
    arrivals.iter().enumerate().map(count).collect()
}

/// Returns the most rows, up to `rows`, of a batch under way in a slot: its last row is one that
/// can be served in the slot, and so are the others, back to the oldest that arrived shortly enough
/// before.
fn most_rows(together: &[u32], (from, to): (usize, usize), rows: u32) -> u32 {
    let mut most = 0;
    for (place, together) in together.iter().enumerate().take(to).skip(from).rev() {
        // Earlier requests have fewer others with them that are not yet due.
        if most >= rows || most as usize > place - from {
            break;
        }
        most = most.max((*together).min((place - from + 1) as u32));
    }
    most.min(rows)
}
