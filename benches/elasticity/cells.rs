//! The matrix: traces × mixes of adapters × latency targets × cold starts, and the sizing of the
//! requests that makes cells comparable.
//!
//! Sizing: the trace keeps its arrivals; the service time is the largest at which all adapters
//! together, always on, answer 99.9 % in time, with and without batching delay, times 0.9. Cold
//! starts are scaled so that the slowest one takes `kappa` of the slack that a single row leaves:
//! `kappa = start / (target - batch(1))`, the largest over the adapters.

use schedule::{Goal, Policy};
use simulate::laws::{Law, Spec};
use simulate::{Machine, Mix, Options, Outcome, Run, Trace, Worst, simulate};

/// Rows of the largest batch.
const MAX_ROWS: u32 = 32;
/// Seconds of a batch of any size, in addition to `RATIO` rows.
const OVERHEAD: f64 = 0.004;
const RATIO: f64 = 1.0;
/// Share of requests that must be answered in time.
pub(crate) const ATTAINMENT: f64 = 0.99;

/// Name, speed, watts idle, active and starting, seconds of a start; all values are assumptions.
pub(crate) type Row = (&'static str, f64, f64, f64, f64, f64);

/// Typical mixes of adapters in desktop computers.
pub(crate) const MIXES: &[(&str, &[Row])] = &[
    (
        "desktop",
        &[
            ("780M", 0.08, 3.0, 40.0, 15.0, 0.6),
            ("Arc A770", 0.30, 30.0, 190.0, 60.0, 2.5),
            ("RTX 4090", 1.0, 25.0, 350.0, 80.0, 2.0),
        ],
    ),
    (
        "three",
        &[
            ("Iris Xe", 0.05, 2.0, 25.0, 10.0, 0.6),
            ("RTX 3060", 0.25, 13.0, 160.0, 45.0, 2.0),
            ("Arc B580", 0.30, 15.0, 170.0, 50.0, 2.5),
            ("RX 7900 XTX", 0.65, 20.0, 310.0, 70.0, 2.2),
        ],
    ),
    (
        "equal",
        &[
            ("RTX 3090 a", 0.60, 28.0, 320.0, 75.0, 2.0),
            ("RTX 3090 b", 0.60, 28.0, 320.0, 75.0, 2.0),
            ("RTX 3090 c", 0.60, 28.0, 320.0, 75.0, 2.0),
            ("RTX 3090 d", 0.60, 28.0, 320.0, 75.0, 2.0),
        ],
    ),
    (
        "pro",
        &[
            ("RTX 6000 Ada", 1.0, 30.0, 290.0, 80.0, 3.0),
            ("Radeon W7900", 0.60, 25.0, 270.0, 75.0, 3.5),
        ],
    ),
    (
        "mobile",
        &[
            ("Arc iGPU", 0.15, 2.0, 30.0, 12.0, 0.5),
            ("eGPU 4070", 0.45, 14.0, 185.0, 50.0, 4.0),
            ("SoC", 0.30, 3.0, 45.0, 15.0, 1.0),
        ],
    ),
];

/// One cell of the matrix, sized.
#[derive(Clone)]
pub(crate) struct Cell {
    pub(crate) trace_name: String,
    pub(crate) mix_name: &'static str,
    pub(crate) slo: f64,
    pub(crate) kappa: f64,
    pub(crate) trace: Trace,
    pub(crate) machines: Vec<Machine>,
}

/// A way to run a cell.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// The product's policy.
    Ours(Goal),
    /// A rival law; with `Energy`, rows wait for larger batches, otherwise not.
    Law(Spec, Goal),
}

