//! Ski rental: an adapter that has used as much energy for idling as an activation takes turns off.
//! Deterministic, which is 2-competitive (Albers, CACM 2010), and randomised, which is
//! e/(e-1)-competitive (Karlin et al.).

use super::wake::OnDemand;
use super::{Knobs, Law, Sight};
use crate::fleet::Machine;
use types::random::SplitMix64;

/// Parameters of the law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkiParams {
    /// Idle timeout in multiples of the break-even time.
    pub factor: f64,
}

impl Default for SkiParams {
    fn default() -> SkiParams {
        SkiParams { factor: 1.0 }
    }
}

impl Knobs for SkiParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![("factor", "", &mut self.factor)]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<SkiParams> {
    let factors = [
        0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0,
        15.0, 20.0, 30.0, 50.0, 100.0, 300.0, 1e6,
    ];
    factors.map(|factor| SkiParams { factor }).to_vec()
}

/// Returns the idle timeout of each machine in seconds.
fn idle_timeout(params: SkiParams, machines: &[Machine]) -> Vec<f64> {
    machines.iter().map(|machine| machine.break_even() * params.factor).collect()
}

/// The deterministic law.
#[derive(Clone, Debug)]
pub struct Ski {
    adapters: OnDemand,
    idle_timeout: Vec<f64>,
}

impl Ski {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: SkiParams, machines: &[Machine], slo: f64) -> Ski {
        Ski { adapters: OnDemand::new(machines, slo), idle_timeout: idle_timeout(params, machines) }
    }
}

impl Law for Ski {
    fn next(&self) -> f64 {
        self.adapters.next()
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        let idle_timeout = &self.idle_timeout;
        self.adapters.decide(sight, wanted, |at, _| idle_timeout.get(at).copied().unwrap_or(0.0));
    }
}

/// Idle timeout of one adapter in its present idle period.
#[derive(Clone, Copy, Debug)]
struct Draw {
    /// The longest timeout, in seconds.
    longest: f64,
    since: f64,
    seconds: f64,
}

/// The randomised law.
#[derive(Clone, Debug)]
pub struct RandomSki {
    adapters: OnDemand,
    draws: Vec<Draw>,
    random: SplitMix64,
}

impl RandomSki {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: SkiParams, seed: u64, machines: &[Machine], slo: f64) -> RandomSki {
        let draw = |longest| Draw { longest, since: f64::NAN, seconds: longest };
        let draws = idle_timeout(params, machines).into_iter().map(draw).collect();
        RandomSki { adapters: OnDemand::new(machines, slo), draws, random: SplitMix64::new(seed) }
    }
}

impl Law for RandomSki {
    fn next(&self) -> f64 {
        self.adapters.next()
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        let (draws, random) = (&mut self.draws, &mut self.random);
        self.adapters.decide(sight, wanted, |at, since| {
            let Some(draw) = draws.get_mut(at) else { return 0.0 };
            if draw.since != since {
                *draw = Draw { since, seconds: draw.longest * share(random.uniform()), ..*draw };
            }
            draw.seconds
        });
    }
}

/// Converts a uniform draw into one of density `e^x / (e - 1)` on `0..1`.
fn share(uniform: f64) -> f64 {
    (uniform * (std::f64::consts::E - 1.0)).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    #[test]
    fn idles_for_the_energy_of_an_activation() {
        let machines = fleet();
        let mut law = Ski::new(SkiParams { factor: 0.5 }, &machines, 2.0);
        let (doing, mut wanted) = ([AdapterActivity::Idle { since: 10.0 }; 3], [true; 3]);
        law.decide(&sight(10.0, &machines, &doing, 0), &mut wanted);
        assert_eq!(law.next(), 13.0, "2 s at three times the watts of idling, halved");
        law.decide(&sight(13.0, &machines, &doing, 0), &mut wanted);
        assert_eq!((law.next(), wanted), (f64::INFINITY, [false; 3]));
    }

    #[test]
    fn the_randomised_ratio_holds_for_every_gap() {
        // In units of the break-even time; the clairvoyant cost is the lesser of the gap and 1.
        let mut random = SplitMix64::new(7);
        let draws: Vec<f64> = (0..40_000).map(|_| share(random.uniform())).collect();
        let bound = std::f64::consts::E / (std::f64::consts::E - 1.0);
        for gap in [0.1, 0.5, 0.9, 1.0, 5.0_f64] {
            let paid = |draw: &f64| if *draw < gap { draw + 1.0 } else { gap };
            let mean = draws.iter().map(paid).sum::<f64>() / draws.len() as f64;
            assert!((mean / gap.min(1.0) - bound).abs() < 0.05, "gap {gap}: {mean}");
        }
    }

    #[test]
    fn draws_once_in_each_idle_period() {
        let machines = fleet();
        let mut law = RandomSki::new(SkiParams::default(), 1, &machines, 2.0);
        let mut ends = Vec::new();
        for since in [10.0, 20.0] {
            let doing =
                [AdapterActivity::Idle { since }, AdapterActivity::Off, AdapterActivity::Off];
            for now in [since, since] {
                law.decide(&sight(now, &machines, &doing, 0), &mut [true, false, false]);
                ends.push(law.next() - since);
            }
        }
        assert_eq!((ends[0], ends[2]), (ends[1], ends[3]));
        assert!(ends[0] != ends[2] && ends.iter().all(|end| (0.0..=6.0).contains(end)), "{ends:?}");
    }
}
