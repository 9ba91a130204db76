//! What RELIABILITY.md promises, in figures: every fault at every step of a worker's life, in one
//! worker and in all, and everything by chance. `cargo bench --bench reliability -- SEEDS MIX`, with
//! 500 seeds where none are said, on the adapters that are named: `cpu`, `lavapipe` (one) or
//! `three` (two lavapipe, one SwiftShader), or all of them where `tests/software_adapters.sh` finds
//! their drivers. Everything is on loopback, and ends by itself.
#![allow(clippy::print_stdout, reason = "a report")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails ends the bench")]
#![allow(unreachable_pub, reason = "shared with a test")]
#![allow(clippy::disallowed_methods, reason = "reads the clock and the environment")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/reliability/faulty.rs"]
mod faulty;

use common::models::package;
use concertina::wire::Injected;
use faulty::{Faulty, Outcomes, every_seed, every_step};
use std::process::Command;

/// Seeds on the CPU if none are asked for; on software adapters a tenth of them.
const SEEDS: u64 = 500;
const MIXES: [&str; 3] = ["cpu", "lavapipe", "three"];
/// Of each step of a worker, for each fault.
const CHANCE: f64 = 0.005;

fn main() {
    let seeds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(SEEDS);
    println!(
        "| adapters | fault | in | scripts | requests | right | honest errors | wrong | lost | \
         miscounted | not recovered | slowest |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let named = |name: &str| std::env::args().any(|arg| arg == name);
    let any = MIXES.iter().any(|name| named(name));
    let mut all = Outcomes::default();
    for (name, adapters, seeds) in mixes(seeds).into_iter().filter(|(name, ..)| !any || named(name))
    {
        for fault in Injected::ALL {
            for (which, workers) in [("one worker", Some(1)), ("all workers", None)] {
                let outcomes = every_step(&adapters, fault, workers);
                row((name, fault.as_str(), which), &outcomes);
                all += outcomes;
            }
        }
        let outcomes = every_seed(&adapters, seeds, CHANCE);
        row((name, "all but wrong answers", "by chance"), &outcomes);
        all += outcomes;
    }
    row(("all", "", ""), &all);
}

fn row((adapters, fault, which): (&str, &str, &str), outcomes: &Outcomes) {
    println!(
        "| {adapters} | {fault} | {which} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1?} |",
        outcomes.scripts,
        outcomes.sent,
        outcomes.right,
        outcomes.failed,
        outcomes.wrong,
        outcomes.lost,
        outcomes.miscounted,
        outcomes.not_recovered,
        outcomes.slowest
    );
}

/// Adapters to break, with how often they are by chance.
fn mixes(seeds: u64) -> Vec<(&'static str, Faulty, u64)> {
    let mut mixes = vec![("cpu", Faulty::cpu(), seeds)];
    let folder = std::env::temp_dir().join("concertina-bench-drivers");
    let script = package().join("tests/software_adapters.sh");
    let found = Command::new("bash").arg(script).arg(&folder).output();
    let found = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let drivers = found.unwrap_or_default();
    let cache = std::env::temp_dir().join("concertina-bench-cache");
    let software = |drivers: &str| Faulty { software: Some((drivers.to_owned(), cache.clone())) };
    if let Some(first) = drivers.split(':').next().filter(|first| !first.is_empty()) {
        mixes.push(("lavapipe", software(first), seeds / 10));
        mixes.push(("three", software(&drivers), seeds / 10));
    }
    mixes
}
