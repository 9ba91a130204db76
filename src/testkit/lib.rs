//! Utilities of tests and benches of several crates: folders, and for tests of the whole program a
//! real server, real HTTP, real processes.
//!
//! Every test of the program starts the real binary with a port, a cache and a runtime folder of
//! its own, and ends only processes that it started, by process id. Time limits detect hangs; no
//! test measures speed.
#![allow(clippy::new_without_default, reason = "each is another folder")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

pub mod events;
pub mod folder;
pub mod http;
pub mod images;
pub mod load;
pub mod models;
pub mod openapi;
pub mod process;
pub mod schema;
pub mod server;

pub use folder::Folder;
pub use http::{Connection, Response};
pub use server::{Server, Setup, command, run};

use std::io::Write;
use std::time::{Duration, Instant};

/// Prints a line that the test runner does not capture, so that skipped tests are visible.
pub fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Time after which a test is considered hung: far more than a loaded machine needs.
pub const HANG: Duration = Duration::from_secs(60);

/// Calls `attempt` until it returns a value; fails the test after `limit`.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(begin.elapsed() < limit, "waited for {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `holds` returns true.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_until(what, limit, || holds().then_some(()));
}
