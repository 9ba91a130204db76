//! The whole program on three software adapters of two vendors: it grows and shrinks with the
//! load, every adapter computes the same, and workers may die.
//!
//! The drivers come from `tests/software_adapters.sh`. Where there are none the tests say so and
//! pass. The first run on a machine tunes kernels for minutes; the results are kept.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

/// The CPU while adapters start.
mod bridge;
/// Workers that die, hang or find their adapter taken.
mod faults;
/// How many adapters are on.
mod growth;
/// The adapters of this machine, warmed up once.
mod machine;
/// Two models under mixed requests, while adapters are broken and switched.
mod mixed;
/// What each adapter answers.
mod numbers;
/// Streams of partial answers.
mod streams;
/// Starts that tune kernels, and those after them.
mod tuning;
/// One worker alone: what it tells of the models that come and go.
mod worker;
