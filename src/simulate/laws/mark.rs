//! MArk (marcoszh/MArk-Project): greedy provisioning from a forecast, which here is perfect,
//! because it is the trace itself. Its cost therefore bounds the benefit of forecasting.

use super::units::rates;
use super::{Knobs, Law, ROUNDING, Sight, is_due};
use crate::fleet::Machine;

/// Constants of the law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarkParams {
    /// Seconds of a step, and steps of the forecast.
    pub step: f64,
    pub steps: f64,
    /// The step of the plan that is applied, which hides the start.
    pub ahead: f64,
    /// Minimum of seconds that an adapter counts for.
    pub span: f64,
    /// Seconds over which demand is averaged, where the highest mean of a step counts; 0 for a
    /// whole step.
    pub peak: f64,
}

impl Default for MarkParams {
    fn default() -> MarkParams {
        MarkParams { step: 60.0, steps: 50.0, ahead: 2.0, span: 60.0, peak: 0.0 }
    }
}

impl Knobs for MarkParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![
            ("step", "s", &mut self.step),
            ("steps", "", &mut self.steps),
            ("ahead", "", &mut self.ahead),
            ("span", "s", &mut self.span),
            ("peak", "s", &mut self.peak),
        ]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<MarkParams> {
    let mut grid = Vec::new();
    for step in [2.0, 5.0, 15.0, 60.0] {
        for ahead in [1.0, 2.0] {
            for span in [0.0, 60.0] {
                for peak in [0.5, 2.0, 0.0] {
                    grid.push(MarkParams { step, steps: 50.0, ahead, span, peak });
                }
            }
        }
    }
    grid
}

/// An adapter as the plan sees it.
#[derive(Clone, Copy, Debug)]
struct PlannedAdapter {
    /// Rows per second.
    rate: f64,
    idle_w: f64,
    /// Joules of an activation, and of each row beyond idling.
    start: f64,
    row: f64,
    is_on: bool,
    /// The plan includes it.
    is_taken: bool,
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Mark {
    params: MarkParams,
    kinds: Vec<PlannedAdapter>,
    /// Rows per second in each step of the trace.
    demand: Vec<f64>,
    /// Demand that the plan does not yet carry, from this step on.
    residual: Vec<f64>,
    tick: f64,
}

impl Mark {
    /// Creates the law for these machines, a latency target in seconds and the times in seconds of
    /// all arrivals, in order.
    pub fn new(params: MarkParams, machines: &[Machine], slo: f64, arrivals: &[f64]) -> Mark {
        let params = MarkParams { step: params.step.max(0.1), ..params };
        let kind = |(machine, rate): (&Machine, f64)| PlannedAdapter {
            rate,
            idle_w: machine.idle_w,
            start: machine.start_joules(),
            row: (machine.active_w - machine.idle_w) / rate.max(1e-9),
            is_on: false,
            is_taken: false,
        };
        let kinds = machines.iter().zip(rates(machines, slo)).map(kind).collect();
        let residual = Vec::with_capacity(params.steps.max(1.0) as usize);
        Mark { params, kinds, demand: demand(params, arrivals), residual, tick: 0.0 }
    }

    /// Makes a plan from a step on.
    fn plan(&mut self, step: usize) {
        let steps = self.params.steps.max(1.0) as usize;
        self.residual.clear();
        self.residual.extend(self.demand.iter().skip(step).take(steps));
        self.kinds.iter_mut().for_each(|kind| kind.is_taken = false);
        // Later steps are left to later plans.
        let ahead = self.params.ahead.max(0.0) as usize;
        while let Some(from) = self.residual.iter().take(ahead + 1).position(|rows| *rows > 1e-9) {
            if !self.take(from, ahead) {
                return;
            }
        }
    }

