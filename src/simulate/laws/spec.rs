//! Names of laws with parameters: the form that users enter, tables show and searches iterate over.

use super::knobs::{read, write};
use super::{Law, fixed, hpa, idle, infaas, keda, kpa, lcp, mark, nexus, ray, ski};
use crate::fleet::Machine;
use std::fmt::{self, Display, Formatter};

/// A law and its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spec {
    AllOn,
    /// Bit `k` stands for adapter `k`.
    Subset(u32),
    Kpa(kpa::KpaParams),
    Ray(ray::RayParams),
    Hpa(hpa::HpaParams),
    Keda(keda::KedaParams),
    Idle(idle::IdleParams),
    Ski(ski::SkiParams),
    /// With the seed of its draws.
    RandomSki(ski::SkiParams, u64),
    Lcp(lcp::LcpParams),
    Infaas(infaas::InfaasParams),
    Mark(mark::MarkParams),
    Nexus(nexus::NexusParams),
}

/// Laws that differ only in parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Static,
    Kpa,
    Ray,
    Hpa,
    Keda,
    Idle,
    Ski,
    RandomSki,
    Lcp,
    Infaas,
    Mark,
    Nexus,
}

impl Family {
    /// All families, baselines first.
    pub const ALL: [Family; 12] = [
        Family::Static,
        Family::Kpa,
        Family::Ray,
        Family::Hpa,
        Family::Keda,
        Family::Idle,
        Family::Ski,
        Family::RandomSki,
        Family::Lcp,
        Family::Infaas,
        Family::Mark,
        Family::Nexus,
    ];

