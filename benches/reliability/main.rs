//! Figures for RELIABILITY.md: `cargo bench --bench reliability -- PART… NAME=NUMBER…`
//!
//! | part | what |
//! |---|---|
//! | `faults` | every fault at every step of one worker and of all, and random faults from `seeds=500`, with drivers from 50 at most |
//! | `steps` | load steps from idle to `clients=64` and back, `cycles=100` times |
//! | `overload` | up to five times as many requests as can be served, for `seconds=10` each |
//! | `clients` | `slow=200` clients that send a byte at a time; as many h2load connections, if installed |
//! | `soak` | `requests=1000000` in bursts, between which adapters turn off |
//!
//! Without a part all are run. The adapters are those among the arguments, or all for which
//! `tests/software_adapters.sh` finds drivers: `cpu`, `lavapipe` (one), `three` (two lavapipe, one
//! SwiftShader); `drivers=FILE:FILE…` selects other Vulkan drivers. Scripts of faults run `jobs=4`
//! at a time; `crash`, `hang` … select the faults. Everything is bounded and on loopback.
#![allow(clippy::print_stdout, reason = "a report")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails ends the bench")]
#![allow(unreachable_pub, reason = "shared with a test")]
#![allow(clippy::disallowed_methods, reason = "reads the clock and the environment")]

#[path = "../../tests/reliability/overload.rs"]
mod crowd;
/// Every fault at every step, and random faults.
mod faults;
#[path = "../../tests/reliability/faulty.rs"]
mod faulty;
/// Too many requests, and slow clients.
mod overload;
/// Load steps a hundred times, and a million requests.
mod soak;
#[path = "../../tests/reliability/steps.rs"]
mod steps;

use faulty::Faulty;
use std::path::PathBuf;
use std::process::Command;
use testkit::Setup;
use testkit::models::package;

const PARTS: [&str; 5] = ["faults", "steps", "overload", "clients", "soak"];
const MIXES: [&str; 3] = ["cpu", "lavapipe", "three"];

fn main() {
    // `cargo test` runs benches once without this flag: there is nothing to assert here.
    if !is_named("--bench") {
        return;
    }
    let chosen: Vec<_> = PARTS.into_iter().filter(|part| is_named(part)).collect();
    let parts = if chosen.is_empty() { PARTS.to_vec() } else { chosen };
    for part in parts {
        println!("\n## {part}\n");
        match part {
            "faults" => faults::report(number("seeds", 500)),
            "steps" => soak::steps(number("clients", 64), number("cycles", 100)),
            "overload" => overload::report(number("seconds", 10)),
            "clients" => overload::slow(number("slow", 200)),
            _ => soak::soak(number("requests", 1_000_000)),
        }
    }
}

fn is_named(name: &str) -> bool {
    std::env::args().any(|arg| arg == name)
}

/// The value of the argument `name=…`.
fn given<T: std::str::FromStr>(name: &str) -> Option<T> {
    let given = |arg: String| arg.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
    std::env::args().find_map(given)
}

fn number(name: &str, default: u64) -> u64 {
    given(name).unwrap_or(default)
}

/// The adapters of a run.
struct Mix {
    name: &'static str,
    /// Vulkan drivers and their cache; without them only the CPU is used.
    drivers: Option<(String, PathBuf)>,
}

impl Mix {
    fn faulty(&self) -> Faulty {
        let at_once = given("jobs").unwrap_or(Faulty::default().at_once);
        Faulty { drivers: self.drivers.clone(), at_once }
    }

    fn setup(&self) -> Setup {
        match &self.drivers {
            Some((drivers, cache)) => Setup::software(drivers, cache),
            None => Setup::cpu(),
        }
    }
}

fn mixes() -> Vec<Mix> {
    let cache = std::env::temp_dir().join("concertina-bench-cache");
    if let Some(drivers) = given("drivers") {
        return vec![Mix { name: "given", drivers: Some((drivers, cache)) }];
    }
    let mut mixes = vec![Mix { name: "cpu", drivers: None }];
    let folder = std::env::temp_dir().join("concertina-bench-drivers");
    let script = package().join("tests/software_adapters.sh");
    let found = Command::new("bash").arg(script).arg(&folder).output();
    let found = found.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let drivers: String = found.unwrap_or_default();
    if let Some(first) = drivers.split(':').next().filter(|first| !first.is_empty()) {
        mixes.push(Mix { name: "lavapipe", drivers: Some((first.to_owned(), cache.clone())) });
        mixes.push(Mix { name: "three", drivers: Some((drivers, cache)) });
    }
    let any = MIXES.iter().any(|name| is_named(name));
    mixes.retain(|mix| !any || is_named(mix.name));
    mixes
}
