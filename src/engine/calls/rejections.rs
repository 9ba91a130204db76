//! Errors of rejected requests.

use schedule::Reject;
use std::time::Duration;
use types::error::{Error, ErrorKind};
use wire::Cause;

/// Minimum of the delay before a retry that clients receive.
// `Retry-After` has whole seconds (RFC 9110, section 10.2.3), and 0 means an immediate retry.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The error of a failed load.
#[derive(Clone, Debug)]
pub(crate) struct LoadError {
    pub(crate) cause: Cause,
    pub(crate) error: String,
}

impl LoadError {
    /// `true` if the model's files are wrong; else the device, its memory or the machine failed.
    pub(crate) fn is_of_files(&self) -> bool {
        matches!(self.cause, Cause::Input | Cause::Model)
    }
}

/// The error of a rejection: 429 if the queue is full or the answer would be late, 503 if no
/// adapter can serve now. `types/error.rs` has the table from kinds to statuses.
pub(crate) fn rejection(reason: Reject) -> Error {
    match reason {
        Reject::QueueFull { drain } => {
            Error::new(ErrorKind::QueueFull, "the queue is full").retry_after(drain.max(RETRY_MIN))
        }
        Reject::Overload { drain } => {
            let message = "the queue is too long for an answer within the request's timeout";
            Error::new(ErrorKind::QueueFull, message).retry_after(drain.max(RETRY_MIN))
        }
        Reject::Deadline => deadline_passed(None),
        Reject::NoAdapter { retry_after } => {
            let error =
                Error::unavailable("no adapter can serve now; GET /api/adapters has the reasons");
            match retry_after {
                Some(after) => error.retry_after(after.max(RETRY_MIN)),
                None => error,
            }
        }
        Reject::ModelFailed | Reject::NoneHolds => model_failed(reason, None),
        Reject::ModelGone => Error::not_found("the model has been unloaded"),
        Reject::RetriesExhausted { fault } => Error::internal(format!(
            "every adapter that ran this request was lost; the last fault: {}",
            fault.as_str()
        )),
        Reject::ShuttingDown => Error::unavailable("the server is shutting down"),
        Reject::Input { .. } => Error::internal("the model failed"),
    }
}

/// The error if no adapter could load the model, or if none that is on can hold it. `why` is the
/// error of the last load.
pub(crate) fn model_failed(reason: Reject, why: Option<&LoadError>) -> Error {
    match why {
        Some(why) => load_failed(why),
        None if reason == Reject::NoneHolds => Error::unavailable(
            "no adapter that is on has the memory for the model, and no other adapter may start",
        ),
        None => Error::internal("no adapter has the memory for the model"),
    }
}

/// The error of requests to a model that failed to load.
fn load_failed(why: &LoadError) -> Error {
    let kind = match why.cause {
        _ if why.is_of_files() => ErrorKind::Unprocessable,
        // Each request runs by itself from now on, so a retry succeeds.
        Cause::Rows => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("failed to load the model: {}", why.error))
}

/// The error after the timeout of a request.
pub(crate) fn deadline_passed(timeout: Option<Duration>) -> Error {
    let timeout = timeout.map(|timeout| format!(" of {timeout:?}")).unwrap_or_default();
    let message = format!("the request's timeout{timeout} has passed or cannot be met");
    Error::new(ErrorKind::DeadlineExceeded, message)
}
