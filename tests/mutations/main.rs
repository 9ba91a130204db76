//! Compiles the scheduler with one deliberate bug after the other and checks that its tests fail: a
//! test that cannot fail proves nothing. The scheduler uses only the standard library, so rustc
//! compiles each variant in about a second. A bug is caught if a unit test of the scheduler or the
//! simulation fails or hangs.
//!
//! `CONCERTINA_TEST_MUTANTS=K/N` selects every N-th bug, beginning with number K from 0; without it
//! all bugs are tested.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time and read the environment")]
#![allow(clippy::print_stderr, reason = "a bug that no test fails on is reported at once")]

mod adapters;
mod admission;
mod elastic;
mod eviction;
mod memory;
mod requests;
mod routing;
mod scaling;
mod shadow;
mod shares;
mod waits;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Timeout of a variant, as a multiple of the time without a bug.
const HANG: u32 = 4;
/// Least timeout of a variant.
const HANG_MIN: Duration = Duration::from_secs(60);
/// Timeout of the tests without a bug, long enough for a busy machine.
const HEALTHY_MAX: Duration = Duration::from_secs(1200);
/// Variants that are compiled and run at the same time.
const TESTERS: usize = 2;
/// The scheduler, in the folder of a variant.
const LIBRARY: &str = "schedule/lib.rs";
const THEMES: [&[Mutant]; 11] = [
    requests::MUTANTS,
    adapters::MUTANTS,
    admission::MUTANTS,
    routing::MUTANTS,
    scaling::MUTANTS,
    shadow::MUTANTS,
    shares::MUTANTS,
    waits::MUTANTS,
    memory::MUTANTS,
    elastic::MUTANTS,
    eviction::MUTANTS,
];

/// One bug: a file of `src/schedule`, a text that occurs in it once, and its replacement.
pub(crate) struct Mutant {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    bug: &'static str,
}

pub(crate) const fn mutant(
    bug: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { file, from, to, bug }
}

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets this variable").into()
}

/// Copies the scheduler to `folder`, with the bug if there is one.
fn write_crate(folder: &Path, mutant: Option<&Mutant>) {
    let (from, room) = (root().join("src/schedule"), folder.join("schedule"));
    copy_sources(&from, &room);
    copy_sources(&from.join("tests"), &room.join("tests"));
    if let Some(mutant) = mutant {
        let text = fs::read_to_string(room.join(mutant.file)).unwrap();
        fs::write(room.join(mutant.file), text.replace(mutant.from, mutant.to)).unwrap();
    }
}

fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let entries = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.is_file()) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn rustc(folder: &Path, args: &[&str]) -> Output {
    let compiler = option_env!("RUSTC").unwrap_or("rustc");
    let output = Command::new(compiler).current_dir(folder).args(args).output();
    output.expect("rustc runs")
}

/// Builds one binary incrementally: only one function differs from the variant before.
/// A variant that does not compile is an error, since it proves nothing.
fn build(folder: &Path, name: &str, args: &[&str]) {
    let common = ["--edition=2024", "--cap-lints=allow", "-Cincremental=incremental"];
    let built = rustc(folder, &[&common, args].concat());
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "'{name}' does not compile: {errors}");
}

/// True if unit tests and simulation pass on the scheduler with this bug, or without any, in time.
fn passes(folder: &Path, mutant: Option<&Mutant>, limit: Duration) -> bool {
    write_crate(folder, mutant);
    let name = mutant.map_or("no bug", |mutant| mutant.bug);
    // Compiling the unit tests with optimisation takes longer than it saves.
    build(folder, name, &["--test", "--crate-name=schedule", LIBRARY, "-ounits"]);
    runs_well(&folder.join("units"), limit) && {
        build_simulation(folder, name);
        runs_well(&folder.join("simulation"), limit)
    }
}

