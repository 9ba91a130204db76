//! Quality of the elastic policies: compared with rival laws, as shipped and tuned in hindsight,
//! with the best known schedule for a trace that is known in advance, and with a lower bound.
//!
//! `cargo bench --bench elasticity -- TRACE.csv ... [slo=0.5,1,2,5] [kappa=0.25,...] [mix=desktop,...] [unseen=24] [out=FOLDER] [ours]`
//! prints the table and writes it with plots into the folder; `ours` runs only the product's
//! policies, `unseen` adds this many traces and mixes drawn at random. It only computes, on all
//! cores; no adapter is started.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a benchmark")]

mod cells;
mod clairvoyant;
mod evaluate;
mod frontier;
mod product;
mod report;
mod rivals;
mod routing;
mod unseen;

use cells::{Cell, MIXES};
use clairvoyant::Hindsight;
use evaluate::{Tried, evaluate};
use simulate::Trace;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const KAPPAS: &[f64] = &[0.25, 0.5, 0.75, 1.0, 1.5];
const SLOS: &[f64] = &[0.5, 1.0, 2.0, 5.0];
/// Longer traces are cut to their busiest period of this many seconds.
const LONGEST: f64 = 2.0 * 3600.0;

struct Args {
    traces: Vec<PathBuf>,
    slos: Vec<f64>,
    kappas: Vec<f64>,
    mixes: Vec<String>,
    unseen: u64,
    out: Option<PathBuf>,
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
        unseen: 0,
        out: None,
        ours: false,
    };
    for arg in std::env::args().skip(1) {
        match arg.split_once('=') {
            Some(("slo", text)) => all.slos = numbers(text),
            Some(("kappa", text)) => all.kappas = numbers(text),
            Some(("mix", text)) => all.mixes = text.split(',').map(str::to_owned).collect(),
            Some(("unseen", count)) => all.unseen = count.parse().expect("a number"),
            Some(("out", folder)) => all.out = Some(folder.into()),
            _ if arg == "ours" => all.ours = true,
            _ if arg.starts_with("--") => {}
            _ => all.traces.push(arg.into()),
        }
    }
    all
}

/// A trace, a mix and a target; all of its cold starts form one unit of work.
struct Job {
    name: String,
    trace: Trace,
    mix: (&'static str, Vec<cells::Row>),
    slo: f64,
}

fn jobs(args: &Args) -> Vec<Job> {
    let mut jobs = Vec::new();
    for path in &args.traces {
        let trace = Trace::open(path).expect("a trace").busiest(LONGEST);
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        for slo in &args.slos {
            for mix in MIXES.iter().filter(|(name, _)| args.mixes.iter().any(|mix| mix == name)) {
                let (name, trace) = (name.clone().unwrap_or_default(), trace.clone());
                jobs.push(Job { name, trace, mix: (mix.0, mix.1.to_vec()), slo: *slo });
            }
        }
    }
    for seed in 1..=args.unseen {
        let (name, trace, rows) = unseen::draw(seed);
        // Each kind of trace is combined with each target.
        let slo = args.slos[(seed / 4) as usize % args.slos.len()];
        jobs.push(Job { name, trace, mix: ("unseen", rows), slo });
    }
    // Jobs are taken from the end, so long targets come first: their bound takes longest.
    jobs.sort_by(|a, b| b.slo.total_cmp(&a.slo));
    jobs
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "product") {
        let words: Vec<String> = words.into_iter().filter(|word| word != "product").collect();
        return product::main(&words);
    }
    let args = args();
    let (jobs, results) = (Mutex::new(jobs(&args)), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&args, &jobs, &results));
        }
    });
    let mut results = results.into_inner().expect("no panic");
    if !results.is_empty() {
        println!("{}", report::report(&mut results, args.out.as_deref()));
    }
}

fn work(args: &Args, jobs: &Mutex<Vec<Job>>, results: &Mutex<Vec<Tried>>) {
    loop {
        let job = jobs.lock().expect("no panic").pop();
        let Some(Job { name, trace, mix, slo }) = job else { return };
        let cells = Cell::sized((&name, &trace), (mix.0, &mix.1), slo, &args.kappas);
        let hindsight = cells.first().filter(|_| !args.ours).map(Hindsight::of);
        for cell in cells {
            let result = evaluate(cell, hindsight.as_ref());
            eprintln!("{}", result.line());
            results.lock().expect("no panic").push(result);
        }
        // Intermediate results are written, so that they can be read before the end.
        if args.out.is_some() {
            report::report(&mut results.lock().expect("no panic"), args.out.as_deref());
        }
    }
}

/// Writes a file of the report.
fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    std::fs::write(folder.join(name), text).expect("the file can be written");
}
