//! The dynamic program: the least cost for each set of machines that are on and each backlog.

use super::Objective;
use super::grid::{Grid, SlotService};
use super::prices::Prices;
use crate::fleet::Machine;
use std::iter::{once, repeat_n};
use std::ops::Range;

/// The instance in the form that the program prices.
#[derive(Debug)]
pub(super) struct BoundProgram {
    pub(super) grid: Grid,
    switches: Vec<Switch>,
}

/// One machine's price of turning on, after the repayment for slots that are only partly on, and
/// of a slot on.
#[derive(Clone, Copy, Debug)]
struct Switch {
    start: f64,
    slot: f64,
}

/// The least cost for each mask (rows) and each backlog in units (columns, from 0).
#[derive(Clone, Debug, Default)]
struct Table {
    cells: Vec<f64>,
    width: usize,
}

/// A table and buffers that are reused, so that no slot allocates.
#[derive(Debug, Default)]
struct Desk {
    table: Table,
    spare: Table,
    row: Vec<f64>,
    other: Vec<f64>,
}

/// Position of the best plan after a slot.
#[derive(Clone, Copy, Debug)]
struct PlanState {
    mask: usize,
    backlog: usize,
}

impl BoundProgram {
    pub(super) fn new(
        machines: &[Machine],
        arrivals: &[f64],
        slo: f64,
        objective: Objective,
    ) -> BoundProgram {
        let grid = Grid::new(machines, arrivals, slo, objective);
        let price = |machine: &Machine| {
            let prices = Prices::new(machine, objective);
            let slot = prices.run(grid.slot) * grid.slot;
            Switch { start: prices.start_repaid(grid.slot), slot }
        };
        let switches = machines.iter().map(price).collect();
        BoundProgram { grid, switches }
    }

    /// Returns the least cost when each late request costs `late`.
    pub(super) fn cost(&self, late: f64) -> f64 {
        let mut desk = self.desk();
        for at in 0..self.grid.slots.len() {
            self.step(&mut desk, at, late);
        }
        desk.table.cells.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Returns the masks of the plan of least cost, one for each slot from time zero. To save
    /// memory, only every `stride`-th table is kept; the others are computed again on the way back.
    pub(super) fn plan(&self, late: f64) -> Vec<u16> {
        let slots = self.grid.slots.len();
        let stride = slots.isqrt().max(1);
        let mut desk = self.desk();
        let mut kept = Vec::new();
        for at in 0..slots {
            if at % stride == 0 {
                kept.push((at, desk.table.clone()));
            }
            self.step(&mut desk, at, late);
        }
        let mut place = PlanState { mask: desk.table.cheapest(), backlog: 0 };
        let mut masks = Vec::new();
        for (from, table) in kept.into_iter().rev() {
            desk.table = table;
            place = self.trace(&mut desk, from..slots.min(from + stride), late, place, &mut masks);
        }
        masks.reverse();
        masks
    }

    /// Follows the plan back from the state after the last slot of a range to the state before its
    /// first, and collects the masks.
    fn trace(
        &self,
        desk: &mut Desk,
        range: Range<usize>,
        late: f64,
        mut place: PlanState,
        masks: &mut Vec<u16>,
    ) -> PlanState {
        let mut tables = Vec::with_capacity(range.len());
        for at in range.clone() {
            tables.push(desk.table.clone());
            self.step(desk, at, late);
        }
        for (at, table) in range.zip(tables).rev() {
            let len = self.grid.slots.get(at).map_or(1, |slot| slot.len);
            masks.extend((0..len).map(|_| place.mask as u16));
            place = self.before(&table, at, late, place);
        }
        place
    }

    /// Returns the best state before a slot, given the state after it.
    fn before(&self, table: &Table, at: usize, late: f64, after: PlanState) -> PlanState {
        let Some(slot) = self.grid.slots.get(at) else { return after };
        let served = self.ways(at, late, after, table.width + slot.arrived);
        let mut best = (f64::INFINITY, after);
        for (mask, row) in table.cells.chunks_exact(table.width.max(1)).enumerate() {
            let switch = self.switch(mask, after.mask);
            // The backlog before must be at least the backlog after less the arrivals.
            let least = after.backlog.saturating_sub(slot.arrived);
            let gone = (least + slot.arrived).saturating_sub(after.backlog);
            let pairs = row.iter().enumerate().skip(least).zip(served.iter().skip(gone));
            for ((backlog, cost), serve) in pairs {
                if cost + switch + serve < best.0 {
                    best = (cost + switch + serve, PlanState { mask, backlog });
                }
            }
        }
        best.1
    }

    /// Returns the least cost of removing 0, 1, 2... units in a slot, at most `most`: by the
    /// cheapest machines that are on, or by lateness if the backlog is at its limit.
    fn ways(&self, at: usize, late: f64, after: PlanState, most: usize) -> Vec<f64> {
        let services = self.services(at).iter().enumerate();
        let on = services.filter(|(index, _)| after.mask >> index & 1 == 1);
        let mut ways: Vec<(f64, usize)> =
            on.map(|(_, service)| (service.price, service.units)).collect();
        if self.grid.slots.get(at).is_some_and(|slot| slot.allowed == after.backlog) {
            ways.push((late / self.grid.units as f64, usize::MAX));
        }
        ways.sort_by(|a, b| a.0.total_cmp(&b.0));
        let units = ways.into_iter().flat_map(|(price, units)| repeat_n(price, units.min(most)));
        let costs = units.scan(0.0, |sum, price| {
            *sum += price;
            Some(*sum)
        });
        once(0.0).chain(costs.take(most)).collect()
    }

    /// Returns the cost of turning on the machines that are in `to` but not in `from`.
    fn switch(&self, from: usize, to: usize) -> f64 {
        let turned = to & !from;
        let switches = self.switches.iter().enumerate();
        switches.filter(|(index, _)| turned >> index & 1 == 1).map(|(_, switch)| switch.start).sum()
    }

    fn services(&self, at: usize) -> &[SlotService] {
        let count = self.switches.len();
        self.grid.services.get(at * count..(at + 1) * count).unwrap_or_default()
    }

    /// Returns the initial state: all machines are off and nothing waits.
    fn desk(&self) -> Desk {
        let mut cells = vec![f64::INFINITY; 1 << self.switches.len()];
        if let Some(off) = cells.first_mut() {
            *off = 0.0;
        }
        Desk { table: Table { cells, width: 1 }, ..Desk::default() }
    }

    /// Computes one slot: machines turn on and off, rows arrive and are served, or are late, and
    /// being on is paid for.
    fn step(&self, desk: &mut Desk, at: usize, late: f64) {
        let Some(slot) = self.grid.slots.get(at) else { return };
        for (index, switch) in self.switches.iter().enumerate() {
            desk.table.switch(index, switch.start);
        }
        desk.table.admit(slot.arrived, &mut desk.spare);
        for (index, service) in self.services(at).iter().enumerate() {
            desk.serve(index, service);
        }
        desk.table.settle(slot.allowed, late / self.grid.units as f64, &mut desk.spare);
        for (index, switch) in self.switches.iter().enumerate() {
            desk.table.pay(index, switch.slot * f64::from(slot.len));
        }
    }
}

impl Desk {
    /// Lets one machine serve any part of its capacity in all sets in which it is on.
    fn serve(&mut self, index: usize, service: &SlotService) {
        let width = self.table.width;
        if service.units == 0 || width < 2 {
            return;
        }
        for on in self.table.on_halves(index) {
            for row in on.chunks_exact_mut(width) {
                least_within(row, service, &mut self.row, &mut self.other);
            }
        }
    }
}

/// Sets `row[i] = min(row[i + n] + n · price)` over n up to the units served: a sliding minimum, by
/// doubling its length, each pass of which the compiler turns into vector instructions.
fn least_within(row: &mut [f64], service: &SlotService, a: &mut Vec<f64>, b: &mut Vec<f64>) {
    let reach = service.units.min(row.len() - 1);
    let priced = row.iter().enumerate().map(|(at, cost)| cost + at as f64 * service.price);
    a.clear();
    a.extend(priced);
    let mut covered = 1;
    while covered <= reach {
        let shift = covered.min(reach + 1 - covered);
        b.clear();
        b.extend(a.iter().zip(a.get(shift..).unwrap_or_default()).map(|(x, y)| least(*x, *y)));
        b.extend_from_slice(a.get(a.len() - shift..).unwrap_or_default());
        std::mem::swap(a, b);
        covered += shift;
    }
    for ((at, cost), least) in row.iter_mut().enumerate().zip(a.iter()) {
        *cost = least - at as f64 * service.price;
    }
}

/// Returns the lesser of two numbers other than NaN in one instruction, unlike `f64::min`.
fn least(x: f64, y: f64) -> f64 {
    if y < x { y } else { x }
}

impl Table {
    /// Returns the rows in which a machine is on, in pieces.
    fn on_halves(&mut self, index: usize) -> impl Iterator<Item = &mut [f64]> {
        let half = self.width << index;
        self.cells.chunks_exact_mut(2 * half.max(1)).map(move |pair| pair.split_at_mut(half).1)
    }