    /// Returns the name that [`Spec::by_name`] and the names of laws use.
    pub fn name(self) -> &'static str {
        match self {
            Family::Static => "static",
            Family::Kpa => "kpa",
            Family::Ray => "ray",
            Family::Hpa => "hpa",
            Family::Keda => "keda",
            Family::Idle => "idle",
            Family::Ski => "ski",
            Family::RandomSki => "ski-random",
            Family::Lcp => "lcp",
            Family::Infaas => "infaas",
            Family::Mark => "mark",
            Family::Nexus => "nexus",
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Default seed of draws.
const SEED: u64 = 1;
/// Limit of adapters; more have too many subsets to try.
const SUBSETS_OF: usize = 16;

impl Spec {
    /// Builds the law for these machines, a latency target in seconds and, for laws that foresee
    /// them, the times in seconds of all arrivals, in order.
    pub fn build(&self, machines: &[Machine], slo: f64, arrivals: &[f64]) -> Box<dyn Law> {
        match *self {
            Spec::AllOn => Box::new(fixed::AllOn::default()),
            Spec::Subset(mask) => Box::new(fixed::Subset::new(mask)),
            Spec::Kpa(params) => Box::new(kpa::Kpa::new(params, machines, slo)),
            Spec::Ray(params) => Box::new(ray::Ray::new(params, machines, slo)),
            Spec::Hpa(params) => Box::new(hpa::Hpa::new(params, machines, slo)),
            Spec::Keda(params) => Box::new(keda::Keda::new(params, machines, slo)),
            Spec::Idle(params) => Box::new(idle::IdleTimeout::new(params, machines, slo)),
            Spec::Ski(params) => Box::new(ski::Ski::new(params, machines, slo)),
            Spec::RandomSki(params, seed) => {
                Box::new(ski::RandomSki::new(params, seed, machines, slo))
            }
            Spec::Lcp(params) => Box::new(lcp::Lcp::new(params, machines, slo)),
            Spec::Infaas(params) => Box::new(infaas::Infaas::new(params, machines, slo)),
            Spec::Mark(params) => Box::new(mark::Mark::new(params, machines, slo, arrivals)),
            Spec::Nexus(params) => Box::new(nexus::Nexus::new(params, machines, slo)),
        }
    }

    /// Returns each law as its authors ship it; idle timeouts of 10, 60 and 300 s.
    pub fn defaults() -> Vec<Spec> {
        let idle = |seconds: f64| Spec::Idle(idle::IdleParams { seconds });
        vec![
            Spec::AllOn,
            Spec::Kpa(kpa::KpaParams::default()),
            Spec::Ray(ray::RayParams::default()),
            Spec::Hpa(hpa::HpaParams::default()),
            Spec::Keda(keda::KedaParams::default()),
            idle(10.0),
            idle(60.0),
            idle(300.0),
            Spec::Ski(ski::SkiParams::default()),
            Spec::RandomSki(ski::SkiParams::default(), SEED),
            Spec::Lcp(lcp::LcpParams::default()),
            Spec::Infaas(infaas::InfaasParams::default()),
            Spec::Mark(mark::MarkParams::default()),
            Spec::Nexus(nexus::NexusParams::default()),
        ]
    }

    /// Returns the settings of a family to choose from in hindsight, for `adapters` adapters: all
    /// subsets except the empty one, or a few dozen sets of parameters.
    pub fn grid(family: Family, adapters: usize) -> Vec<Spec> {
        match family {
            Family::Static => (1..1 << adapters.min(SUBSETS_OF)).map(Spec::Subset).collect(),
            Family::Kpa => kpa::grid().into_iter().map(Spec::Kpa).collect(),
            Family::Ray => ray::grid().into_iter().map(Spec::Ray).collect(),
            Family::Hpa => hpa::grid().into_iter().map(Spec::Hpa).collect(),
            Family::Keda => keda::grid().into_iter().map(Spec::Keda).collect(),
            Family::Idle => idle::grid().into_iter().map(Spec::Idle).collect(),
            Family::Ski => ski::grid().into_iter().map(Spec::Ski).collect(),
            Family::RandomSki => {
                ski::grid().into_iter().map(|params| Spec::RandomSki(params, SEED)).collect()
            }
            Family::Lcp => lcp::grid().into_iter().map(Spec::Lcp).collect(),
            Family::Infaas => infaas::grid().into_iter().map(Spec::Infaas).collect(),
            Family::Mark => mark::grid().into_iter().map(Spec::Mark).collect(),
            Family::Nexus => nexus::grid().into_iter().map(Spec::Nexus).collect(),
        }
    }

    /// Returns the family of the law.
    pub fn family(&self) -> Family {
        match self {
            Spec::AllOn | Spec::Subset(_) => Family::Static,
            Spec::Kpa(_) => Family::Kpa,
            Spec::Ray(_) => Family::Ray,
            Spec::Hpa(_) => Family::Hpa,
            Spec::Keda(_) => Family::Keda,
            Spec::Idle(_) => Family::Idle,
            Spec::Ski(_) => Family::Ski,
            Spec::RandomSki(..) => Family::RandomSki,
            Spec::Lcp(_) => Family::Lcp,
            Spec::Infaas(_) => Family::Infaas,
            Spec::Mark(_) => Family::Mark,
            Spec::Nexus(_) => Family::Nexus,
        }
    }

    /// Reads the output of `Display`: a name such as `kpa`, with parameters that differ from the
    /// default as `kpa(stable=30s,utilisation=1)`; `static(0+2)` lists adapters.
    pub fn by_name(name: &str) -> Option<Spec> {
        let (name, values) = match name.trim().split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')?),
            None => (name.trim(), ""),
        };
        Some(match name {
            "all-on" if values.is_empty() => Spec::AllOn,
            "static" => Spec::Subset(read_set(values)?),
            "kpa" => Spec::Kpa(read(values)?),
            "ray" => Spec::Ray(read(values)?),
            "hpa" => Spec::Hpa(read(values)?),
            "keda" => Spec::Keda(read(values)?),
            "idle" => Spec::Idle(read(values)?),
            "ski" => Spec::Ski(read(values)?),
            "ski-random" => Spec::RandomSki(read(values)?, SEED),
            "lcp" => Spec::Lcp(read(values)?),
            "infaas" => Spec::Infaas(read(values)?),
            "mark" => Spec::Mark(read(values)?),
            "nexus" => Spec::Nexus(read(values)?),
            _ => return None,
        })
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Spec::AllOn => return f.pad("all-on"),
            Spec::Subset(set) => write_set(set),
            Spec::Kpa(params) => write(params),
            Spec::Ray(params) => write(params),
            Spec::Hpa(params) => write(params),
            Spec::Keda(params) => write(params),
            Spec::Idle(params) => write(params),
            Spec::Ski(params) | Spec::RandomSki(params, _) => write(params),
            Spec::Lcp(params) => write(params),
            Spec::Infaas(params) => write(params),
            Spec::Mark(params) => write(params),
            Spec::Nexus(params) => write(params),
        };
        f.pad(&format!("{}{text}", self.family()))
    }
}

fn write_set(set: u32) -> String {
    let adapters = (0..32).filter(|at| set >> at & 1 == 1).map(|at: u32| at.to_string());
    format!("({})", adapters.collect::<Vec<_>>().join("+"))
}

