//! Errors that a caller can receive, and the single table that maps them to HTTP.

use std::time::Duration;

/// The reason why a call failed. Only [`ErrorKind::status`] maps it to a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// The field, the cause and the remedy: lower case, no full stop.
    pub message: String,
    /// The delay after which a retry is useful, if it is known.
    pub retry_after: Option<Duration>,
}

/// The kinds of errors that a caller can receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request violates the protocol.
    Malformed,
    /// A credential is missing or wrong.
    Unauthorized,
    /// The caller lacks permission for this.
    Forbidden,
    /// The route, model, version or adapter does not exist.
    NotFound,
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// Another operation in progress excludes this one.
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    /// Well-formed, but the name, shape, datatype or row count does not fit the model.
    Unprocessable,
    /// The queue is full; the client may retry soon.
    QueueFull,
    /// The model, or every attempt to run it, failed.
    Internal,
    /// No adapter or model can serve at the moment.
    Unavailable,
    /// The time limit that the client set has passed.
    DeadlineExceeded,
}

impl ErrorKind {
    /// The HTTP status of the kind.
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

    /// Sets the delay after which the client may retry.
    pub fn retry_after(mut self, after: Duration) -> Error {
        self.retry_after = Some(after);
        self
    }
}
