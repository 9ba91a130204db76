//! Stock clients against the running program: Triton's (`tests/tritonclient_test.py`), KServe's,
//! and HTTP clients that keep connections (`tests/clients_test.py`).
//!
//! `CONCERTINA_TEST_PYTHON` is a Python with `tritonclient[http]`; `tests/run` installs one, with
//! the other clients where they can be installed. Without it the tests are skipped with a
//! message.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "which Python to use comes from the environment")]

use std::process::Command;
use testkit::{Folder, Setup, models, report};

/// Runs a script of `tests/` and returns its output; `None` without Python.
fn run_script(script: &str, args: &[&str]) -> Option<String> {
    let Some(python) = std::env::var_os("CONCERTINA_TEST_PYTHON") else {
        report(
            "SKIPPED: CONCERTINA_TEST_PYTHON does not name a Python with tritonclient[http]; \
             tests/run makes one",
        );
        return None;
    };
    let script = models::package().join("tests").join(script);
    let output = Command::new(python).arg(script).args(args).output();
    let output = output.expect("CONCERTINA_TEST_PYTHON can be run");
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    eprintln!("{out}{err}");
    assert!(output.status.success(), "{}", output.status);
    Some(out.into_owned())
}

#[test]
fn stock_triton_client_is_served() {
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    models::add_echo(&folder, "echo", 8, "0s");
    folder.make_dir("broken");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let out = run_script("tritonclient_test.py", &[&server.address.to_string()]);
    assert!(out.is_none_or(|out| out.contains(" passed, 0 failed")));
}

#[test]
fn stock_clients_keep_their_connections_after_rejections() {
    const KEY: &str = "cnc_for_clients";
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    let setup = Setup::cpu().models(folder.path()).args(&["--api-key", KEY]);
    let server = setup.config("[limits]\nbody_bytes = 1_000_000").start();
    server.wait_until_ready();
    let out = run_script("clients_test.py", &[&server.address.to_string(), KEY]);
    if let Some(out) = out {
        out.lines().filter(|line| line.starts_with("SKIPPED: ")).for_each(report);
        assert!(out.contains(" passed, 0 failed"));
    }
}