    /// Adds to the plan the adapter that carries most, per joule, of the residual that begins at
    /// this step and continues without a pause. Returns whether there was an adapter left to add.
    fn take(&mut self, from: usize, ahead: usize) -> bool {
        let rest = self.residual.get(from..).unwrap_or_default();
        let length = rest.iter().take_while(|rows| **rows > 1e-9).count();
        let (rest, step) = (rest.get(..length).unwrap_or_default(), self.params.step);
        let seconds = (length as f64 * step).max(self.params.span);
        let cost = |kind: &PlannedAdapter| {
            let rows = step * rest.iter().map(|rows| rows.min(kind.rate)).sum::<f64>();
            let start = if kind.is_on { 0.0 } else { kind.start };
            (kind.idle_w * seconds + start) / rows.max(1e-12) + kind.row
        };
        let free =
            self.kinds.iter().enumerate().filter(|(_, kind)| !kind.is_taken && kind.rate > 0.0);
        let best = free.map(|(at, kind)| (at, cost(kind))).min_by(|a, b| a.1.total_cmp(&b.1));
        let Some(kind) = best.and_then(|(at, _)| self.kinds.get_mut(at)) else { return false };
        kind.is_taken = true;
        // The adapter is on for all steps that are applied, not only for those that it was added
        // for.
        let steps = (from + length).max(ahead + 1);
        self.residual.iter_mut().take(steps).for_each(|rows| *rows = (*rows - kind.rate).max(0.0));
        true
    }
}

/// Returns the rows per second of each step.
fn demand(params: MarkParams, arrivals: &[f64]) -> Vec<f64> {
    let per_step =
        if params.peak > 0.0 { (params.step / params.peak).ceil().max(1.0) } else { 1.0 };
    let peak = params.step / per_step;
    let last = arrivals.last().map_or(0.0, |last| last.max(0.0));
    let mut counts = vec![0.0; ((last / params.step) as usize + 1) * per_step as usize];
    for arrival in arrivals {
        if let Some(count) = counts.get_mut((arrival / peak) as usize) {
            *count += 1.0;
        }
    }
    let highest = |counts: &[f64]| counts.iter().copied().fold(0.0, f64::max) / peak;
    counts.chunks(per_step as usize).map(highest).collect()
}

impl Law for Mark {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        if is_due(sight.now, self.tick) {
            let step = ((sight.now + ROUNDING) / self.params.step) as usize;
            self.plan(step);
            self.tick = (step + 1) as f64 * self.params.step;
            if step > self.demand.len() {
                self.tick = f64::INFINITY;
            }
        }
        for (kind, want) in self.kinds.iter_mut().zip(wanted) {
            // No adapter turns off while requests wait: the forecast does not include late ones.
            *want = kind.is_taken || (*want && sight.waiting > 0);
            kind.is_on = *want;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    const PARAMS: MarkParams =
        MarkParams { step: 10.0, steps: 5.0, ahead: 1.0, span: 0.0, peak: 0.0 };

    #[test]
    fn demand_is_the_mean_or_the_peak_of_a_step() {
        let arrivals = [0.0, 1.0, 1.5, 9.0, 25.0];
        assert_eq!(demand(PARAMS, &arrivals), [0.4, 0.0, 0.1]);
        assert_eq!(demand(MarkParams { peak: 1.0, ..PARAMS }, &arrivals), [2.0, 0.0, 1.0]);
        assert_eq!(demand(PARAMS, &[]), [0.0]);
    }

    #[test]
    fn adapters_are_on_a_step_ahead_and_no_longer_than_needed() {
        let arrivals: Vec<f64> = (0..100).map(|at| 30.0 + f64::from(at) / 10.0).collect();
        let machines = fleet();
        let mut law = Mark::new(PARAMS, &machines, 2.0, &arrivals);
        let mut wanted = [false; 3];
        let mut at = |now, in_flight| {
            law.decide(&sight(now, &machines, &[AdapterActivity::Off; 3], in_flight), &mut wanted);
            (law.next(), wanted)
        };
        assert_eq!(at(0.0, 0), (10.0, [false; 3]));
        assert_eq!(at(20.0, 0), (30.0, [false, false, true]));
        assert_eq!(at(30.0, 0).1, [false, false, true]);
        assert_eq!(at(40.0, 2), (50.0, [false, false, true]), "two still wait");
        assert_eq!(at(41.0, 0), (50.0, [false; 3]));
        assert_eq!(at(60.0, 0).0, f64::INFINITY);
    }

    #[test]
    fn a_demand_above_all_rates_takes_all_adapters() {
        let arrivals: Vec<f64> = (0..1000).map(|at| f64::from(at) / 100.0).collect();
        let mut law = Mark::new(PARAMS, &fleet(), 2.0, &arrivals);
        law.plan(0);
        assert!(law.kinds.iter().all(|kind| kind.is_taken));
    }
}
