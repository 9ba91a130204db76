//! What a client is told that is turned away.

use schedule::Reject;
use std::time::Duration;
use types::error::{Error, ErrorKind};
use wire::Cause;

/// Nobody is told to come back sooner.
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

/// The error of a rejection: 429 where the queue is full or the answer would be late, 503 where nothing
/// can serve now; `types/error.rs` has the table from kinds to statuses.
pub(crate) fn rejection(reason: Reject) -> Error {
    match reason {
        Reject::QueueFull { drain } => {
            Error::new(ErrorKind::QueueFull, "the queue is full").retry_after(drain.max(RETRY_MIN))
        }
        Reject::Overload { drain } => {
            let message = "too much waits for an answer within the request's timeout";
            Error::new(ErrorKind::QueueFull, message).retry_after(drain.max(RETRY_MIN))
        }
        Reject::Deadline => deadline_passed(None),
        Reject::NoAdapter { retry_after } => {
            let error = Error::unavailable("no adapter can serve now; GET /api/adapters tells why");
            match retry_after {
                Some(after) => error.retry_after(after.max(RETRY_MIN)),
                None => error,
            }
        }
        Reject::ModelFailed | Reject::NoneHolds => model_failed(reason, None),
        Reject::ModelGone => Error::not_found("the model is no longer served"),
        Reject::RetriesExhausted { fault } => Error::internal(format!(
            "every adapter that tried this request was lost; the last one: {}",
            fault.as_str()
        )),
        Reject::ShuttingDown => Error::unavailable("the server is going down"),
        Reject::Input { .. } => Error::internal("the model failed"),
    }
}

/// The error where no adapter could load the model, or none that is on can hold it. `why`: the
/// error of the last load.
pub(crate) fn model_failed(reason: Reject, why: Option<&LoadError>) -> Error {
    match why {
        Some(why) => load_failed(why),
        None if reason == Reject::NoneHolds => {
            Error::unavailable("no adapter that is on can hold the model, and no other may start")
        }
        None => Error::internal("no adapter has the memory that the model takes"),
    }
}

/// The error of requests to a model that failed to load.
fn load_failed(why: &LoadError) -> Error {
    let kind = match why.cause {
        _ if why.is_of_files() => ErrorKind::Unprocessable,
        // Each request is run by itself from now on, so that a retry is answered.
        Cause::Rows => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("failed to load the model: {}", why.error))
}

/// The client's own limit has passed.
pub(crate) fn deadline_passed(timeout: Option<Duration>) -> Error {
    let timeout = timeout.map(|timeout| format!(" of {timeout:?}")).unwrap_or_default();
    let message = format!("the request's own timeout{timeout} has passed, or cannot be met");
    Error::new(ErrorKind::DeadlineExceeded, message)
}
