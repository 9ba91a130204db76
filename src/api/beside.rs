//! Work that takes too long for the event loop.

use crate::error::Error;

/// Work on more bytes than this runs outside the event loop, which it would hold up for longer
/// than about a millisecond.
pub(crate) const INLINE_BYTES_MAX: usize = 256 * 1024;

/// Runs work on so many bytes here if that is short, else on a thread that may be busy for a
/// while.
pub(crate) async fn beside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if bytes <= INLINE_BYTES_MAX {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(format!("the request broke: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn long_work_runs_beside_and_its_panic_is_an_error() {
        assert_eq!(beside(0, || Ok(1)).await, Ok(1));
        assert_eq!(beside(INLINE_BYTES_MAX + 1, || Ok(2)).await, Ok(2));
        let broken: Result<(), Error> = beside(usize::MAX, || panic!("broken on purpose")).await;
        assert_eq!(broken.unwrap_err().kind, ErrorKind::Internal);
    }
}
