//! INFaaS (stanford-mast/INFaaS, `src/worker/autoscaler.cc`, `checkModvar`).

use super::units::{Replicas, has};
use super::{Knobs, Law, Sight, is_due};
use crate::fleet::Machine;

/// Seconds between checks.
const TICK: f64 = 1.0;

/// Constants of the law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfaasParams {
    /// Share of the capacity to add per millisecond of loading.
    pub load: f64,
    /// Consecutive checks that must request fewer units.
    pub votes: f64,
}

impl Default for InfaasParams {
    fn default() -> InfaasParams {
        InfaasParams { load: 0.0002, votes: 20.0 }
    }
}

impl Knobs for InfaasParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![("load", "", &mut self.load), ("votes", "", &mut self.votes)]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<InfaasParams> {
    let loads = [0.0, 0.000_05, 0.0001, 0.0002];
    let with = |load: f64| [2.0, 5.0, 10.0, 20.0, 100.0].map(|votes| InfaasParams { load, votes });
    loads.into_iter().flat_map(with).collect()
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Infaas {
    params: InfaasParams,
    replicas: Replicas,
    /// Consecutive checks that requested fewer units.
    votes: usize,
    /// Arrivals until the last check.
    arrived: usize,
    tick: f64,
}

impl Infaas {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: InfaasParams, machines: &[Machine], slo: f64) -> Infaas {
        let replicas = Replicas::new(machines, slo, 1);
        Infaas { params, replicas, votes: 0, arrived: 0, tick: 0.0 }
    }

    /// Performs one check, with the requests per second since the last one.
    fn check(&mut self, rate: f64, load_ms: f64) -> usize {
        let (now, unit) = (self.replicas.target(), self.replicas.units.unit());
        let current = now as f64 * unit;
        let more = rate - current + self.params.load * current * load_ms;
        let add = (more / unit - 1e-9).ceil();
        if add > 0.0 {
            self.votes = 0;
            return now + add as usize;
        }
        self.votes = if rate <= (current - unit).max(0.0) { self.votes + 1 } else { 0 };
        if (self.votes as f64) < self.params.votes {
            return now;
        }
        self.votes = 0;
        now.saturating_sub(1)
    }

    /// Returns the mean start time, in milliseconds, of the adapters that should be on.
    fn load_ms(&self, machines: &[Machine]) -> f64 {
        let set = self.replicas.units.set(self.replicas.target());
        let on = machines.iter().enumerate().filter(|(at, _)| has(set, *at));
        let (sum, count) =
            on.fold((0.0, 0.0), |(sum, n), (_, machine)| (sum + machine.start, n + 1.0));
        1e3 * sum / f64::max(count, 1.0)
    }
}

impl Law for Infaas {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        let in_flight = sight.waiting + sight.running;
        if self.replicas.target() == 0 && in_flight > 0 {
            // A query for a model that is not loaded loads it.
            self.replicas.scale(1);
            self.arrived = sight.arrived.saturating_sub(in_flight);
            self.tick = sight.now + TICK;
        } else if is_due(sight.now, self.tick) && self.replicas.target() > 0 {
            let rate = sight.arrived.saturating_sub(self.arrived) as f64 / TICK;
            let units = self.check(rate, self.load_ms(sight.machines));
            self.replicas.scale(units);
            self.arrived = sight.arrived;
            self.tick = sight.now + TICK;
        }
        if self.replicas.target() == 0 && in_flight == 0 {
            self.tick = f64::INFINITY;
        }
        self.replicas.settle(sight, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::fleet;
    use super::*;

    #[test]
    fn adds_at_once_and_removes_after_votes() {
        let mut law = Infaas::new(InfaasParams::default(), &fleet(), 2.0);
        law.replicas.scale(5);
        assert_eq!(law.check(5.0, 0.0), 5);
        assert_eq!(law.check(5.1, 0.0), 6);
        assert_eq!(law.check(3.5, 2000.0), 6, "5 units take 2 more to cover the load");
        (0..19).for_each(|_| assert_eq!(law.check(4.0, 0.0), 5));
        assert_eq!(law.check(4.5, 0.0), 5, "nothing, and the votes start over");
        (0..19).for_each(|_| assert_eq!(law.check(0.0, 0.0), 5));
        assert_eq!(law.check(0.0, 0.0), 4);
    }
}
