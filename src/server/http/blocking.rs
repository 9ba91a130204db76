//! Work that takes too long for the event loop.

use types::error::Error;

/// Maximum number of bytes that are processed on the event loop; more would block it for longer
/// than about a millisecond.
pub(crate) const INLINE_BYTES_MAX: usize = 256 * 1024;

/// Runs short work (on at most this many bytes) on the event loop, and long work on a blocking
/// thread.
pub(crate) async fn run_blocking_if_large<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(format!("the task failed: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::error::ErrorKind;

    #[tokio::test]
    async fn long_work_runs_on_a_blocking_thread_and_its_panic_is_an_error() {
        assert_eq!(run_blocking_if_large(0, || Ok(1)).await, Ok(1));
        assert_eq!(run_blocking_if_large(INLINE_BYTES_MAX + 1, || Ok(2)).await, Ok(2));
        let broken: Result<(), Error> =
            run_blocking_if_large(usize::MAX, || panic!("broken on purpose")).await;
        assert_eq!(broken.unwrap_err().kind, ErrorKind::Internal);
    }
}