fn build_simulation(folder: &Path, name: &str) {
    let optimised = "-Copt-level=1";
    build(folder, name, &[optimised, "--crate-type=lib", "--crate-name=schedule", LIBRARY]);
    let main = root().join("tests/simulation/main.rs");
    let room = "--extern=schedule=libschedule.rlib";
    build(folder, name, &[optimised, "--test", &main.to_string_lossy(), room, "-osimulation"]);
}

/// True if the test binary passes in time. It is killed at the first test that fails, or if it
/// hangs.
fn runs_well(binary: &Path, limit: Duration) -> bool {
    let mut command = Command::new(binary);
    command.env("RUST_BACKTRACE", "0").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the test binary starts");
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let (sender, verdict) = mpsc::channel();
    let reader = thread::spawn(move || {
        let failed = lines.map_while(Result::ok).any(|line| line.ends_with("FAILED"));
        sender.send(failed).expect("the receiver exists");
    });
    let ended = verdict.recv_timeout(limit) == Ok(false);
    if !ended {
        child.kill().expect("failed to kill the test binary");
    }
    let passed = child.wait().expect("failed to wait for the test binary").success();
    reader.join().expect("the reader panicked");
    ended && passed
}

/// The selected part of the bugs: the index of the first one, and the step to the next.
fn share(text: Option<&str>) -> (usize, usize) {
    let Some(text) = text else { return (0, 1) };
    let parsed = text.split_once('/').and_then(|(first, step)| {
        Some((first.parse().ok()?, step.parse().ok()?)).filter(|(first, step)| first < step)
    });
    parsed.unwrap_or_else(|| panic!("CONCERTINA_TEST_MUTANTS: '{text}' is not K/N with K < N"))
}

#[test]
fn all_shares_together_are_all_bugs() {
    let count = THEMES.into_iter().flatten().count();
    let mut seen: Vec<_> = (0..4)
        .flat_map(|first| {
            let (first, step) = share(Some(&format!("{first}/4")));
            (0..count).skip(first).step_by(step)
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..count));
    assert_eq!(share(None), (0, 1));
}

#[test]
fn every_bug_has_its_place() {
    let misplaced = |mutant: &&Mutant| {
        let text = fs::read_to_string(root().join("src/schedule").join(mutant.file)).unwrap();
        text.matches(mutant.from).count() != 1
    };
    let misplaced = THEMES.into_iter().flatten().filter(misplaced).map(|mutant| mutant.bug);
    let misplaced: Vec<_> = misplaced.collect();
    assert!(
        misplaced.is_empty(),
        "bugs with code that does not occur exactly once: {misplaced:#?}"
    );
}

#[test]
fn every_bug_is_caught() {
    let base = std::env::temp_dir().join(format!("concertina-mutants-{}", std::process::id()));
    let begin = Instant::now();
    assert!(passes(&base.join("healthy"), None, HEALTHY_MAX), "the tests fail without a bug");
    let limit = (begin.elapsed() * HANG).max(HANG_MIN);
    let (first, step) = share(std::env::var("CONCERTINA_TEST_MUTANTS").ok().as_deref());
    let mutants: Vec<_> = THEMES.into_iter().flatten().skip(first).step_by(step).collect();
    eprintln!("{} bugs: every {step}th from number {first}", mutants.len());
    let next = AtomicUsize::new(0);
    let hunt = |hunter: usize| {
        let folder = base.join(hunter.to_string());
        let mut survivors = Vec::new();
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            if passes(&folder, Some(mutant), limit) {
                eprintln!("not caught: {}", mutant.bug);
                survivors.push(mutant.bug);
            }
        }
        survivors
    };
    let hunt_ref = &hunt;
    let survivors: Vec<_> = thread::scope(|scope| {
        let hunts: Vec<_> =
            (0..TESTERS).map(|hunter| scope.spawn(move || hunt_ref(hunter))).collect();
        hunts.into_iter().flat_map(|hunt| hunt.join().expect("a thread panicked")).collect()
    });
    fs::remove_dir_all(&base).unwrap();
    assert!(survivors.is_empty(), "not caught: {survivors:#?}");
}
