//! Small ONNX files of the kinds about which users report problems, served by a real server: each
//! request in the shapes of the graph, as JSON and as binary tensors, alone and from several
//! clients at once. The expected answers are those of ONNX Runtime.
//!
//! `tests/data/onnx_cases` holds a folder per case (`model.onnx`, `inK.npz`, `outK.npz`); its
//! tables (`*.tsv`) list them with their reports and tolerances. `CONCERTINA_TEST_ONNX_CASES`
//! is another folder of that form, which is run instead; all of its cases must pass.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what the test runner shows")]
#![allow(clippy::disallowed_methods, reason = "the folder comes from the environment")]

mod array;
/// Folders of cases.
mod cases;
mod exchange;
mod npz;

use cases::{Case, Sample};
use exchange::{Form, check, infer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use testkit::{Folder, Server, Setup, models};

/// Cases that fail, each with its reason. The list may only shrink.
const EXPECTED: &str = include_str!("expected_failures.txt");

/// The number of simultaneous clients, and the number of times that each sends every sample.
const CLIENTS: usize = 4;
const ROUNDS: usize = 3;

#[test]
fn cases_are_answered_as_onnx_runtime_answers_them() {
    let other = std::env::var_os("CONCERTINA_TEST_ONNX_CASES").map(PathBuf::from);
    let own = models::package().join("tests/data/onnx_cases");
    let cases = cases::read(other.as_deref().unwrap_or(&own));
    let failed = run(&cases);
    for (name, errors) in &failed {
        errors.iter().for_each(|error| println!("{name}: {error}"));
    }
    println!("{} of {} cases pass", cases.len() - failed.len(), cases.len());
    let expected = if other.is_some() { BTreeMap::new() } else { expected() };
    let wrong = unexpected(&cases, &failed, &expected);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The expected failures with their reasons.
fn expected() -> BTreeMap<&'static str, &'static str> {
    let lines = EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("a name and a reason")).collect()
}

/// Cases that fail but are not listed, and entries of the list that are outdated.
fn unexpected(
    cases: &[Case],
    failed: &BTreeMap<String, Vec<String>>,
    expected: &BTreeMap<&str, &str>,
) -> Vec<String> {
    let fails = failed.keys().filter(|name| !expected.contains_key(name.as_str()));
    let passes = expected.keys().filter(|name| !failed.contains_key(**name));
    let fails = fails.map(|name| format!("{name} fails"));
    let passes = passes.map(|name| match cases.iter().any(|case| case.name == *name) {
        true => format!("{name} passes: take it off expected_failures.txt"),
        false => format!("{name} of expected_failures.txt is not there"),
    });
    fails.chain(passes).collect()
}

/// The failures by the names of the cases.
fn run(cases: &[Case]) -> BTreeMap<String, Vec<String>> {
    let folder = Folder::new();
    cases.iter().for_each(|case| copy(&case.folder, &folder.join(&case.name)));
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let mut failed = BTreeMap::new();
    for case in cases {
        let mut errors = alone(&server, case);
        if errors.is_empty() {
            errors = together(&server, case);
        }
        if !errors.is_empty() {
            failed.insert(case.name.clone(), errors);
        }
    }
    failed
}

/// Copies a case without its samples: the model and the files beside it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else if path.extension().is_none_or(|extension| extension != "npz") {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// Sends every sample once in each form; returns the errors.
fn alone(server: &Server, case: &Case) -> Vec<String> {
    let mut errors = Vec::new();
    for (at, sample) in case.samples.iter().enumerate() {
        for form in [Form::Json, Form::Binary] {
            if let Err(error) = send(server, case, sample, form) {
                errors.push(format!("{form:?}, in{at}: {error}"));
            }
        }
    }
    errors
}

fn send(server: &Server, case: &Case, sample: &Sample, form: Form) -> Result<(), String> {
    let request = infer(&case.name, form, &sample.inputs);
    check(&mut server.connect(), &request, &sample.outputs, case.tolerance)
}

/// Sends all samples from several clients at once; returns the first error of each client.
fn together(server: &Server, case: &Case) -> Vec<String> {
    let client = |client: usize| {
        for n in 0..ROUNDS * case.samples.len() {
            // Clients begin at different samples, so that different requests meet.
            let at = (client + n) % case.samples.len();
            let sent = send(server, case, &case.samples[at], Form::Binary);
            sent.map_err(|error| format!("client {client} of {CLIENTS}, in{at}: {error}"))?;
        }
        Ok(())
    };
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    outcomes.into_iter().filter_map(Result::err).collect()
}

#[test]
fn outdated_list_of_failures_is_reported() {
    let case = |name: &str| Case {
        name: name.to_owned(),
        folder: PathBuf::new(),
        tolerance: (0.0, 0.0),
        samples: Vec::new(),
    };
    let cases = ["a", "b", "c"].map(case);
    let failed = ["a", "b"].map(|name| (name.to_owned(), vec!["wrong".to_owned()]));
    let listed = BTreeMap::from([("b", "known"), ("c", "known"), ("d", "known")]);
    let wrong = unexpected(&cases, &failed.into(), &listed);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong[0].starts_with("a fails") && wrong[1].starts_with("c passes"), "{wrong:?}");
    assert!(wrong[2].starts_with("d of"), "{wrong:?}");
}
