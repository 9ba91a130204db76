//! Settings that an operator changes while the server runs, as lines of the configuration file.

use crate::context::ApiState;
use crate::http::body::check_json_type;
use crate::http::guard::Head;
use crate::http::keys::Scope;
use crate::http::object::Object;
use crate::http::respond::{HttpFailure, Outcome, json};
use crate::operator::live::LiveSettings;
use bytes::Buf;
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json as value;
use types::error::Error;
use types::json::document;

/// Maximum size of the body, in bytes: one short object.
const BODY_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingRequest {
    setting: String,
}

/// `GET /api/settings`: changed settings; `POST` changes one.
pub(crate) async fn settings<S, B, E>(api: &ApiState, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    if head.must_read().is_ok() {
        api.guard.check_read(head)?;
        return json(&value!({ "changed": owner(api)?.changed() }));
    }
    head.must_post().map_err(|_| HttpFailure::method("GET, HEAD, POST"))?;
    api.guard.check_post(head, Scope::Admin)?;
    check_json_type(&head.headers)?;
    let body = api.bodies.at_most(BODY_BYTES_MAX).collect(&head.headers, body).await?;
    let change = owner(api)?.apply(&wanted(&body.bytes)?).map_err(refusal)?;
    json(&change)
}

fn owner(api: &ApiState) -> Result<&dyn LiveSettings, Error> {
    let owner = api.settings.as_deref();
    owner.ok_or_else(|| Error::unavailable("settings cannot be changed in this program"))
}

fn refusal(error: anyhow::Error) -> Error {
    error.downcast().unwrap_or_else(|error| Error::unprocessable(format!("{error:#}")))
}

fn wanted(body: &[u8]) -> Result<String, Error> {
    let wanted: Result<Object<SettingRequest>, _> =
        serde_json::from_slice(document::without_mark(body));
    let wrong =
        |error| Error::malformed(format!("send {{\"setting\": \"adapters.min = 1\"}}: {error}"));
    Ok(wanted.map_err(wrong)?.0.setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_an_object_with_one_line() {
        assert_eq!(
            wanted(br#"{"setting": "latency_target = '1s'"}"#).unwrap(),
            "latency_target = '1s'"
        );
        for wrong in
            ["", "{}", r#"["latency_target"]"#, r#"{"setting": 1}"#, r#"{"setting": "", "x": 1}"#]
        {
            assert_eq!(wanted(wrong.as_bytes()).unwrap_err().kind.status(), 400, "{wrong}");
        }
    }
}
