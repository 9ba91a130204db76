//! An idle timeout that is the same for all adapters.

use super::wake::OnDemand;
use super::{Knobs, Law, Sight};
use crate::fleet::Machine;

/// Parameters of the law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdleParams {
    /// Seconds that an adapter may idle.
    pub seconds: f64,
}

impl Default for IdleParams {
    fn default() -> IdleParams {
        IdleParams { seconds: 60.0 }
    }
}

impl Knobs for IdleParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![("after", "s", &mut self.seconds)]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<IdleParams> {
    let seconds = [
        0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0,
        300.0, 450.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 1e9,
    ];
    seconds.map(|seconds| IdleParams { seconds }).to_vec()
}

/// The control law.
#[derive(Clone, Debug)]
pub struct IdleTimeout {
    params: IdleParams,
    adapters: OnDemand,
}

impl IdleTimeout {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: IdleParams, machines: &[Machine], slo: f64) -> IdleTimeout {
        IdleTimeout { params, adapters: OnDemand::new(machines, slo) }
    }
}

impl Law for IdleTimeout {
    fn next(&self) -> f64 {
        self.adapters.next()
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        self.adapters.decide(sight, wanted, |_, _| self.params.seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    #[test]
    fn off_after_the_timeout_unless_requests_wait() {
        let machines = fleet();
        let mut law = IdleTimeout::new(IdleParams { seconds: 10.0 }, &machines, 2.0);
        let doing = [
            AdapterActivity::Idle { since: 1.0 },
            AdapterActivity::Busy,
            AdapterActivity::Idle { since: 4.0 },
        ];
        let mut wanted = [true; 3];
        law.decide(&sight(5.0, &machines, &doing, 0), &mut wanted);
        assert_eq!((law.next(), wanted), (11.0, [true; 3]));
        law.decide(&sight(11.0, &machines, &doing, 1), &mut wanted);
        assert_eq!((law.next(), wanted), (f64::INFINITY, [true; 3]));
        law.decide(&sight(11.0, &machines, &doing, 0), &mut wanted);
        assert_eq!((law.next(), wanted), (14.0, [false, true, true]));
    }
}
