//! Announcements of clients that will send requests to a model: an adapter is started in time.
//!
//! An announcement is a hint: the policy decides whether a start is worth its cost.

use crate::context::ApiState;
use crate::http::body::check_json_type;
use crate::http::guard::Head;
use crate::http::keys::Scope;
use crate::http::object::Object;
use crate::http::respond::{HttpFailure, Outcome, json};
use bytes::Buf;
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json as value;
use std::time::Duration;
use types::error::Error;
use types::json::document;
use warp::http::HeaderMap;

/// The header of a request to a model that announces the next request.
const HEADER: &str = "x-concertina-expect";
/// Maximum size of the body, in bytes: one short object.
const BODY_BYTES_MAX: usize = 4096;
/// Maximum length of a duration: its parser panics at a sum of seconds near the largest number.
const TEXT_MAX: usize = 16;
/// The maximum time that can be announced.
const WITHIN_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectRequest {
    model: String,
    #[serde(rename = "in")]
    within: String,
}

/// `POST /api/expect`.
pub(crate) async fn expect<S, B, E>(api: &ApiState, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    head.must_post().map_err(|_| HttpFailure::method("POST"))?;
    api.guard.check_post(head, Scope::Infer)?;
    check_json_type(&head.headers)?;
    let body = api.bodies.at_most(BODY_BYTES_MAX).collect(&head.headers, body).await?;
    let Object(ExpectRequest { model, within }) =
        serde_json::from_slice(document::without_mark(&body.bytes)).map_err(|error| {
            Error::malformed(format!("send {{\"model\": \"NAME\", \"in\": \"30s\"}}: {error}"))
        })?;
    let within = read(&within).map_err(|reason| Error::unprocessable(format!("in {reason}")))?;
    let model = api.engine.model(&model, None)?;
    let answer = value!({ "model": model.name, "in_ms": within.as_millis() as u64 });
    api.engine.announce(model, api.guard.client(head), within)?;
    json(&answer)
}

/// Returns the announced time until the next request to the model, if the headers contain one.
///
/// # Errors
/// 400 if the header is not a duration, or is longer than a day.
pub(crate) fn announced(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(text) = headers.get(HEADER) else { return Ok(None) };
    let text = text.to_str().map_err(|_| ()).unwrap_or("\u{fffd}");
    let within = read(text).map_err(|reason| Error::malformed(format!("{HEADER} {reason}")))?;
    Ok(Some(within))
}

/// An error of a duration until requests.
#[derive(Debug, thiserror::Error)]
enum BadDuration {
    #[error("must be a duration such as 30s, not {0:?}")]
    Form(String),
    #[error("must be 24h at most, not {0:?}")]
    Long(String),
}

fn read(text: &str) -> Result<Duration, BadDuration> {
    let short = Some(text.trim()).filter(|text| text.len() <= TEXT_MAX);
    let within = short.and_then(|text| humantime::parse_duration(text).ok());
    let within = within.ok_or_else(|| BadDuration::Form(text.to_owned()))?;
    if within > WITHIN_MAX {
        return Err(BadDuration::Long(text.to_owned()));
    }
    Ok(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_or_rejected() {
        let first = |reason: BadDuration| reason.to_string().split(',').next().unwrap().to_owned();
        let read = |text: &str| read(text).map_err(first);
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read(" 1m 30s "), Ok(Duration::from_secs(90)));
        assert_eq!(read("0s"), Ok(Duration::ZERO));
        assert_eq!(read("24h"), Ok(WITHIN_MAX));
        let form = Err("must be a duration such as 30s".to_owned());
        let panics = "18446744073709551615s 1000ms";
        for text in [panics, "", "30", "-5s", "soon", "99999999999999999999h", "1e3s", "\u{fffd}"] {
            assert_eq!(read(text), form, "{text:?}");
        }
        assert_eq!(read("25h"), Err("must be 24h at most".to_owned()));
    }
}