fn read_set(adapters: &str) -> Option<u32> {
    adapters.split('+').filter(|adapter| !adapter.trim().is_empty()).try_fold(0, |set, adapter| {
        let bit = 1_u32.checked_shl(adapter.trim().parse().ok()?)?;
        Some(set | bit)
    })
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::{fleet, sight};
    use super::super::{AdapterActivity, Sight};
    use super::*;

    fn all() -> Vec<Spec> {
        let grids = Family::ALL.into_iter().flat_map(|family| Spec::grid(family, 3));
        Spec::defaults().into_iter().chain(grids).collect()
    }

    #[test]
    fn names_are_short_and_read_back() {
        let ray = ray::RayParams { target: 2.0, down: 10.0, ..ray::RayParams::default() };
        assert_eq!(Spec::Ray(ray).to_string(), "ray(target=2,down=10s)");
        assert_eq!(Spec::Subset(0b101).to_string(), "static(0+2)");
        assert_eq!(Spec::by_name("idle(after=10)"), Spec::by_name("idle(after=10s)"));
        for spec in all() {
            assert_eq!(Spec::by_name(&spec.to_string()), Some(spec), "{spec}");
        }
        for wrong in ["", "kpo", "kpa(", "kpa(no=1)", "kpa(up=x)", "kpa(up=-1)", "static(40)"] {
            assert_eq!(Spec::by_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn grids_have_a_few_dozen_different_settings_of_their_family() {
        for family in Family::ALL {
            let grid = Spec::grid(family, 4);
            assert!((15..=60).contains(&grid.len()), "{family}: {}", grid.len());
            assert!(grid.iter().all(|spec| spec.family() == family));
            let mut names: Vec<String> = grid.iter().map(Spec::to_string).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), grid.len(), "{family}");
        }
    }

    /// Runs a law on adapters that follow its decisions at once and serve waiting requests at once
    /// if any adapter is on.
    fn run(spec: Spec, arrivals: &[f64], until: f64) -> (usize, usize, usize) {
        let machines = fleet();
        let mut law = spec.build(&machines, 2.0, arrivals);
        let (mut doing, mut wanted) = ([AdapterActivity::Off; 3], [false; 3]);
        let (mut now, mut arrived, mut waiting, mut evaluations) = (0.0, 0, 0, 0);
        loop {
            let sight = sight(now, &machines, &doing, waiting);
            law.decide(&Sight { arrived, unmet: waiting, ..sight }, &mut wanted);
            evaluations += 1;
            for (doing, want) in doing.iter_mut().zip(wanted) {
                *doing = match (*doing, want) {
                    (AdapterActivity::Off, true) => AdapterActivity::Idle { since: now },
                    (was, true) => was,
                    (_, false) => AdapterActivity::Off,
                };
            }
            if doing != [AdapterActivity::Off; 3] && waiting > 0 {
                waiting = 0;
                continue;
            }
            assert!(law.next() > now, "{spec} requests a tick at {} at {now}", law.next());
            let next = arrivals.get(arrived).copied().unwrap_or(f64::INFINITY);
            // Simulators may count in nanoseconds.
            now = (law.next().min(next) * 1e9).round() / 1e9;
            assert!(evaluations < 30_000, "{spec} is evaluated too often");
            if now >= until {
                break;
            }
            let came = arrivals.iter().skip(arrived).take_while(|at| **at <= now).count();
            (arrived, waiting) = (arrived + came, waiting + came);
        }
        let on = doing.iter().filter(|doing| **doing != AdapterActivity::Off).count();
        (waiting, on, evaluations)
    }

    #[test]
    fn every_law_serves_all_requests_and_time_advances() {
        let burst = (0..200).map(|at| 50.0 + f64::from(at) / 20.0);
        let arrivals: Vec<f64> =
            [3.0, 3.0, 40.0].into_iter().chain(burst).chain([2000.0]).collect();
        for spec in all() {
            assert_eq!(run(spec, &arrivals, 2500.0).0, 0, "{spec}");
        }
    }

    #[test]
    fn laws_that_can_sleep_do_so() {
        for name in ["kpa", "keda", "ski", "ski-random", "idle", "lcp", "infaas", "ray(least=0)"] {
            let spec = Spec::by_name(name).unwrap();
            let (waiting, on, evaluations) = run(spec, &[1.0, 9e5], 8e5);
            assert_eq!((waiting, on), (0, 0), "{name}");
            assert!(evaluations < 10_000, "{name}: {evaluations}");
        }
    }
}
