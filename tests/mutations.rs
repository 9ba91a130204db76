//! Compiles the scheduler with one deliberate bug after the other and expects the simulation to
//! fail: a test that cannot fail proves nothing. The room uses only the standard library, so each
//! variant takes rustc a few seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
        "the poisonous get company again",
        "queue.rs",
        "let alone = next.alone ||",
        "let alone = false && next.alone ||",
    ),
    mutant(
        "shapes are mixed in a batch",
        "scheduler.rs",
        "self.admit(now, request, Lane { model, shape }, rows);",
        "let _ = shape; self.admit(now, request, Lane { model, shape: super::types::Shape(0) }, rows);",
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
        "messages of an earlier life count",
        "scheduler.rs",
        "self.adapters.get_mut(&id).filter(|adapter| adapter.incarnation == incarnation)",
        "self.adapters.get_mut(&id).filter(|adapter| adapter.incarnation >= incarnation)",
    ),
    mutant(
        "any batch's end frees the adapter",
        "scheduler.rs",
        "batch.id == id)\n}",
        "batch.id >= id)\n}",
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
        "the backoff has no bound",
        "scheduler.rs",
        "saturating_mul(1 << doublings).min(self.settings.backoff_max)",
        "saturating_mul(1 << doublings)",
    ),
    mutant(
        "an adapter that died counts as off at once",
        "scheduler.rs",
        "adapter.state = State::Quarantined { since: now, until };",
        "let _ = until; adapter.state = State::Off;",
    ),
    mutant(
        "a killed worker's adapter is free before the process is gone",
        "watch.rs",
        "adapter.state = State::Unreaped { since: now, fault };",
        "let _ = fault; adapter.state = State::Off;",
    ),
    mutant(
        "the silent are never given up",
        "watch.rs",
        "deadline.is_some_and(|deadline| deadline <= now)",
        "deadline.is_some_and(|_| false)",
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
        "an adapter is stopped under its batch",
        "scale.rs",
        "State::Busy { since, batch } => adapter.state = State::Draining { since, batch },\n            State::Starting { .. } | State::Idle { .. } =>",
        "State::Busy { .. } | State::Starting { .. } | State::Idle { .. } =>",
    ),
    mutant(
        "a surplus is let go at once",
        "scale.rs",
        "if now < since + self.shrink_delay() {",
        "if now < since {",
    ),
    mutant("more are on than may be", "policy.rs", ".max(min).min(max)", ".max(min)"),
    mutant(
        "nobody is ever turned off",
        "scale.rs",
        "if self.on() <= self.wanted() {",
        "if self.on() <= self.wanted() || self.closing.is_none() {",
    ),
    mutant(
        "the operator's off is ignored",
        "scale.rs",
        "Wish::Off => Some(Reason::Operator),\n            Wish::On => None,",
        "Wish::Off | Wish::On => None,",
    ),
    mutant(
        "an adapter runs a model that it could not load",
        "dispatch.rs",
        "let loaded = |lane: &Lane| adapter.loaded.contains(&lane.model);",
        "let loaded = |lane: &Lane| !adapter.loaded.is_empty() && lane.model.0 < 99;",
    ),
    mutant(
        "a model that nobody could load waits for ever",
        "scale.rs",
        "self.feed_starving(now);",
        "",
    ),
    mutant(
        "a neighbour is blamed for the poisonous",
        "scheduler.rs",
        "if single {",
        "if single || true {",
    ),
    mutant(
        "shutdown leaves adapters on",
        "scale.rs",
        "return Some(Reason::Shutdown);",
        "return None;",
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

/// Builds the room and the simulation in `folder` and runs it; the simulation's outcome.
fn simulate(folder: &Path, mutant: Option<&Mutant>) -> Output {
    write_room(folder, mutant);
    let common = ["--edition=2024", "-Copt-level=1", "--cap-lints=allow"];
    let lib = [&common[..], &["--crate-type=lib", "--crate-name=concertina", "lib.rs"]].concat();
    let built = rustc(folder, &lib);
    let name = mutant.map_or("no bug", |mutant| mutant.bug);
    assert!(built.status.success(), "{name}: {}", String::from_utf8_lossy(&built.stderr));
    let simulation = root().join("tests/simulation.rs");
    let simulation = simulation.to_string_lossy();
    let extern_ = ["--test", &*simulation, "--extern=concertina=libconcertina.rlib", "-osim"];
    let built = rustc(folder, &[&common[..], &extern_].concat());
    assert!(built.status.success(), "{name}: {}", String::from_utf8_lossy(&built.stderr));
    Command::new(folder.join("sim")).env("RUST_BACKTRACE", "0").output().expect("it runs")
}

#[test]
fn every_bug_is_caught() {
    let base = std::env::temp_dir().join(format!("concertina-mutants-{}", std::process::id()));
    let healthy = simulate(&base.join("healthy"), None);
    let text = String::from_utf8_lossy(&healthy.stdout).into_owned();
    assert!(healthy.status.success(), "the simulation fails without a bug: {text}");
    let survivors = std::thread::scope(|scope| {
        let half = MUTANTS.len().div_ceil(2);
        let hunts: Vec<_> = MUTANTS
            .chunks(half)
            .enumerate()
            .map(|(at, mutants)| {
                let folder = base.join(at.to_string());
                let survives =
                    move |mutant: &&Mutant| simulate(&folder, Some(mutant)).status.success();
                scope.spawn(move || {
                    mutants.iter().filter(survives).map(|m| m.bug).collect::<Vec<_>>()
                })
            })
            .collect();
        hunts.into_iter().flat_map(|hunt| hunt.join().unwrap()).collect::<Vec<_>>()
    });
    fs::remove_dir_all(&base).unwrap();
    assert!(survivors.is_empty(), "the simulation does not notice: {survivors:#?}");
}
