//! The whole program on three software adapters of two vendors: adapters turn on and off with the
//! load, every adapter computes the same results, and workers may die.
//!
//! The drivers are those of `tests/software_adapters.sh`. Without them the tests are skipped with a
//! message. The first run on a machine tunes kernels for minutes; the results are kept.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

/// Requests on the CPU while adapters start.
mod bridge;
/// Workers that die or hang, and adapters that are in use elsewhere.
mod faults;
/// The number of adapters that are on.
mod growth;
/// The adapters of this machine, warmed up once.
mod machine;
/// Two models under mixed requests, while adapters are broken and switched.
mod mixed;
/// The results of each adapter.
mod numbers;
/// Streams of partial answers.
mod streams;
/// Starts that tune kernels, and later starts.
mod tuning;
/// One worker without a server: its reports while models are loaded and unloaded.
mod worker;
