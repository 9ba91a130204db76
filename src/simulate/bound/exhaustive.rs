//! The true optimum of a tiny instance, by exhaustive search.

use super::Objective;
use super::prices::Prices;
use crate::fleet::Machine;

/// Tolerance in seconds, equal in effect to the bound's.
const EPSILON: f64 = 1e-9;
/// Maximum number of requests: the time grows threefold with each one.
const MOST: usize = 14;

/// Returns the cost of the best schedule of at most 14 requests under true physics; infinite if
/// there is none, or if there are more requests. The time grows with 3 to the power of the
/// requests.
///
/// Since one request in a hundred may be late, all of at most 14 must be in time. Every division of
/// the requests among the machines is tried. On one machine the requests can be assumed to be
/// served in the order of their arrival: if the older of two is in the later batch, swap them; both
/// are still in time. So every cutting of that order into batches is tried. The start times of a
/// machine's batches are found by a program over the instants at which a batch can begin in some
/// optimum: the cost between two batches is concave in the time between them, so a run of batches
/// without pause can be moved either way until one of them begins when its last row arrives or ends
/// when its first row is due, or until it touches the next run. (Only if starting draws less than
/// idling, the time of one start is another such distance, which is left out; the result is still
/// the cost of a feasible schedule.)
pub fn exhaustive(machines: &[Machine], arrivals: &[f64], slo: f64, objective: Objective) -> f64 {
    let mut arrivals = arrivals.to_vec();
    arrivals.sort_by(f64::total_cmp);
    if arrivals.len() > MOST {
        return f64::INFINITY;
    }
    let sets = 1_usize << arrivals.len();
    let mut best = vec![f64::INFINITY; sets];
    if let Some(nothing) = best.first_mut() {
        *nothing = 0.0;
    }
    for machine in machines {
        let alone: Vec<f64> = (0..sets)
            .map(|set| best_alone(machine, &pick(&arrivals, set), slo, objective))
            .collect();
        best = (0..sets).map(|set| divided(&best, &alone, set)).collect();
    }
    best.last().copied().unwrap_or(0.0)
}

/// Returns the least cost of a set when any part of it may be left to the next machine.
fn divided(others: &[f64], alone: &[f64], set: usize) -> f64 {
    let mut best = f64::INFINITY;
    for (part, cost) in alone.iter().enumerate().take(set + 1) {
        if part & !set == 0 {
            best = best.min(cost + others.get(set & !part).copied().unwrap_or(f64::INFINITY));
        }
    }
    best
}

/// Returns the arrivals at the set bits.
fn pick(arrivals: &[f64], set: usize) -> Vec<f64> {
    let chosen = arrivals.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1);
    chosen.map(|(_, arrival)| *arrival).collect()
}

/// A batch that may begin from `release` to `latest`.
#[derive(Clone, Copy, Debug)]
struct TimedBatch {
    release: f64,
    latest: f64,
    seconds: f64,
}

/// Returns the least cost of one machine that serves all of these requests.
fn best_alone(machine: &Machine, arrivals: &[f64], slo: f64, objective: Objective) -> f64 {
    if arrivals.is_empty() {
        return 0.0;
    }
    let cuts = 0_usize..1 << (arrivals.len() - 1);
    let costs = cuts.map(|cuts| match batches(machine, arrivals, slo, cuts) {
        Some(batches) => timed(&batches, machine.start, Prices::new(machine, objective)),
        None => f64::INFINITY,
    });
    costs.fold(f64::INFINITY, f64::min)
}

/// Cuts the requests after each set bit; `None` if a batch is too large or too slow.
fn batches(machine: &Machine, arrivals: &[f64], slo: f64, cuts: usize) -> Option<Vec<TimedBatch>> {
    let (mut batches, mut first, mut rows) = (Vec::new(), *arrivals.first()?, 0);
    for (index, arrival) in arrivals.iter().enumerate() {
        first = if rows == 0 { *arrival } else { first };
        rows += 1;
        if cuts >> index & 1 == 0 && index + 1 < arrivals.len() {
            continue;
        }
        let seconds = machine.batch(rows);
        let batch = TimedBatch { release: *arrival, latest: first + slo - seconds, seconds };
        if rows > machine.max_rows.max(1) || batch.latest < batch.release - EPSILON {
            return None;
        }
        batches.push(batch);
        rows = 0;
    }
    Some(batches)
}

/// Returns the least cost of running batches in their order: a program over their start times.
fn timed(batches: &[TimedBatch], start: f64, prices: Prices) -> f64 {
    // Cost of the preceding batches by the end of the last of them; before them the machine is off.
    let mut ends: Vec<(f64, f64)> = vec![(f64::NEG_INFINITY, 0.0)];
    for (index, batch) in batches.iter().enumerate() {
        let mut next = Vec::new();
        for begin in begins(batches, index) {
            let before = ends.iter().filter(|(end, _)| *end <= begin + EPSILON);
            let costs = before.map(|(end, cost)| cost + pause(begin - end, start, prices));
            let cost = costs.fold(f64::INFINITY, f64::min) + batch.seconds * prices.active;
            next.push((begin + batch.seconds, cost));
        }
        ends = next;
    }
    ends.iter().map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min)
}

/// Returns the times at which a batch can begin when the run of batches around it is fixed by the
/// release or the deadline of one of them.
fn begins(batches: &[TimedBatch], index: usize) -> Vec<f64> {
    let mut begins = Vec::new();
    let Some(own) = batches.get(index) else { return begins };
    // Seconds from the beginning of the first batch to that of each.
    let offsets = batches.iter().scan(0.0, |sum, batch| {
        *sum += batch.seconds;
        Some(*sum - batch.seconds)
    });
    let offsets: Vec<f64> = offsets.collect();
    let own_offset = offsets.get(index).copied().unwrap_or(0.0);
    for (anchor, offset) in batches.iter().zip(&offsets) {
        begins.push(anchor.release + own_offset - offset);
        begins.push(anchor.latest + own_offset - offset);
    }
    begins.retain(|at| *at >= own.release - EPSILON && *at <= own.latest + EPSILON);
    begins
}

/// Returns the cost of the time between two batches: idling, or a restart if there is time for one.
fn pause(seconds: f64, start: f64, prices: Prices) -> f64 {
    let idle = seconds.max(0.0) * prices.idle;
    if seconds + EPSILON >= start { idle.min(prices.start) } else { idle }
}
