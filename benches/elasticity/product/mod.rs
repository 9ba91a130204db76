//! Quality of the policy at the product's own defaults, where a start takes ten times the target.
//!
//! `cargo bench --bench elasticity -- product TRACE.csv ... [seeds=3] [ours] [save=FILE.csv]`
//! prints attainment and energy of every way over the same cells, the cells in which a rival as
//! shipped is at least as good in both, and the figures of single situations with their goals.
//! `save` writes the results of the product's policy in each cell; `landed.csv` beside this file
//! was written in this way with the policy that serves as the reference.

mod cells;
mod lines;
mod traces;

use cells::{MIXES, mix, rivals, run, with_cpu};
use simulate::laws::Spec;
use simulate::{Outcome, Trace};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

/// Seconds of a row on the CPU for the repeated runs of the cells.
const CPU_ROWS: [f64; 3] = [0.04, 0.08, 0.2];
/// Attainment and joules of each cell under the policy before these rules (459c4e9).
const LANDED: &str = include_str!("landed.csv");
const WH: f64 = 3600.0;

/// A way to run a cell.
#[derive(Clone, Debug, PartialEq)]
enum Way {
    /// The default settings, and a CPU with these seconds for one row, if any.
    Ours(Option<f64>),
    Noisy(u64),
    Law(Spec),
}

struct Cell {
    trace_name: String,
    mix_name: &'static str,
    shared: bool,
    trace: Trace,
    outcomes: Vec<(Way, Outcome)>,
}

impl Cell {
    fn find(&self, way: &Way) -> Option<&Outcome> {
        self.outcomes.iter().find(|(other, _)| other == way).map(|(_, outcome)| outcome)
    }

    /// Returns the rivals that have at least the product's attainment with 2 % less energy.
    fn dominators(&self) -> Vec<String> {
        let Some(ours) = self.find(&Way::Ours(None)) else { return Vec::new() };
        let better = |(way, other): &(Way, Outcome)| match way {
            Way::Law(spec) => (other.attainment >= ours.attainment
                && other.joules <= 0.98 * ours.joules)
                .then(|| spec.to_string()),
            _ => None,
        };
        self.outcomes.iter().filter_map(better).collect()
    }

    /// Attainment and joules of the reference policy.
    fn landed(&self) -> Option<(f64, f64)> {
        let key = format!("{},{},", self.trace_name, self.mix_name);
        let line = LANDED.lines().find_map(|line| line.strip_prefix(&key))?;
        let (attainment, joules) = line.split_once(',')?;
        Some((attainment.parse().ok()?, joules.parse().ok()?))
    }
}

/// Runs the benchmark.
pub(crate) fn main(args: &[String]) {
    let (mut seeds, mut only_ours, mut save, mut only) = (0, false, None, None);
    let mut traces: Vec<(String, bool, Trace)> = Vec::new();
    for arg in args {
        match arg.split_once('=') {
            Some(("seeds", count)) => seeds = count.parse().expect("a number"),
            Some(("save", file)) => save = Some(file.to_owned()),
            Some(("only", part)) => only = Some(part.to_owned()),
            _ if arg == "ours" => only_ours = true,
            _ if arg.starts_with("--") => {}
            _ => {
                let path = Path::new(arg);
                let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
                traces.push((name, true, Trace::open(path).expect("a trace")));
            }
        }
    }
    let only = only.as_deref();
    let shared: Vec<(String, Trace)> =
        traces.iter().map(|(name, _, trace)| (name.clone(), trace.clone())).collect();
    if only != Some("lines") {
        let made = traces::all().into_iter().map(|(name, trace)| (name.to_owned(), false, trace));
        traces.extend(made);
        let wanted = |name: &str| only.is_none_or(|part| name.contains(part));
        traces.retain(|(name, ..)| wanted(name));
        let cells = run_cells(&traces, &ways(seeds, only_ours));
        print_table(&cells);
        print_sums(&cells);
        if let Some(file) = save {
            std::fs::write(file, saved(&cells)).expect("the file can be written");
        }
    }
    if only.is_none_or(|part| part == "lines") {
        lines::print(&shared);
    }
}

fn ways(seeds: u64, only_ours: bool) -> Vec<Way> {
    let mut ways = vec![Way::Ours(None)];
    ways.extend(CPU_ROWS.map(|row| Way::Ours(Some(row))));
    ways.extend((1..=seeds).map(Way::Noisy));
    if !only_ours {
        ways.extend(rivals().into_iter().map(Way::Law));
    }
    ways
}

fn run_cells(traces: &[(String, bool, Trace)], ways: &[Way]) -> Vec<Cell> {
    let cell = |(name, shared, trace): &(String, bool, Trace), mix_name| {
        let (trace_name, trace, shared) = (name.clone(), trace.clone(), *shared);
        Cell { trace_name, mix_name, shared, trace, outcomes: Vec::new() }
    };
    let mut cells: Vec<Cell> =
        traces.iter().flat_map(|trace| MIXES.map(|mix_name| cell(trace, mix_name))).collect();
    let jobs: Vec<(usize, Way)> =
        (0..cells.len()).flat_map(|at| ways.iter().map(move |way| (at, way.clone()))).collect();
    let done = in_parallel(&jobs, |(at, way)| outcome(&cells[*at], way));
    for ((at, way), outcome) in jobs.into_iter().zip(done) {
        cells[at].outcomes.push((way, outcome));
    }
    cells
}

