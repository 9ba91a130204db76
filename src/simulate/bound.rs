//! Lower bound on the joules or device-seconds that any schedule needs to serve a trace that is
//! known in advance, and the true optimum of tiny traces to compare it with.
//!
//! The bound is the optimum of a relaxation of the true problem. Take any true schedule: machines
//! begin and end off, each start takes its time, each batch runs on one machine that is on, begins
//! after its rows arrived, and takes `batch(rows)`; at most one request in a hundred is late. The
//! relaxation keeps the following of it, and each step can only lower the cost.
//!
//! * **Slots.** Time is cut into slots. A machine counts as on in each slot that it is on in part.
//!   An interval of `L` seconds on touches slots of less than `L` + 2 slots in all, so each start
//!   is repaid two slots of being on (`Prices::start_repaid`). If that were more than the start, a
//!   second on counts for less (`Prices::run`) and a second of computing for that much more. Starts
//!   take no time, because a schedule that knows the trace can begin them early.
//! * **Rows as a fluid.** A batch of `b` rows in time runs at `b / batch(b)` rows per second. Late
//!   rows that fill it up only slow it down. The rows flow through it evenly, from its beginning to
//!   its end, so each row in time is served between its arrival and its deadline: between the slots
//!   in which these lie, both whole.
//! * **Whole batches where rows are few.** The last row of a batch arrived at most `slo - batch(b)`
//!   after its first, and the batch ends before the first is due. So in a slot a machine's rate is
//!   at most the greatest `b / batch(b)` over the batches that the requests around it could form
//!   (`grid::together`, `grid::most_rows`), and each row takes no less than its reciprocal in
//!   seconds of computing. This hardly affects steady traffic; isolated requests pay for a batch
//!   each.
//! * **Whole units.** Rows are cut into equal units, and the work that a machine can do in a slot
//!   is rounded up to units. The assignment of units to machines and slots, and the choice of late
//!   units, is a flow of least cost. Its supplies and capacities are whole, so a whole flow is
//!   among the best (Ford and Fulkerson 1962), and it costs at most as much as the fluid of the
//!   true schedule.
//! * **First come, first served.** Deadlines come in the order of arrivals, so only the amount that
//!   is served matters, not the choice of requests: with the amounts of any flow, serving the
//!   oldest first leaves the least work undone at any deadline. The state is therefore the set of
//!   machines that are on and the backlog, which after a slot is at most the rows that are not yet
//!   due; the rest is late.
//! * **Lateness has a price** instead of a limit (Lagrange): for each price `p`, the least cost
//!   less `p` times the requests that may be late is a bound; the greatest found is taken. Late
//!   requests are served at no cost.
//!
//! The program over sets and backlogs (`program`) is exact. Turning machines on and off is a
//! minimum along one edge of the cube of sets after the other. In a stretch without requests the
//! only decision is whether to stay on, so it takes one step, however long it is.
//!
//! Three omissions make the bound lower than the reachable cost: each row may be counted to the
//! best batch around it on each machine at once; a fluid needs no gathering before it flows; and a
//! slot at either end of an interval counts whole. The bound holds for the given batch times: if
//! some batches take less time than `Machine::batch`, a schedule can be below it.

mod exhaustive;
mod grid;
mod prices;
mod program;
#[cfg(test)]
mod tests;

pub use exhaustive::exhaustive;

use super::fleet::Machine;
use prices::Prices;
use program::BoundProgram;

/// Maximum number of machines; the program keeps a table for every subset, so more take too long.
const MACHINES: usize = 10;
/// Share of all requests that may be late.
const LATE: f64 = 0.01;
/// Number of prices of a late request that are tried.
const TRIALS: usize = 8;

/// Quantity that a schedule minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Joules above those of machines that are off.
    Energy,
    /// Seconds that machines are not off, starting included.
    DeviceSeconds,
}

/// A lower bound and the plan that reaches it in the relaxation.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Joules or device-seconds.
    pub cost: f64,
    pub plan: Plan,
}

