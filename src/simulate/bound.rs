//! What no schedule can beat: a lower bound on the joules or device-seconds of serving a trace that
//! is known beforehand, and the true optimum of tiny ones to hold it against.
//!
//! The bound is the optimum of a problem that is kinder than the true one. Take any true schedule:
//! machines begin and end off, each start takes its time, each batch runs on one machine that is on,
//! begins after its rows came, and takes `batch(rows)`; at most one request in a hundred is late.
//! Of it, the following remain, and each step can only lower the cost.
//!
//! * **Slots.** Time is cut into slots. A machine counts as on in each slot that it is on in part. An
//!   interval of `L` seconds on touches slots of less than `L` + 2 slots in all, so each start is
//!   repaid two slots of being on (`Prices::start_repaid`); were that more than the start, a second
//!   on counts for less (`Prices::run`) and a second of computing for as much more. Starts take no
//!   time, for whoever knows the trace can begin them early.
//! * **Rows as a fluid.** A batch of `b` rows in time runs at `b / batch(b)` rows per second. Late rows
//!   that fill it up only slow it down. The rows flow through it evenly, from its beginning to its
//!   end, so each row in time is served between its arrival and its deadline: between the slots in
//!   which these lie, both whole.
//! * **Whole batches where rows are few.** The last row of a batch came at most `slo - batch(b)` after
//!   its first, and the batch ends before the first is due. So in a slot a machine's rate is at most
//!   the greatest `b / batch(b)` over the batches that the requests around it could form
//!   (`grid::together`, `grid::most_rows`), and each row takes no less than its reciprocal in seconds
//!   of computing. Steady traffic is hardly touched by this; lonely requests pay a batch each.
//! * **Whole units.** Rows are cut into equal units, and what a machine can do in a slot is rounded up
//!   to units. Which units are served by whom in which slot, and which are late, is a flow of least
//!   cost. Its supplies and capacities are whole, so a whole flow is among the best (Ford and
//!   Fulkerson 1962), and it costs no more than the fluid of the true schedule.
//! * **First come, first served.** Deadlines come in the order of arrivals, so who is served does not
//!   matter, only how much: with the amounts of any flow, serving the oldest first leaves no more
//!   undone at any deadline. The state is therefore the set of machines that are on and the backlog,
//!   which after a slot is at most what is not yet due; the rest is late.
//! * **Lateness has a price** instead of a limit (Lagrange): for each price `p`, the least cost less
//!   `p` times the requests that may be late is a bound; the greatest found is taken. Late requests
//!   are served for nothing.
//!
//! The program over sets and backlogs (`program`) is exact. Turning machines on and off is a minimum
//! along one edge of the cube of sets after the other; nothing happens in a stretch without requests
//! but staying on or not, so it takes one step however long it is.
//!
//! What is left out, and makes the bound lower than what can be reached: each row may be counted to
//! the best batch around it on each machine at once; a fluid needs no gathering before it flows; and
//! a slot at either end of an interval counts whole. It holds for the batch times that it is told: if
//! some take less time than `Machine::batch`, a schedule can beat it.

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

/// Machines beyond which the program would take too long: it keeps a table for every subset.
const MACHINES: usize = 10;
/// Late requests that are allowed, of all.
const LATE: f64 = 0.01;
/// Prices of a late request that are tried.
const TRIALS: usize = 8;

/// What a schedule is to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Joules above those of machines that are off.
    Energy,
    /// Seconds that machines are not off, starting included.
    DeviceSeconds,
}

/// A lower bound and what reaches it if physics were as kind as the relaxation.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Joules or device-seconds.
    pub cost: f64,
    pub plan: Plan,
}

/// Which machines are on when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Seconds of a slot; the first begins at time zero.
    pub slot: f64,
    /// For each slot a bit for each machine, the first machine's lowest. All are off afterwards.
    pub masks: Vec<u16>,
}

/// The bound for requests of one row each that arrive at these seconds from zero on (in any order),
/// of which 99 % have to be served within `slo` seconds. It is 0 with an empty plan for more than
/// ten machines. It is infinite if fewer than a hundred requests, of which none may be late, cannot
/// even be served by the relaxation; if that is so of more, it is some number.
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

/// Ascending seconds from zero.
fn tidy(arrivals: &[f64]) -> Vec<f64> {
    let finite = arrivals.iter().filter(|arrival| arrival.is_finite());
    let mut arrivals: Vec<f64> = finite.map(|arrival| arrival.max(0.0)).collect();
    arrivals.sort_by(f64::total_cmp);
    arrivals
}

/// What it costs at most to start one machine for one request: the cheapest that is fast enough.
fn for_one(machines: &[Machine], slo: f64, objective: Objective) -> f64 {
    let able = machines.iter().filter(|machine| machine.batch(1) <= slo);
    let least = able.map(|machine| once(machine, slo, objective)).fold(f64::INFINITY, f64::min);
    if least.is_finite() { least.max(1e-9) } else { 1.0 }
}

/// What it costs at most to start all machines for one request.
fn all_through(machines: &[Machine], slo: f64, objective: Objective) -> f64 {
    machines.iter().map(|machine| once(machine, slo, objective)).sum::<f64>().max(1e-9)
}

/// What it costs at most to start a machine for as long as a request may take.
fn once(machine: &Machine, slo: f64, objective: Objective) -> f64 {
    let prices = Prices::new(machine, objective);
    prices.start + slo * prices.active.max(prices.idle)
}

/// The bound if nothing may be late: lateness is so dear that not the smallest part of a request is
/// late if that can be helped, and the bound infinite if it cannot. `most` is what it costs to keep
/// all machines on for every request, so that a thousand times more is not spent otherwise.
fn strict(program: &BoundProgram, most: f64) -> (f64, f64) {
    let late = 1e6 * most;
    let cost = program.cost(late);
    (late, if cost > 1e3 * most { f64::INFINITY } else { cost })
}

/// The price of a late request that yields the greatest bound, and that bound: by golden section
/// over the price's logarithm, for the bound is concave in the price. Whatever price it ends with,
/// the bound is one. Nobody pays more for a request than it costs to serve it alone.
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
