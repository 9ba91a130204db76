//! Converts results into HTTP answers. Only this module maps an error to a status and a body.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json as value};
use std::time::Duration;
use types::error::{Error, ErrorKind};
use warp::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use warp::http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderMap, StatusCode};

/// Maximum length of an error message, which may contain text of a client of any length.
const MESSAGE_CHARS_MAX: usize = 2000;

pub(crate) type Response = warp::reply::Response;

/// An error, and the allowed methods if the method was the error.
#[derive(Debug)]
pub(crate) struct HttpFailure {
    error: Error,
    allow: Option<&'static str>,
}

impl HttpFailure {
    /// Returns the error of a route that does not support the method.
    pub(crate) fn method(allow: &'static str) -> HttpFailure {
        let message = format!("this route takes only {allow}");
        HttpFailure { error: Error::new(ErrorKind::MethodNotAllowed, message), allow: Some(allow) }
    }
}

impl From<Error> for HttpFailure {
    fn from(error: Error) -> HttpFailure {
        HttpFailure { error, allow: None }
    }
}

/// The result of every handler.
pub(crate) type Outcome = Result<Response, HttpFailure>;

/// Returns the answer to send.
pub(crate) fn render(outcome: Outcome) -> Response {
    outcome.unwrap_or_else(|failure| render_failure(&failure, &error_body(&failure.error)))
}

/// Returns the body of an error answer.
pub(crate) fn error_body(error: &Error) -> Value {
    value!({ "error": shortened(&error.message) })
}

/// Returns the answer to send, with an error in the form of the OpenAI API.
pub(crate) fn render_openai(outcome: Outcome) -> Response {
    outcome.unwrap_or_else(|failure| {
        let Error { kind, message, .. } = &failure.error;
        let sort = if kind.status() < 500 { "invalid_request_error" } else { "server_error" };
        let code = match kind {
            ErrorKind::NotFound => Some("model_not_found"),
            ErrorKind::Unauthorized => Some("invalid_api_key"),
            _ => None,
        };
        let message = shortened(message);
        let error = value!({ "message": message, "type": sort, "param": null, "code": code });
        render_failure(&failure, &value!({ "error": error }))
    })
}

fn render_failure(failure: &HttpFailure, body: &Value) -> Response {
    let error = &failure.error;
    let mut response = document("application/json", body.to_string().into());
    let status = StatusCode::from_u16(error.kind.status());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(allow) = failure.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if error.kind == ErrorKind::Unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    add_retry_after(headers, error.retry_after);
    response
}

fn shortened(message: &str) -> String {
    let mut shown: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    if shown.len() < message.len() {
        shown.push('…');
    }
    shown
}

/// `Retry-After` is in whole seconds: rounded up, so that no client retries too early.
fn add_retry_after(headers: &mut HeaderMap, after: Option<Duration>) {
    let Some(after) = after else { return };
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

/// Returns an answer with a document that must not be cached.
pub(crate) fn document(content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns an answer without a body and a content type.
pub(crate) fn done() -> Response {
    let mut response = document("", Bytes::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// Returns `value` as a JSON document.
pub(crate) fn json<T: Serialize>(value: &T) -> Outcome {
    let body = serde_json::to_vec(value);
    let body = body
        .map_err(|error| Error::internal(format!("failed to write the answer as JSON: {error}")))?;
    Ok(document("application/json", body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[test]
    fn errors_carry_status_and_headers() {
        let full = Error::new(ErrorKind::QueueFull, "the queue is full");
        let response = render(Err(full.retry_after(Duration::from_millis(1200)).into()));
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let response = render(Err(HttpFailure::method("GET, HEAD")));
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        let response = render(Err(Error::new(ErrorKind::Unauthorized, "key").into()));
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[tokio::test]
    async fn errors_of_the_openai_api_have_its_form() {
        for (kind, sort, code) in [
            (ErrorKind::NotFound, "invalid_request_error", value!("model_not_found")),
            (ErrorKind::Unauthorized, "invalid_request_error", value!("invalid_api_key")),
            (ErrorKind::MethodNotAllowed, "invalid_request_error", Value::Null),
            (ErrorKind::Internal, "server_error", Value::Null),
        ] {
            let response = render_openai(Err(Error::new(kind, "why").into()));
            assert_eq!(response.status(), kind.status());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let error = value!({ "message": "why", "type": sort, "param": null, "code": code });
            assert_eq!(body, value!({ "error": error }));
        }
    }

    #[test]
    fn long_error_messages_are_cut() {
        let shown = shortened(&"ö".repeat(1_000_000));
        assert_eq!((shown.chars().count(), shown.ends_with('…')), (MESSAGE_CHARS_MAX + 1, true));
        assert_eq!(shortened("short"), "short");
    }
}
