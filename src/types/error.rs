//! What can go wrong for a caller, and the single table from it to HTTP.

use std::time::Duration;

/// Why a call was not answered with a result. The table in [`ErrorKind::status`] is the only one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// What was wrong, where, and what to do: lower case, no full stop.
    pub message: String,
    /// When it is worth trying again, if that is known.
    pub retry_after: Option<Duration>,
}

/// The kinds of error a caller can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is not what the protocol says.
    Malformed,
    /// A credential is missing or wrong.
    Unauthorized,
    /// The caller may not do this here.
    Forbidden,
    /// No such route, model, version or adapter.
    NotFound,
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// Something else is under way that excludes it.
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    /// Well-formed, but the name, shape, datatype or row count does not fit the model.
    Unprocessable,
    /// The queue is full; this client may try again soon.
    QueueFull,
    /// The model or every try at it failed.
    Internal,
    /// Nothing can serve now.
    Unavailable,
    /// The client's own time limit has passed.
    DeadlineExceeded,
}

impl ErrorKind {
    /// The HTTP status: the one table from error to answer.
    pub fn status(self) -> u16 {
        match self {
            ErrorKind::Malformed => 400,
            ErrorKind::Unauthorized => 401,
            ErrorKind::Forbidden => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::MethodNotAllowed => 405,
            ErrorKind::RequestTimeout => 408,
            ErrorKind::Conflict => 409,
            ErrorKind::TooLarge => 413,
            ErrorKind::UnsupportedMediaType => 415,
            ErrorKind::Unprocessable => 422,
            ErrorKind::QueueFull => 429,
            ErrorKind::Internal => 500,
            ErrorKind::Unavailable => 503,
            ErrorKind::DeadlineExceeded => 504,
        }
    }
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), retry_after: None }
    }

    pub fn malformed(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Malformed, message)
    }

    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotFound, message)
    }

    pub fn unprocessable(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unprocessable, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, message)
    }

    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// Tells the client when to try again.
    pub fn retry_after(mut self, after: Duration) -> Error {
        self.retry_after = Some(after);
        self
    }
}
