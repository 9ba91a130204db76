//! How good the elastic policies are: against laws of others, against what hindsight allows.
//! `cargo bench --bench elasticity -- TRACE.csv ...` prints the table.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark")]

mod cells;

use cells::{ATTAINMENT, Cell, MIXES, Way};
use concertina::schedule::Goal;
use concertina::simulate::laws::{Family, Spec};
use concertina::simulate::{Outcome, Trace};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

const GOALS: [Goal; 3] = [Goal::Latency, Goal::Balanced, Goal::Energy];
const KAPPAS: &[f64] = &[0.25, 0.5, 0.75, 1.0, 1.5];
const SLOS: &[f64] = &[0.5, 1.0, 2.0, 5.0];
const TUNED: &[Family] =
    &[Family::Static, Family::Kpa, Family::Ray, Family::Hpa, Family::Idle, Family::Ski];

struct Args {
    traces: Vec<String>,
    slos: Vec<f64>,
    kappas: Vec<f64>,
    mixes: Vec<String>,
    tuned: bool,
    /// Only our own policies.
    ours: bool,
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(',').map(|number| number.parse().expect("a number")).collect()
}

fn args() -> Args {
    let mut all = Args {
        traces: Vec::new(),
        slos: SLOS.to_vec(),
        kappas: KAPPAS.to_vec(),
        mixes: MIXES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        tuned: false,
        ours: false,
    };
    for arg in std::env::args().skip(1) {
        match arg.split_once('=') {
            Some(("slo", text)) => all.slos = numbers(text),
            Some(("kappa", text)) => all.kappas = numbers(text),
            Some(("mix", text)) => all.mixes = text.split(',').map(str::to_owned).collect(),
            _ if arg == "tuned" => all.tuned = true,
            _ if arg == "ours" => all.ours = true,
            _ if arg.starts_with("--") => {}
            _ => all.traces.push(arg),
        }
    }
    all
}

fn main() {
    let args = args();
    let mut jobs = Vec::new();
    for path in &args.traces {
        let trace = Trace::open(Path::new(path)).expect("a trace").busiest(2.0 * 3600.0);
        let name = Path::new(path).file_stem().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        for mix in MIXES.iter().filter(|(name, _)| args.mixes.iter().any(|mix| mix == name)) {
            for slo in &args.slos {
                jobs.push((name.clone(), trace.clone(), *mix, *slo));
            }
        }
    }
    let jobs = Mutex::new(jobs);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let job = jobs.lock().expect("no panic").pop();
                    let Some((name, trace, mix, slo)) = job else { return };
                    for cell in Cell::sized((&name, &trace), mix, slo, &args.kappas) {
                        let result = evaluate(&cell, args.tuned, args.ours);
                        results.lock().expect("no panic").push(result);
                    }
                }
            });
        }
    });
    print(results.into_inner().expect("no panic"));
}

struct Result {
    cell: Cell,
    outcomes: Vec<(String, Outcome)>,
}

fn evaluate(cell: &Cell, tuned: bool, ours: bool) -> Result {
    let mut outcomes = Vec::new();
    for goal in GOALS {
        let way = Way::Ours(goal);
        outcomes.push((way.to_string(), cell.run(&way, None)));
    }
    for spec in Spec::defaults().into_iter().filter(|_| !ours) {
        for goal in [Goal::Balanced, Goal::Energy] {
            let way = Way::Law(spec, goal);
            outcomes.push((way.to_string(), cell.run(&way, None)));
        }
    }
    for family in TUNED.iter().filter(|_| tuned) {
        for goal in [Goal::Balanced, Goal::Energy] {
            let grid = Spec::grid(*family, cell.machines.len());
            let all = grid.into_iter().map(|spec| cell.run(&Way::Law(spec, goal), None));
            let good = all.filter(|outcome| outcome.attainment >= ATTAINMENT);
            let best = good.min_by(|a, b| a.joules.total_cmp(&b.joules));
            if let Some(best) = best {
                let wait = if goal == Goal::Energy { " +wait" } else { "" };
                outcomes.push((format!("{family} tuned{wait}"), best));
            }
        }
    }
    Result { cell: cell.clone(), outcomes }
}

fn print(mut results: Vec<Result>) {
    results.sort_by(|a, b| {
        let key = |r: &Result| (r.cell.trace_name.clone(), r.cell.mix_name);
        let order = |r: &Result| (r.cell.slo, r.cell.kappa);
        key(a).cmp(&key(b)).then(order(a).partial_cmp(&order(b)).expect("numbers"))
    });
    let mut ratios: BTreeMap<String, (Vec<f64>, usize)> = BTreeMap::new();
    for Result { cell, outcomes } in &results {
        let good = outcomes.iter().filter(|(_, outcome)| outcome.attainment >= ATTAINMENT);
        let best = good.map(|(_, outcome)| outcome.joules).fold(f64::INFINITY, f64::min);
        println!(
            "{} {} slo {} kappa {} ({} requests)",
            cell.trace_name,
            cell.mix_name,
            cell.slo,
            cell.kappa,
            cell.trace.requests.len()
        );
        for (name, outcome) in outcomes {
            println!(
                "  {name:40} {:7.3} %  p50 {:.3} p99 {:.3}  {:9.0} J ({:.3})  {:7.0} ds  {:4} act {:4} flaps  {:.2} us",
                outcome.attainment * 100.0,
                outcome.p50_s,
                outcome.p99_s,
                outcome.joules,
                outcome.joules / best,
                outcome.device_seconds,
                outcome.activations,
                outcome.flaps,
                outcome.decision_us,
            );
            let entry = ratios.entry(name.clone()).or_default();
            if outcome.attainment >= ATTAINMENT {
                entry.0.push(outcome.joules / best);
                entry.1 += 1;
            }
        }
    }
    println!("\nenergy over the cheapest that reaches 99 % in the cell");
    for (name, (ratios, good)) in &ratios {
        let mean = (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len().max(1) as f64).exp();
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "  {name:40} {good:3} of {} cells, geomean {mean:.3}, worst {worst:.3}",
            results.len()
        );
    }
}
