//! Runs code of burn or a driver that may panic, and converts errors for the wire.

use kinds::convert::device_failure;
use model::ModelError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use wire::Cause;

/// Runs code of burn or a driver that may panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_message(panic.as_ref()))
}

/// Runs code of a model. A panic is an error of the device or of its memory.
pub(super) fn guarded_model<T>(
    work: impl FnOnce() -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    guarded(work).unwrap_or_else(|panic| Err(device_failure(panic)))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "no message".to_owned()))
}

/// The text of an error in one line of bounded length, for a message header and the log. Errors of
/// compilers and drivers can be long.
pub(super) fn shortened(error: &impl std::fmt::Display) -> String {
    // At most 16 KiB of UTF-8; a header may have 256 KiB (`wire/frame.rs`).
    const CHARS_MAX: usize = 4096;
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").chars().take(CHARS_MAX).collect()
}

/// The cause of an error, for the wire.
pub(super) fn cause(error: &ModelError) -> Cause {
    match error {
        ModelError::Input(_) => Cause::Input,
        ModelError::Broken(_) => Cause::Model,
        ModelError::Device(_) => Cause::Device,
        ModelError::Memory(_) => Cause::Memory,
        ModelError::Machine(_) => Cause::Machine,
        ModelError::Golden(_) => Cause::WrongAnswer,
        ModelError::Rows(_) => Cause::Rows,
    }
}

/// Microseconds that have passed since then.
pub(super) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_several_lines_becomes_one_line() {
        let text = "it failed\nCaused by:\n  two things\n\n";
        assert_eq!(shortened(&text), "it failed; Caused by:; two things");
        assert_eq!(shortened(&"é".repeat(5000)).chars().count(), 4096);
    }

    #[test]
    fn panics_about_memory_are_errors_of_memory() {
        for (text, cause_of) in [
            ("wgpu error: Out of Memory", Cause::Memory),
            ("out of device memory allocating 4096 bytes\n   0: main", Cause::Memory),
            ("can't allocate buffer of size: 17179869184", Cause::Memory),
            ("ERROR_OUT_OF_DEVICE_MEMORY", Cause::Memory),
            ("Device lost: Unknown", Cause::Device),
            ("index out of bounds: the len is 3", Cause::Device),
        ] {
            let panicked = guarded_model(|| -> Result<(), ModelError> { panic!("{text}") });
            assert_eq!(panicked.as_ref().map_err(cause), Err(cause_of), "{text}");
            // Errors that are not panics keep their kind.
            let device = || Err::<(), _>(ModelError::Device(text.to_owned()));
            assert_eq!(guarded_model(device), device());
        }
    }
}