/// Inputs of the trials of a cell.
impl Cell {
    /// Returns the cells of one trace, mix and target, one for each cold start.
    pub(crate) fn sized(
        (trace_name, trace): (&str, &Trace),
        (mix_name, rows): (&'static str, &[Row]),
        slo: f64,
        kappas: &[f64],
    ) -> Vec<Cell> {
        let service = size(trace, rows, slo);
        let cell = |kappa: &f64| Cell {
            trace_name: trace_name.to_owned(),
            mix_name,
            slo,
            kappa: *kappa,
            trace: trace.clone(),
            machines: machines(rows, service, Some((slo, *kappa))),
        };
        kappas.iter().map(cell).collect()
    }

    /// Runs the cell, with noise if there is a seed.
    pub(crate) fn run(&self, way: &Way, seed: Option<u64>) -> Outcome {
        self.outcome(&self.run_within(way, seed, None))
    }

    /// Runs the cell until it exceeds these limits.
    pub(crate) fn run_within(&self, way: &Way, seed: Option<u64>, give_up: Option<Worst>) -> Run {
        // As in the server's own settings.
        let policy = match *way {
            Way::Ours(goal) => Policy::Cost {
                goal,
                price_mj: 2_000,
                late_penalty_mj: 750_000,
                starts_per_hour: 600,
            },
            Way::Law(_, goal) => Policy::Manual { goal },
        };
        let options = Options { seed, give_up, ..Options::new(policy, self.slo) };
        let law = |spec: &Spec| spec.build(&self.machines, self.slo, &self.trace.times());
        match way {
            Way::Ours(_) => self.run_law(&options, None),
            Way::Law(spec, _) => self.run_law(&options, Some(law(spec).as_mut())),
        }
    }

    /// Runs the cell; a law, if there is one, decides instead of the policy.
    pub(crate) fn run_law(&self, options: &Options, law: Option<&mut dyn Law>) -> Run {
        simulate(&self.trace, &Mix::of(&self.machines), options, law)
            .expect("every adapter has times for the model")
    }

    pub(crate) fn outcome(&self, run: &Run) -> Outcome {
        Outcome::of(run, &self.machines)
    }

    /// Requests that may be late.
    pub(crate) fn late_max(&self) -> u64 {
        ((1.0 - ATTAINMENT) * self.trace.requests.len() as f64) as u64
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Way::Ours(goal) => write!(f, "{}", format!("{goal:?}").to_lowercase()),
            Way::Law(spec, Goal::Energy) => write!(f, "{spec} +wait"),
            Way::Law(spec, _) => write!(f, "{spec}"),
        }
    }
}

fn machines(rows: &[Row], service: f64, start: Option<(f64, f64)>) -> Vec<Machine> {
    let machine = |&(name, speed, idle_w, active_w, start_w, start): &Row| {
        let beta = service / speed;
        let alpha = RATIO * beta + OVERHEAD;
        let name = name.to_owned();
        Machine { name, alpha, beta, max_rows: MAX_ROWS, start, idle_w, active_w, start_w }
    };
    let mut machines: Vec<_> = rows.iter().map(machine).collect();
    if let Some((slo, kappa)) = start {
        // The slowest start takes this share of its slack.
        let of = |machine: &Machine| machine.start / (slo - machine.batch(1)).max(1e-3);
        let largest = machines.iter().map(of).fold(0.0, f64::max);
        for machine in &mut machines {
            machine.start *= kappa / largest;
        }
    } else {
        machines.iter_mut().for_each(|machine| machine.start = 0.0);
    }
    machines
}

/// Service time of a row on an adapter of speed 1.
fn size(trace: &Trace, rows: &[Row], slo: f64) -> f64 {
    let carried = |service: f64| {
        let machines = machines(rows, service, None);
        let late = (trace.requests.len() / 1000) as u64;
        let give_up = Some(Worst { late, joules: f64::INFINITY });
        let (trace, slo) = (trace.clone(), slo);
        let cell =
            Cell { trace_name: String::new(), mix_name: "", slo, kappa: 0.0, trace, machines };
        [Goal::Balanced, Goal::Energy].into_iter().all(|goal| {
            let run = cell.run_within(&Way::Law(Spec::AllOn, goal), None, give_up);
            cell.outcome(&run).attainment >= 0.999
        })
    };
    let (mut low, mut high): (f64, f64) = (1e-5, slo);
    for _ in 0..10 {
        let middle = (low * high).sqrt();
        if carried(middle) { low = middle } else { high = middle }
    }
    low * 0.9
}
