//! Ray Serve's autoscaler (ray-project/ray, `serve/autoscaling_policy.py`,
//! `serve/_private/autoscaling_state.py`, `serve/config.py`).

use super::meter::LevelMeter;
use super::units::Replicas;
use super::{Knobs, Law, Sight, is_due, next_multiple};
use crate::fleet::Machine;

/// Seconds between evaluations; delays are counted in them.
const TICK: f64 = 0.1;

/// Parameters that Ray Serve exposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RayParams {
    /// Ongoing requests of a replica, as a share of a unit's concurrency.
    pub target: f64,
    /// Seconds over which ongoing requests are averaged.
    pub look_back: f64,
    /// Seconds between reports of the average.
    pub push: f64,
    /// Seconds that a higher number must last.
    pub up: f64,
    /// Seconds that a lower number must last.
    pub down: f64,
    /// Seconds that zero must last before the last replica turns off.
    pub zero: f64,
    /// Share of an increase that is applied at once.
    pub up_factor: f64,
    /// Share of a decrease that is applied at once.
    pub down_factor: f64,
    /// Replicas that are always kept.
    pub least: f64,
}

impl Default for RayParams {
    fn default() -> RayParams {
        RayParams {
            target: 1.0,
            look_back: 30.0,
            push: 10.0,
            up: 30.0,
            down: 600.0,
            zero: 600.0,
            up_factor: 1.0,
            down_factor: 1.0,
            least: 1.0,
        }
    }
}

impl Knobs for RayParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![
            ("target", "", &mut self.target),
            ("look-back", "s", &mut self.look_back),
            ("push", "s", &mut self.push),
            ("up", "s", &mut self.up),
            ("down", "s", &mut self.down),
            ("zero", "s", &mut self.zero),
            ("up-factor", "", &mut self.up_factor),
            ("down-factor", "", &mut self.down_factor),
            ("least", "", &mut self.least),
        ]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<RayParams> {
    let mut grid = Vec::new();
    for target in [0.5, 1.0, 1.5] {
        for (up, look_back) in [(0.0, 2.0), (0.0, 10.0), (5.0, 10.0)] {
            for (down, least) in
                [(5.0, 0.0), (30.0, 0.0), (120.0, 0.0), (5.0, 1.0), (30.0, 1.0), (120.0, 1.0)]
            {
                let zero = down;
                let push = 0.5;
                let params = RayParams {
                    target,
                    look_back,
                    push,
                    up,
                    down,
                    zero,
                    least,
                    ..RayParams::default()
                };
                grid.push(params);
            }
        }
    }
    grid
}

/// Decides the number of replicas.
#[derive(Clone, Debug)]
struct ReplicaPolicy {
    params: RayParams,
    /// Target of ongoing requests of a replica.
    ongoing: f64,
    most: usize,
    /// Consecutive ticks that requested more or, as a negative number, fewer.
    counter: i64,
}

impl ReplicaPolicy {
    /// Evaluates one tick with the running replicas, the last requested ones and the requests in
    /// flight.
    fn tick(&mut self, current: usize, target: usize, total: f64) -> usize {
        if current == 0 {
            let woken = self.params.up_factor.ceil().max(1.0) as usize;
            return if total > 0.0 { target.max(woken).min(self.most) } else { target };
        }
        let proposal = self.proposal(current as f64, total);
        if proposal > target {
            self.counter = self.counter.max(0) + 1;
            return self.after(self.counter, self.params.up, proposal, target);
        }
        if proposal < target {
            return self.lower(proposal, target);
        }
        self.counter = 0;
        target
    }

    fn proposal(&self, current: f64, total: f64) -> usize {
        let desired = total / self.ongoing;
        let up = desired > current;
        let factor = if up { self.params.up_factor } else { self.params.down_factor };
        let mut proposal = (current + factor * (desired - current) - 1e-9).ceil();
        // With a factor below 1 alone, the last step would never be made.
        if desired.ceil() < current && proposal == current {
            proposal -= 1.0;
        }
        (proposal.max(self.params.least) as usize).min(self.most)
    }

    /// Handles a request for fewer; the last replica has a separate delay.
    fn lower(&mut self, proposal: usize, target: usize) -> usize {
        self.counter = self.counter.min(0) - 1;
        let (delay, proposal) = if target == 1 {
            (self.params.zero, proposal)
        } else {
            (self.params.down, proposal.max(1))
        };
        self.after(-self.counter, delay, proposal, target)
    }

