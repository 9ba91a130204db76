//! Compiles the scheduler with one deliberate bug after the other and expects the simulation to
//! fail: a test that cannot fail proves nothing. The room uses only the standard library, so each
//! variant takes rustc a few seconds. Caught is what fails the simulation or a unit test of the
//! room, or makes one of them hang.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Far longer than a healthy simulation takes.
const HANG: Duration = Duration::from_secs(60);
/// Variants that are compiled and run at the same time.
const HUNTERS: usize = 2;

/// One bug: a file of `src/schedule`, a text that stands in it once, and what to put there.
struct Mutant {
    file: &'static str,
    from: &'static str,
    to: &'static str,
    bug: &'static str,
}

const fn mutant(
    bug: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { file, from, to, bug }
}

const MUTANTS: &[Mutant] = &[
    mutant(
        "a batch is one row too large",
        "queue.rs",
        "rows.saturating_add(next.rows) <= max_rows",
        "rows.saturating_add(next.rows) <= max_rows + 1",
    ),
    mutant(
        "shapes are mixed in a batch",
        "scheduler.rs",
        "self.admit(now, request, Lane { model, shape }, rows);",
        "let _ = shape; self.admit(now, request, Lane { model, shape: super::types::Shape(0) }, rows);",
    ),
    mutant(
        "the poisonous get company again",
        "scheduler.rs",
        "request.alone = true;",
        "request.alone = false;",
    ),
    mutant(
        "a neighbour is blamed for the poisonous",
        "scheduler.rs",
        "if single {",
        "if single || true {",
    ),
    mutant(
        "a caller that went away runs all the same",
        "scheduler.rs",
        "self.queue.remove(id);\n        self.flying.remove(&id);",
        "self.flying.remove(&id);",
    ),
    mutant(
        "the queue has no bound",
        "scheduler.rs",
        "if full {",
        "if full && self.closing.is_some() {",
    ),
    mutant(
        "the end of any batch frees the adapter",
        "scheduler.rs",
        "self.current(id, incarnation).filter(|a| holds(&a.state, batch))?",
        "self.adapters.get_mut(&id)?",
    ),
    mutant(
        "outputs that nobody is owed are kept",
        "scheduler.rs",
        "return self.actions.push_back(Action::Discard { batch });",
        "return;",
    ),
    mutant(
        "a lost batch is forgotten",
        "scheduler.rs",
        "self.retry(batch, fault);",
        "let _ = batch;",
    ),
    mutant(
        "a request is tried for ever",
        "scheduler.rs",
        "if request.retries > self.settings.retries_max {",
        "if request.retries > 1_000_000 {",
    ),
    mutant(
        "tries are not counted",
        "scheduler.rs",
        "request.retries += 1;",
        "request.retries += 0;",
    ),
    mutant(
        "a request is tried once too little",
        "scheduler.rs",
        "if request.retries > self.settings.retries_max {",
        "if request.retries >= self.settings.retries_max {",
    ),
    mutant(
        "a request that runs again loses its place",
        "scheduler.rs",
        "request.retries += 1;",
        "request.retries += 1; self.orders += 1; request.order = self.orders;",
    ),
    mutant(
        "the backoff has no bound",
        "scheduler.rs",
        "saturating_mul(1 << doublings).min(self.settings.backoff_max)",
        "saturating_mul(1 << doublings)",
    ),
    mutant(
        "the backoff does not grow",
        "scheduler.rs",
        "saturating_mul(1 << doublings)",
        "saturating_mul(1)",
    ),
    mutant(
        "the backoff is not waited for",
        "scheduler.rs",
        "let until = now + self.backoff(adapter.strikes);",
        "let until = now;",
    ),
    mutant(
        "faults are never forgiven",
        "scheduler.rs",
        "adapter.strikes = 0;",
        "adapter.strikes += 0;",
    ),
    mutant(
        "a worker is not killed after a fault",
        "scheduler.rs",
        "self.become_stopping(id, State::Stopping { since: now, killed: true, fault: Some(fault) });",
        "self.become_stopping(id, State::Stopping { since: now, killed: false, fault: Some(fault) });",
    ),
    mutant(
        "an adapter counts as off before its worker is gone",
        "scheduler.rs",
        "State::Stopping { since: now, killed: false, fault: None });",
        "State::Off);",
    ),
    mutant(
        "an adapter whose worker cannot be reaped is used again",
        "watch.rs",
        "adapter.state = State::Unreaped { since: now, fault };",
        "let _ = fault; adapter.state = State::Off;",
    ),
    mutant(
        "requests wait for a worker that cannot be reaped",
        "scheduler.rs",
        "State::Unreaped { .. } => false,\n                State::Quarantined",
        "State::Unreaped { .. } => true,\n                State::Quarantined",
    ),
    mutant(
        "progress does not count",
        "scheduler.rs",
        "            *progress = now;",
        "            let _ = progress;",
    ),
    mutant(
        "the silent are never given up",
        "watch.rs",
        "deadline.is_some_and(|deadline| deadline <= now)",
        "deadline.is_some_and(|_| false)",
    ),
    mutant(
        "an idle worker may be silent",
        "state.rs",
        "State::Idle { .. } => Some(silent),",
        "State::Idle { .. } => None,",
    ),
    mutant(
        "a batch may take for ever",
        "state.rs",
        "Some(silent.min(since + bounds.run))",
        "Some(silent)",
    ),
    mutant(
        "a quarantine never ends",
        "state.rs",
        "State::Quarantined { until, .. } => Some(until),",
        "State::Quarantined { .. } => None,",
    ),
    mutant(
        "nobody wakes up for adapters",
        "scheduler.rs",
        "adapters.chain(self.ripe_at()).chain(self.surplus_until()).chain(closing).min()",
        "let _ = adapters; self.ripe_at().into_iter().chain(self.surplus_until()).chain(closing).min()",
    ),
    mutant(
        "nobody wakes up for the batch delay",
        "scheduler.rs",
        "adapters.chain(self.ripe_at()).chain(self.surplus_until())",
        "adapters.chain(self.surplus_until())",
    ),
    mutant(
        "nobody wakes up for a surplus",
        "scheduler.rs",
        "adapters.chain(self.ripe_at()).chain(self.surplus_until())",
        "adapters.chain(self.ripe_at())",
    ),
    mutant(
        "nobody wakes up for the deadline of the shutdown",
        "scheduler.rs",
        ".chain(self.surplus_until()).chain(closing).min()",
        ".chain(self.surplus_until()).min()",
    ),
    mutant(
        "the deadline of the shutdown is ignored",
        "scheduler.rs",
        "if self.closing.is_some_and(|deadline| deadline <= now) {",
        "if false {",
    ),
    mutant(
        "the first of a batch does not wait for company",
        "dispatch.rs",
        "let closing = self.closing.map(|_| Duration::ZERO);",
        "let closing = Some(Duration::ZERO);",
    ),
    mutant(
        "an adapter runs a model that it could not load",
        "dispatch.rs",
        "adapter.loaded.iter().filter_map(move |model| {",
        "self.models.keys().filter_map(move |model| {\n            if adapter.loaded.is_empty() { return None; }",
    ),
    mutant(
        "a model that nobody could load waits for ever",
        "scale.rs",
        "        self.feed_starving(now);\n    }",
        "    }",
    ),
    mutant(
        "a model is waited for where it could not be loaded",
        "scheduler.rs",
        "comes && self.is_hopeful(now, adapter) && !adapter.refused.contains(&model)",
        "comes && self.is_hopeful(now, adapter)",
    ),
    mutant(
        "an adapter is stopped under its batch",
        "scale.rs",
        "State::Busy { since, batch } => adapter.state = State::Draining { since, batch },",
        "State::Busy { .. } => self.ask_to_stop(now, id),",
    ),
    mutant(
        "a surplus is let go at once",
        "scale.rs",
        "if now < since + self.shrink_delay() {",
        "if now < since {",
    ),
    mutant("more are on than may be", "policy.rs", ".max(min).min(max)", ".max(min)"),
    mutant("fewer are on than must be", "policy.rs", ".max(min).min(max)", ".min(max)"),
    mutant(
        "nobody is ever turned off",
        "scale.rs",
        "        if on <= wanted {\n            return None;",
        "        if on <= wanted || self.closing.is_none() {\n            return None;",
    ),
    mutant(
        "the operator's on is ignored",
        "scale.rs",
        "adapter.wish == Wish::On) {",
        "adapter.wish == Wish::On && false) {",
    ),
    mutant(
        "the operator's off is ignored",
        "scale.rs",
        "Wish::Off => Some(Reason::Operator),",
        "Wish::Off => None,",
    ),
    mutant(
        "the stand-in starts beside a usable adapter",
        "scale.rs",
        "(!adapter.profile.fallback || self.stands_in())",
        "(!adapter.profile.fallback || self.stands_in() || true)",
    ),
    mutant(
        "the stand-in never stands in",
        "scale.rs",
        "(!adapter.profile.fallback || self.stands_in())",
        "!adapter.profile.fallback",
    ),
    mutant(
        "the stand-in stays when it is replaced",
        "scale.rs",
        "replaced.then_some(Reason::Fallback)",
        "(replaced && false).then_some(Reason::Fallback)",
    ),
    mutant(
        "the stand-in never hands back",
        "scale.rs",
        "(self.load(), self.wanted(), self.on_for_good())",
        "(self.load(), self.wanted(), self.on())",
    ),
    mutant(
        "shutdown starts adapters and stops them again",
        "scale.rs",
        "if self.closing.is_some() && self.queue.len() == 0 {\n            return 0;",
        "if false {\n            return 0;",
    ),
    mutant(
        "a surplus is counted from the beginning of time",
        "scale.rs",
        "let since = *self.surplus_since.get_or_insert(now);",
        "let since = *self.surplus_since.get_or_insert(Time::default());",
    ),
    mutant(
        "a full batch waits for company",
        "queue.rs",
        "Some(((*order, lane), full || alone))",
        "Some(((*order, lane), full && alone))",
    ),
    mutant(
        "the fastest is let go first",
        "scale.rs",
        "self.order.iter().rev().find(free)",
        "self.order.iter().find(free)",
    ),
    mutant(
        "the slowest goes first",
        "scheduler.rs",
        "Reverse(adapter.map(|a| a.speed))",
        "adapter.map(|a| a.speed)",
    ),
    mutant(
        "another is started while one still drains",
        "scale.rs",
        "for draining in [true, false] {",
        "for draining in [false] {",
    ),
    mutant(
        "what the operator holds on is let go",
        "scale.rs",
        "is_some_and(|a| a.state.is_on() && a.wish == Wish::Auto)",
        "is_some_and(|a| a.state.is_on())",
    ),
    mutant(
        "a request that brings workers down keeps its company",
        "scheduler.rs",
        "request.alone |= request.retries >= 2;",
        "request.alone |= request.retries >= 2_000;",
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Copies the room to `folder`, with the bug in it if there is one.
fn write_room(folder: &Path, mutant: Option<&Mutant>) {
    let room = folder.join("schedule");
    fs::create_dir_all(&room).unwrap();
    for entry in fs::read_dir(root().join("src/schedule")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut text = fs::read_to_string(&path).unwrap();
        if let Some(mutant) = mutant.filter(|mutant| mutant.file == name) {
            let found = text.matches(mutant.from).count();
            assert_eq!(found, 1, "{}: '{}' stands {found} times", mutant.bug, mutant.from);
            text = text.replace(mutant.from, mutant.to);
        }
        fs::write(room.join(name), text).unwrap();
    }
    fs::write(folder.join("lib.rs"), "pub mod schedule;\n").unwrap();
}

fn rustc(folder: &Path, args: &[&str]) -> Output {
    let compiler = option_env!("RUSTC").unwrap_or("rustc");
    let output = Command::new(compiler).current_dir(folder).args(args).output();
    output.expect("rustc runs")
}

/// Builds one binary; a variant that does not compile proves nothing.
fn build(folder: &Path, name: &str, args: &[&str]) {
    let common = ["--edition=2024", "-Copt-level=1", "--cap-lints=allow"];
    let built = rustc(folder, &[&common[..], args].concat());
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "'{name}' does not compile: {errors}");
}

/// Whether simulation and unit tests pass on the room with this bug, or without any.
fn passes(folder: &Path, mutant: Option<&Mutant>) -> bool {
    write_room(folder, mutant);
    let name = mutant.map_or("no bug", |mutant| mutant.bug);
    build(folder, name, &["--test", "--crate-name=concertina", "lib.rs", "-ounits"]);
    if !runs_well(&folder.join("units")) {
        return false;
    }
    build(folder, name, &["--crate-type=lib", "--crate-name=concertina", "lib.rs"]);
    let simulation = root().join("tests/simulation/main.rs");
    let simulation = simulation.to_string_lossy();
    build(
        folder,
        name,
        &["--test", &*simulation, "--extern=concertina=libconcertina.rlib", "-osim"],
    );
    runs_well(&folder.join("sim"))
}

/// Whether the test binary passes in time. One that hangs is ended.
fn runs_well(binary: &Path) -> bool {
    let mut command = Command::new(binary);
    command.env("RUST_BACKTRACE", "0").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it runs");
    let begin = Instant::now();
    while begin.elapsed() < HANG {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    false
}

#[test]
fn every_bug_is_caught() {
    let base = std::env::temp_dir().join(format!("concertina-mutants-{}", std::process::id()));
    assert!(passes(&base.join("healthy"), None), "the tests fail without a bug");
    let next = AtomicUsize::new(0);
    let hunt = |hunter: usize| {
        let folder = base.join(hunter.to_string());
        let mut survivors = Vec::new();
        while let Some(mutant) = MUTANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            if passes(&folder, Some(mutant)) {
                survivors.push(mutant.bug);
            }
        }
        survivors
    };
    let hunt_ref = &hunt;
    let survivors: Vec<_> = std::thread::scope(|scope| {
        let hunts: Vec<_> =
            (0..HUNTERS).map(|hunter| scope.spawn(move || hunt_ref(hunter))).collect();
        hunts.into_iter().flat_map(|hunt| hunt.join().expect("a hunter")).collect()
    });
    fs::remove_dir_all(&base).unwrap();
    assert!(survivors.is_empty(), "nobody notices: {survivors:#?}");
}