fn outcome(cell: &Cell, way: &Way) -> Outcome {
    let mix = mix(cell.mix_name);
    match way {
        Way::Ours(cpu) => run(&cell.trace, &with_cpu(mix, *cpu), None, None),
        Way::Noisy(seed) => run(&cell.trace, &mix, None, Some(*seed)),
        Way::Law(law) => run(&cell.trace, &mix, Some(law), None),
    }
}

/// Does all jobs on all cores; results are in the order of the jobs.
pub(crate) fn in_parallel<T: Sync, R: Send>(jobs: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (Mutex::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = {
                        let mut next = next.lock().expect("no panic");
                        *next += 1;
                        *next - 1
                    };
                    let Some(one) = jobs.get(at) else { return };
                    let result = job(one);
                    done.lock().expect("no panic").insert(at, result);
                }
            });
        }
    });
    done.into_inner().expect("no panic").into_values().collect()
}

fn print_table(cells: &[Cell]) {
    let Some(first) = cells.first() else { return };
    let heads: Vec<String> = first.outcomes.iter().map(|(way, _)| name(way)).collect();
    println!("| trace | mix | {} | landed |", heads.join(" | "));
    println!("|---|---{}|---|", "|---".repeat(heads.len()));
    for cell in cells {
        let figures = cell.outcomes.iter().map(|(_, outcome)| figures(outcome));
        let landed = cell.landed().map_or(String::new(), |(attainment, joules)| {
            format!("{:.2} %, {:.1} Wh", 100.0 * attainment, joules / WH)
        });
        let figures = figures.collect::<Vec<_>>().join(" | ");
        println!("| {} | {} | {figures} | {landed} |", cell.trace_name, cell.mix_name);
    }
}

fn name(way: &Way) -> String {
    match way {
        Way::Ours(None) => "ours".to_owned(),
        Way::Ours(Some(row)) => format!("ours, CPU {:.0} ms", row * 1e3),
        Way::Noisy(seed) => format!("noise {seed}"),
        Way::Law(spec) => spec.to_string(),
    }
}

pub(crate) fn figures(outcome: &Outcome) -> String {
    format!("{:.2} %, {:.1} Wh", 100.0 * outcome.attainment, outcome.joules / WH)
}

fn print_sums(cells: &[Cell]) {
    for (name, shared) in
        [("shared traces", Some(true)), ("made traces", Some(false)), ("all", None)]
    {
        let cells: Vec<&Cell> =
            cells.iter().filter(|cell| shared.is_none_or(|shared| cell.shared == shared)).collect();
        if cells.is_empty() {
            continue;
        }
        println!("\n{name}, {} cells:", cells.len());
        let ways = cells.first().map_or(&[][..], |cell| &cell.outcomes[..]);
        for (way, _) in ways {
            print_sum(&cells, way);
        }
        let dominated = cells.iter().filter(|cell| !cell.dominators().is_empty());
        let dominated: Vec<String> = dominated
            .map(|cell| {
                format!("{} {} by {}", cell.trace_name, cell.mix_name, cell.dominators().join(" "))
            })
            .collect();
        println!("  dominated by a rival as shipped: {} {dominated:?}", dominated.len());
    }
}

fn print_sum(cells: &[&Cell], way: &Way) {
    let outcomes: Vec<_> = cells.iter().filter_map(|cell| cell.find(way)).collect();
    let attainments: Vec<f64> = outcomes.iter().map(|outcome| 100.0 * outcome.attainment).collect();
    let mean = attainments.iter().sum::<f64>() / attainments.len().max(1) as f64;
    let least = attainments.iter().copied().fold(f64::INFINITY, f64::min);
    let ratios = cells.iter().filter_map(|cell| {
        Some((cell.find(way)?.joules.max(1.0) / cell.landed()?.1.max(1.0)).ln())
    });
    let ratios: Vec<f64> = ratios.collect();
    let ratio = (ratios.iter().sum::<f64>() / ratios.len().max(1) as f64).exp();
    let highest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max).exp();
    let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min).exp();
    let good = attainments.iter().filter(|attainment| **attainment >= 99.0).count();
    let starts: u64 = outcomes.iter().map(|outcome| outcome.activations).sum();
    println!(
        "  {:20} mean {mean:.3} %, least {least:.2} %, {good} cells >= 99 %, energy over landed {ratio:.3} ({lowest:.2} to {highest:.2}), {starts} starts",
        name(way)
    );
}

fn saved(cells: &[Cell]) -> String {
    let line = |cell: &Cell| {
        let outcome = cell.find(&Way::Ours(None))?;
        Some(format!(
            "{},{},{:.6},{:.1}\n",
            cell.trace_name, cell.mix_name, outcome.attainment, outcome.joules
        ))
    };
    cells.iter().filter_map(line).collect()
}