/// The machines that are on in each slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Seconds of a slot; the first begins at time zero.
    pub slot: f64,
    /// One mask per slot with a bit for each machine, the first machine's lowest. All are off
    /// afterwards.
    pub masks: Vec<u16>,
}

/// Returns the bound for requests of one row each that arrive at these seconds from zero on (in any
/// order), of which 99 % have to be served within `slo` seconds. It is 0 with an empty plan for
/// more than ten machines. It is infinite if even the relaxation cannot serve fewer than a hundred
/// requests, of which none may be late; with more requests than that, it is then some finite
/// number.
pub fn lower_bound(
    machines: &[Machine],
    arrivals: &[f64],
    slo: f64,
    objective: Objective,
) -> Bound {
    let arrivals = tidy(arrivals);
    if arrivals.is_empty() || machines.len() > MACHINES || !(slo > 0.0 && slo.is_finite()) {
        return Bound { cost: 0.0, plan: Plan::default() };
    }
    let program = BoundProgram::new(machines, &arrivals, slo, objective);
    let allowed = (LATE * arrivals.len() as f64 + 1e-9).floor();
    let (late, cost) = match allowed < 1.0 {
        true => strict(&program, all_through(machines, slo, objective) * arrivals.len() as f64),
        false => best(&program, allowed, for_one(machines, slo, objective)),
    };
    let plan = Plan { slot: program.grid.slot, masks: program.plan(late) };
    Bound { cost: cost.max(0.0), plan }
}

/// Returns the finite arrivals in ascending order, none before zero.
fn tidy(arrivals: &[f64]) -> Vec<f64> {
    let finite = arrivals.iter().filter(|arrival| arrival.is_finite());
    let mut arrivals: Vec<f64> = finite.map(|arrival| arrival.max(0.0)).collect();
    arrivals.sort_by(f64::total_cmp);
    arrivals
}

/// Upper limit of the cost of one machine for one request: the cheapest that is fast enough.
fn for_one(machines: &[Machine], slo: f64, objective: Objective) -> f64 {
    let able = machines.iter().filter(|machine| machine.batch(1) <= slo);
    let least = able.map(|machine| once(machine, slo, objective)).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least.max(1e-9) } else { 1.0 }
}

/// Upper limit of the cost of starting all machines for one request.
fn all_through(machines: &[Machine], slo: f64, objective: Objective) -> f64 {
    machines.iter().map(|machine| once(machine, slo, objective)).sum::<f64>().max(1e-9)
}

/// Upper limit of the cost of a machine for as long as one request may take, its start included.
fn once(machine: &Machine, slo: f64, objective: Objective) -> f64 {
    let prices = Prices::new(machine, objective);
    prices.start + slo * prices.active.max(prices.idle)
}

/// Returns the bound if no request may be late: the price of lateness is so high that not the
/// smallest part of a request is late if that can be avoided, and the bound is infinite if it
/// cannot. `most` is the cost of keeping all machines on for every request, so that no other plan
/// costs a thousand times more.
fn strict(program: &BoundProgram, most: f64) -> (f64, f64) {
    let late = 1e6 * most;
    let cost = program.cost(late);
    (late, if cost > 1e3 * most { f64::INFINITY } else { cost })
}

/// Returns the price of a late request that yields the greatest bound, and that bound: by golden
/// section over the price's logarithm, because the bound is concave in the price. The result is a
/// valid bound at whatever price the search ends. The search range ends above the cost of serving a
/// request alone.
fn best(program: &BoundProgram, allowed: f64, for_one: f64) -> (f64, f64) {
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let bound = |log: f64| (log.exp(), program.cost(log.exp()) - log.exp() * allowed);
    let (mut low, mut high) = ((for_one / 100.0).ln(), (for_one * 4.0).ln());
    let mut left = bound(high - golden * (high - low));
    let mut right = bound(low + golden * (high - low));
    for _ in 2..TRIALS {
        if left.1 < right.1 {
            (low, left) = (left.0.ln(), right);
            right = bound(low + golden * (high - low));
        } else {
            (high, right) = (right.0.ln(), left);
            left = bound(high - golden * (high - low));
        }
    }
    if left.1 < right.1 { right } else { left }
}
