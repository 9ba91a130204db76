//! What a client is told that is turned away.

use crate::error::{Error, ErrorKind};
use crate::schedule::Reject;
use std::time::Duration;

/// Nobody is told to come back sooner.
const RETRY_MIN: Duration = Duration::from_secs(1);

pub(super) fn rejection(reason: Reject) -> Error {
    match reason {
        Reject::QueueFull { drain } => {
            Error::new(ErrorKind::QueueFull, "the queue is full").retry_after(drain.max(RETRY_MIN))
        }
        Reject::Overload { drain } => {
            let message = "too much waits for an answer within the request's timeout";
            Error::new(ErrorKind::QueueFull, message).retry_after(drain.max(RETRY_MIN))
        }
        Reject::Deadline => too_late(None),
        Reject::NoAdapter { retry_after } => {
            let error = Error::unavailable("no adapter can serve now; GET /api/adapters tells why");
            match retry_after {
                Some(after) => error.retry_after(after.max(RETRY_MIN)),
                None => error,
            }
        }
        Reject::ModelFailed => model_failed(None),
        Reject::ModelGone => Error::not_found("the model is no longer served"),
        Reject::RetriesExhausted { fault } => Error::internal(format!(
            "every adapter that tried this request was lost; the last one: {}",
            fault.as_str()
        )),
        Reject::ShuttingDown => Error::unavailable("the server is going down"),
        Reject::Input { .. } => Error::internal("the model failed"),
    }
}

/// No adapter could load the model; `why` is what the last one said.
pub(super) fn model_failed(why: Option<&str>) -> Error {
    let why = why.unwrap_or("the server's log tells why");
    Error::unavailable(format!("no adapter could load the model: {why}"))
}

/// The client's own limit has passed.
pub(super) fn too_late(timeout: Option<Duration>) -> Error {
    let timeout = timeout.map(|timeout| format!(" of {timeout:?}")).unwrap_or_default();
    let message = format!("the request's own timeout{timeout} has passed, or cannot be met");
    Error::new(ErrorKind::DeadlineExceeded, message)
}
