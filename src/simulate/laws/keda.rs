//! KEDA (kedacore/keda, `pkg/scaling`): an HPA between 1 and N, with a separate poll between 0 and
//! 1.

use super::hpa::{self, Hpa};
use super::{Knobs, Law, Sight, is_due, next_multiple};
use crate::fleet::Machine;

/// Parameters that KEDA exposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KedaParams {
    /// Seconds between polls.
    pub poll: f64,
    /// Seconds without activity after which all turn off.
    pub cooldown: f64,
    pub hpa: hpa::HpaParams,
}

impl Default for KedaParams {
    fn default() -> KedaParams {
        KedaParams { poll: 30.0, cooldown: 300.0, hpa: hpa::HpaParams::default() }
    }
}

impl Knobs for KedaParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        let mut knobs = vec![("poll", "s", &mut self.poll), ("cooldown", "s", &mut self.cooldown)];
        knobs.extend(self.hpa.knobs());
        knobs
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<KedaParams> {
    let mut grid = Vec::new();
    for poll in [1.0, 5.0, 30.0] {
        for cooldown in [5.0, 30.0, 300.0] {
            for target in [0.5, 0.8, 1.4] {
                for down in [0.0, 60.0] {
                    let hpa =
                        hpa::HpaParams { target, down, average: 1.0, ..hpa::HpaParams::default() };
                    grid.push(KedaParams { poll, cooldown, hpa });
                }
            }
        }
    }
    grid
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Keda {
    params: KedaParams,
    hpa: Hpa,
    /// Time at which a poll last found requests.
    active: f64,
    poll: f64,
}

impl Keda {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: KedaParams, machines: &[Machine], slo: f64) -> Keda {
        let hpa = Hpa::new(params.hpa, machines, slo);
        Keda { params, hpa, active: 0.0, poll: 0.0 }
    }

    fn poll(&mut self, sight: &Sight<'_>) {
        let replicas = &mut self.hpa.replicas;
        if sight.waiting + sight.running > 0 {
            self.active = sight.now;
            replicas.scale(replicas.target().max(1));
        } else if self.active + self.params.cooldown < sight.now {
            replicas.scale(0);
        }
    }
}

impl Law for Keda {
    fn next(&self) -> f64 {
        if self.hpa.replicas.target() > 0 { self.poll.min(self.hpa.next()) } else { self.poll }
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        self.hpa.observe(sight);
        let next = next_multiple(sight.now, self.params.poll.max(0.1));
        if is_due(sight.now, self.poll) {
            self.poll(sight);
            self.poll = next;
        }
        if self.hpa.replicas.target() > 0 {
            self.hpa.sync(sight);
        } else {
            // Polls without a finding change nothing.
            let in_flight = sight.waiting + sight.running;
            self.poll = if in_flight > 0 { next } else { f64::INFINITY };
        }
        self.hpa.replicas.settle(sight, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    #[test]
    fn cools_down_and_wakes_at_a_poll() {
        let (machines, mut wanted) = (fleet(), [false; 3]);
        let mut law = Keda::new(KedaParams::default(), &machines, 2.0);
        let on = [AdapterActivity::Idle { since: 0.0 }, AdapterActivity::Off, AdapterActivity::Off];
        let mut off_at = 0.0;
        while law.next().is_finite() {
            off_at = law.next();
            law.decide(&sight(off_at, &machines, &on, 0), &mut wanted);
        }
        assert_eq!((off_at, wanted), (330.0, [false; 3]), "300 s are not less than 300 s");
        let off = [AdapterActivity::Off; 3];
        law.decide(&sight(1001.0, &machines, &off, 1), &mut wanted);
        assert_eq!((law.next(), wanted), (1020.0, [false; 3]));
        law.decide(&sight(1020.0, &machines, &off, 1), &mut wanted);
        assert_eq!(wanted, [true, false, false]);
    }
}
