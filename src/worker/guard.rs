//! Runs what may panic inside burn or a driver, and puts what went wrong into words that travel.

use crate::model::ModelError;
use crate::wire::Cause;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Runs what may panic inside burn or a driver.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_message(panic.as_ref()))
}

/// The same for models: a panic is the device's fault.
pub(super) fn guarded_model<T>(
    work: impl FnOnce() -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    guarded(work).unwrap_or_else(|panic| Err(ModelError::Device(panic)))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "no message".to_owned()))
}

/// A message header has a bound; what a compiler or a driver has to say does not.
pub(super) fn shortened(error: &impl std::fmt::Display) -> String {
    const CHARS_MAX: usize = 4096;
    error.to_string().chars().take(CHARS_MAX).collect()
}

/// Whose fault it is, as the wire says it.
pub(super) fn cause(error: &ModelError) -> Cause {
    match error {
        ModelError::Input(_) => Cause::Input,
        ModelError::Broken(_) => Cause::Model,
        ModelError::Device(_) => Cause::Device,
        ModelError::Golden(_) => Cause::WrongAnswer,
    }
}

/// Microseconds that have passed since then.
pub(super) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
