//! Kubernetes' horizontal pod autoscaler (kubernetes/kubernetes,
//! `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go` and its defaults).

use super::meter::{LevelMeter, RecentValues};
use super::units::Replicas;
use super::{Knobs, Law, Sight, is_due, next_multiple};
use crate::fleet::Machine;

/// Seconds between evaluations, and of the periods of the rate policies.
const SYNC: f64 = 15.0;

/// Parameters that Kubernetes exposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HpaParams {
    /// Target utilisation: requests in flight as a share of a unit's concurrency.
    pub target: f64,
    /// Seconds over which utilisation is averaged.
    pub average: f64,
    /// Deviation of the ratio from 1 that causes no change.
    pub tolerance: f64,
    /// Window in seconds of which the lowest recommendation counts upwards.
    pub up: f64,
    /// Window in seconds of which the highest recommendation counts downwards.
    pub down: f64,
    /// Units that may be added in a period, or the result of this factor if it is more.
    pub up_pods: f64,
    pub up_factor: f64,
}

impl Default for HpaParams {
    fn default() -> HpaParams {
        HpaParams {
            target: 0.8,
            average: SYNC,
            tolerance: 0.1,
            up: 0.0,
            down: 300.0,
            up_pods: 4.0,
            up_factor: 2.0,
        }
    }
}

impl Knobs for HpaParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![
            ("target", "", &mut self.target),
            ("average", "s", &mut self.average),
            ("tolerance", "", &mut self.tolerance),
            ("up", "s", &mut self.up),
            ("down", "s", &mut self.down),
            ("up-pods", "", &mut self.up_pods),
            ("up-factor", "", &mut self.up_factor),
        ]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<HpaParams> {
    let mut grid = Vec::new();
    for target in [0.3, 0.5, 0.8, 1.0, 1.4] {
        for down in [0.0, 60.0, 300.0] {
            for (average, up_pods) in [(1.0, 4.0), (15.0, 4.0), (1.0, 1e3)] {
                grid.push(HpaParams { target, average, down, up_pods, ..HpaParams::default() });
            }
        }
    }
    grid
}

/// Returns the pods that this load needs, in units of the target load of one pod. Pods that are not
/// ready count as idle on the way up, and not at all on the way down.
fn recommend(load: f64, ready: usize, unready: usize, tolerance: f64) -> usize {
    let current = ready + unready;
    if ready == 0 {
        return current;
    }
    let is_near = |ratio: f64| (1.0 - ratio).abs() <= tolerance + 1e-12;
    let pods = |load: f64| (load - 1e-9).ceil().max(0.0) as usize;
    let ratio = load / ready as f64;
    if ratio > 1.0 && unready > 0 {
        let ratio = load / current as f64;
        return if ratio < 1.0 || is_near(ratio) { current } else { pods(load) };
    }
    if is_near(ratio) { current } else { pods(load) }
}

/// Limits the rate at which recommendations are applied.
#[derive(Clone, Debug)]
struct Stabiliser {
    params: HpaParams,
    recent: RecentValues,
}

/// Returns the number of evaluations in a window of `seconds`, this one included.
fn evaluations(seconds: f64) -> usize {
    ((seconds / SYNC).ceil() as usize).max(1)
}

impl Stabiliser {
    fn new(params: HpaParams) -> Stabiliser {
        let kept = evaluations(params.up).max(evaluations(params.down));
        Stabiliser { params, recent: RecentValues::new(kept) }
    }

    fn stabilise(&mut self, current: usize, desired: usize) -> usize {
        self.recent.push(desired);
        let up = self.recent.newest(evaluations(self.params.up)).min().unwrap_or(desired);
        let down = self.recent.newest(evaluations(self.params.down)).max().unwrap_or(desired);
        let stable = current.max(up).min(down.max(up));
        let from = current as f64;
        let most = (from * self.params.up_factor).ceil().max(from + self.params.up_pods);
        stable.min(most as usize).max(1)
    }
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Hpa {
    pub(super) replicas: Replicas,
    meter: LevelMeter,
    stabiliser: Stabiliser,
    tick: f64,
}

impl Hpa {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: HpaParams, machines: &[Machine], slo: f64) -> Hpa {
        let replicas = Replicas::new(machines, slo, 1);
        let meter = LevelMeter::new(0.5, params.average);
        Hpa { replicas, meter, stabiliser: Stabiliser::new(params), tick: 0.0 }
    }

    pub(super) fn observe(&mut self, sight: &Sight<'_>) {
        self.meter.observe(sight.now, (sight.waiting + sight.running) as f64);
    }

    /// Evaluates if it is due.
    pub(super) fn sync(&mut self, sight: &Sight<'_>) {
        if !is_due(sight.now, self.tick) {
            return;
        }
        self.tick = next_multiple(sight.now, SYNC);
        let (params, current) = (self.stabiliser.params, self.replicas.target());
        let each = self.replicas.units.concurrency() * params.target;
        let load = self.meter.mean(params.average) / each.max(1e-9);
        let ready = self.replicas.ready(sight);
        let desired = recommend(load, ready, current.saturating_sub(ready), params.tolerance);
        let units = self.stabiliser.stabilise(current, desired);
        self.replicas.scale(units);
    }
}

impl Law for Hpa {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        self.observe(sight);
        self.sync(sight);
        self.replicas.settle(sight, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    #[test]
    fn small_deviations_cause_no_change() {
        let at = |load: f64| recommend(load, 10, 0, 0.1);
        assert_eq!([9.0, 10.0, 11.0].map(at), [10, 10, 10]);
        assert_eq!([8.9, 11.1, 0.0, 35.0].map(at), [9, 12, 0, 35]);
    }

    #[test]
    fn pods_that_are_not_ready_damp_only_the_way_up() {
        assert_eq!(recommend(4.0, 2, 2, 0.1), 4, "within the tolerance with all counted");
        assert_eq!(recommend(3.0, 2, 2, 0.1), 4, "no change, because the direction would reverse");
        assert_eq!(recommend(8.0, 2, 2, 0.1), 8);
        assert_eq!(recommend(1.0, 2, 2, 0.1), 1);
        assert_eq!(recommend(9.0, 0, 3, 0.1), 3, "no pod, no metric");
    }

    #[test]
    fn rates_and_windows_limit_changes() {
        let mut stabiliser = Stabiliser::new(HpaParams { down: 45.0, ..HpaParams::default() });
        let mut to = |current, desired| stabiliser.stabilise(current, desired);
        assert_eq!([to(1, 50), to(5, 50), to(10, 50)], [5, 10, 20]);
        assert_eq!([to(20, 2), to(20, 3), to(20, 1), to(3, 0)], [20, 20, 3, 3]);
        assert_eq!([to(3, 0), to(1, 0)], [1, 1], "one is kept");
    }

    #[test]
    fn evaluates_every_fifteen_seconds() {
        let machines = fleet();
        let mut law = Hpa::new(HpaParams::default(), &machines, 2.0);
        let on = [AdapterActivity::Busy, AdapterActivity::Off, AdapterActivity::Off];
        let mut wanted = [false; 3];
        for at in [0.0, 7.0, 14.0] {
            law.decide(&sight(at, &machines, &on, 4), &mut wanted);
            assert_eq!((law.next(), wanted), (15.0, [true, false, false]));
        }
        law.decide(&sight(15.0, &machines, &on, 4), &mut wanted);
        assert_eq!((law.next(), wanted), (30.0, [true, false, true]), "4 / 0.8 units");
    }
}
