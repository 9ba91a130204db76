//! The only module that reads the clock. Decisions take the time as an argument instead.

use std::time::Instant;

/// The current time.
#[allow(clippy::disallowed_methods, reason = "the only reader of the clock")]
pub fn now() -> Instant {
    Instant::now()
}