    /// Applies switching: turning a machine off is free, turning it on costs `start`.
    fn switch(&mut self, index: usize, start: f64) {
        let half = self.width << index;
        for pair in self.cells.chunks_exact_mut(2 * half.max(1)) {
            let (off, on) = pair.split_at_mut(half);
            for (off, on) in off.iter_mut().zip(on) {
                *off = least(*off, *on);
                *on = least(*on, *off + start);
            }
        }
    }

    /// Adds the arrived units to every backlog.
    fn admit(&mut self, arrived: usize, spare: &mut Table) {
        if arrived == 0 {
            return;
        }
        spare.cells.clear();
        spare.width = self.width + arrived;
        for row in self.cells.chunks_exact(self.width.max(1)) {
            spare.cells.extend(repeat_n(f64::INFINITY, arrived));
            spare.cells.extend_from_slice(row);
        }
        std::mem::swap(self, spare);
    }

    /// Cuts backlogs to the allowed rest; the units above it are late.
    fn settle(&mut self, allowed: usize, late: f64, spare: &mut Table) {
        spare.cells.clear();
        spare.width = allowed + 1;
        for row in self.cells.chunks_exact(self.width.max(1)) {
            let (kept, beyond) = row.split_at(allowed.min(row.len()));
            spare.cells.extend_from_slice(kept);
            let priced = beyond.iter().enumerate().map(|(units, cost)| cost + units as f64 * late);
            spare.cells.push(priced.fold(f64::INFINITY, least));
        }
        std::mem::swap(self, spare);
    }

    /// Adds the cost of being on.
    fn pay(&mut self, index: usize, cost: f64) {
        for on in self.on_halves(index) {
            on.iter_mut().for_each(|cell| *cell += cost);
        }
    }

    /// Returns the cheapest mask with an empty backlog.
    fn cheapest(&self) -> usize {
        let nothing = self.cells.iter().step_by(self.width.max(1)).enumerate();
        nothing.min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(mask, _)| mask)
    }
}