    /// Applies the last proposal once more ticks than the delay have agreed on its direction.
    fn after(&mut self, ticks: i64, delay: f64, proposal: usize, target: usize) -> usize {
        if ticks <= (delay / TICK) as i64 {
            return target;
        }
        self.counter = 0;
        proposal
    }
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Ray {
    replicas: Replicas,
    meter: LevelMeter,
    policy: ReplicaPolicy,
    /// Requests in flight as last reported, and the time of the next report.
    total: f64,
    push: f64,
    tick: f64,
}

impl Ray {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: RayParams, machines: &[Machine], slo: f64) -> Ray {
        let replicas = Replicas::new(machines, slo, params.least as usize);
        let ongoing = (replicas.units.concurrency() * params.target).max(1e-6);
        let policy = ReplicaPolicy { params, ongoing, most: replicas.units.most(), counter: 0 };
        let meter = LevelMeter::new(TICK, params.look_back);
        Ray { replicas, meter, policy, total: 0.0, push: 0.0, tick: 0.0 }
    }

    fn evaluate(&mut self, sight: &Sight<'_>) {
        let (now, target) = (sight.now, self.replicas.target());
        // The first request that finds no replica is reported at once.
        if target == 0 && self.meter.level() > 0.0 {
            self.total = self.meter.level();
        } else if is_due(now, self.push) {
            self.total = self.meter.mean(self.policy.params.look_back);
            self.push = now + self.policy.params.push;
        }
        let units = self.policy.tick(self.replicas.ready(sight), target, self.total);
        self.replicas.scale(units);
    }

    /// Returns whether only a request can change anything.
    fn is_settled(&self) -> bool {
        let params = self.policy.params;
        self.replicas.target() as f64 <= params.least
            && self.total == 0.0
            && self.meter.level() == 0.0
            && self.meter.mean(params.look_back) == 0.0
    }
}

impl Law for Ray {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        self.meter.observe(sight.now, (sight.waiting + sight.running) as f64);
        let next = next_multiple(sight.now, TICK);
        if is_due(sight.now, self.tick) {
            self.evaluate(sight);
            self.tick = if self.is_settled() { f64::INFINITY } else { next };
        } else if self.meter.level() > 0.0 {
            self.tick = self.tick.min(next);
        }
        self.replicas.settle(sight, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    fn policy(params: RayParams) -> ReplicaPolicy {
        ReplicaPolicy { params, ongoing: 2.0, most: 100, counter: 0 }
    }

    /// Returns the ticks until the target changes, and its new value.
    fn change(policy: &mut ReplicaPolicy, target: usize, total: f64) -> (usize, usize) {
        let mut ticks = (1..).map(|tick| (tick, policy.tick(target, target, total)));
        ticks.find(|(_, to)| *to != target).unwrap()
    }

    #[test]
    fn more_ticks_than_the_delay_must_agree() {
        let mut policy = policy(RayParams { least: 0.0, zero: 1.0, ..RayParams::default() });
        assert_eq!(change(&mut policy, 1, 5.0), (301, 3));
        assert_eq!(change(&mut policy, 3, 0.0), (6001, 1), "the last one has a separate delay");
        assert_eq!(change(&mut policy, 1, 0.0), (11, 0));
        assert_eq!(policy.tick(0, 0, 0.5), 1, "a cold start has none");
    }

    #[test]
    fn one_tick_in_the_other_direction_restarts_the_count() {
        let mut policy = policy(RayParams::default());
        (0..300).for_each(|_| assert_eq!(policy.tick(1, 1, 5.0), 1));
        assert_eq!(policy.tick(1, 1, 2.0), 1);
        assert_eq!(change(&mut policy, 1, 5.0), (301, 3));
        (0..200).for_each(|_| assert_eq!(policy.tick(1, 1, 9.0), 1));
        assert_eq!(change(&mut policy, 1, 3.0), (101, 2), "the last proposal is applied");
    }

    #[test]
    fn factors_apply_changes_in_part_and_reach_the_target() {
        let params = RayParams { up_factor: 0.5, down_factor: 0.3, ..RayParams::default() };
        assert_eq!(policy(params).proposal(4.0, 20.0), 7);
        assert_eq!(
            [10.0, 2.0].map(|current| policy(params).proposal(current, current * 2.0 - 2.0)),
            [9, 1]
        );
    }

    #[test]
    fn sleeps_at_zero_and_wakes_within_a_tick() {
        let (machines, mut wanted, off) = (fleet(), [false; 3], [AdapterActivity::Off; 3]);
        let params = RayParams { least: 0.0, ..RayParams::default() };
        let mut law = Ray::new(params, &machines, 2.0);
        law.decide(&sight(0.0, &machines, &off, 0), &mut wanted);
        assert_eq!(law.next(), f64::INFINITY);
        law.decide(&sight(1e5 + 0.25, &machines, &off, 1), &mut wanted);
        let woken = law.next();
        assert!((woken - 1e5 - 0.3).abs() < 1e-6, "{woken}");
        law.decide(&sight(woken, &machines, &off, 1), &mut wanted);
        assert_eq!(wanted, [true, false, false]);
    }
}
