//! The one place that reads the clock. Decisions never do: they take time as an argument.

use std::time::Instant;

/// The present.
#[allow(clippy::disallowed_methods, reason = "the home of the clock")]
pub fn now() -> Instant {
    Instant::now()
}
