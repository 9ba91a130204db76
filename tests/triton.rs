//! A stock Triton client against the running program: `tests/tritonclient_test.py`.
//!
//! `CONCERTINA_TEST_PYTHON` names a Python that has `tritonclient[http]`; `tests/run` makes one.
//! Without it the test says so and passes.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "which Python to use comes from the environment")]

mod common;

use common::{Folder, Setup, models, tell};
use std::process::Command;

#[test]
fn a_stock_triton_client_is_served() {
    let Some(python) = std::env::var_os("CONCERTINA_TEST_PYTHON") else {
        return tell(
            "SKIPPED: CONCERTINA_TEST_PYTHON does not name a Python with tritonclient[http]; \
             tests/run makes one",
        );
    };
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    models::add_echo(&folder, "echo", 8, "0s");
    folder.make_dir("broken");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let script = models::package().join("tests/tritonclient_test.py");
    let mut command = Command::new(python);
    let output = command.arg(script).arg(server.address.to_string()).output();
    let output = output.expect("CONCERTINA_TEST_PYTHON can be run");
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    eprintln!("{out}{err}");
    assert!(output.status.success(), "{}", output.status);
    assert!(out.contains(" passed, 0 failed"), "{out}");
}
