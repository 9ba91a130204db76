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
        Reject::Deadline => {
            Error::new(ErrorKind::DeadlineExceeded, "the request's own timeout has passed")
        }
        Reject::NoAdapter { retry_after } => {
            let error = Error::unavailable("no adapter can serve now; GET /api/adapters tells why");
            match retry_after {
                Some(after) => error.retry_after(after.max(RETRY_MIN)),
                None => error,
            }
        }
        Reject::ModelFailed => Error::unavailable(
            "no adapter could load the model; the server's log and GET /api/snapshot tell why",
        ),
        Reject::ModelGone => Error::not_found("the model is no longer served"),
        Reject::RetriesExhausted { fault } => Error::internal(format!(
            "every adapter that tried this request was lost; the last one: {}",
            fault.as_str()
        )),
        Reject::ShuttingDown => Error::unavailable("the server is going down"),
        Reject::Input { .. } => Error::internal("the model failed"),
    }
}
