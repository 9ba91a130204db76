//! The state of the server as JSON, and the operator's control of adapters.

use crate::context::ApiState;
use crate::http::body::check_json_type;
use crate::http::guard::Head;
use crate::http::keys::Scope;
use crate::http::object::Object;
use crate::http::respond::{self, HttpFailure, Outcome, json};
use crate::operator::rendered::{adapter_value, snapshot_value};
use bytes::Buf;
use engine::Mode;
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json as value;
use telemetry::{Notation, SAMPLE_MS};
use types::error::Error;
use types::json::document;
use warp::http::header::ACCEPT;

/// Maximum size of the body of the operator's routes, in bytes: one short object.
const BODY_BYTES_MAX: usize = 4096;

/// `GET /api/adapters`: used and unused adapters.
pub(crate) fn adapters(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let snapshot = api.engine.snapshots().borrow().clone();
    let adapters: Result<Vec<_>, _> = snapshot.adapters.iter().map(adapter_value).collect();
    json(&value!({ "adapters": adapters? }))
}

/// `GET /api/decisions`: the last decisions, newest last.
pub(crate) fn decisions(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let snapshot = api.engine.snapshots().borrow().clone();
    json(&value!({ "decisions": snapshot.decisions }))
}

/// `GET /api/snapshot`: the current state of everything.
pub(crate) fn snapshot(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let snapshot = api.engine.snapshots().borrow().clone();
    json(&snapshot_value(&snapshot, api.load.view().as_ref())?)
}

/// `GET /api/history`: a sample of each of the last seconds.
pub(crate) fn history(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    json(&value!({ "interval_ms": SAMPLE_MS, "samples": api.engine.history() }))
}

/// `GET /metrics`, for Prometheus.
pub(crate) fn metrics(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let notation = Notation::accepted(accept.unwrap_or_default());
    Ok(respond::document(notation.media_type(), api.engine.metrics(notation).into()))
}

/// `GET /api/whatif`: the cost of the last requests under other settings.
pub(crate) async fn whatif(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    json(&api.whatif.view(&api.engine).await?)
}

/// `GET /api/recording`: the requests of the last day and the adapters, in the form that
/// `concertina simulate` reads.
pub(crate) async fn recording(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let recording = api.whatif.recording(&api.engine).await?;
    Ok(respond::document("application/json", recording.into()))
}

/// `POST /api/load` starts a run of the load generator, `DELETE` ends it; both answer with its
/// state.
pub(crate) async fn load<S, B, E>(api: &ApiState, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    if head.must_delete().is_ok() {
        api.guard.check_delete(head)?;
        api.load.stop().await;
        return json(&api.load.view());
    }
    head.must_post().map_err(|_| HttpFailure::method("POST, DELETE"))?;
    api.guard.check_post(head, Scope::Admin)?;
    check_json_type(&head.headers)?;
    let body = api.bodies.at_most(BODY_BYTES_MAX).collect(&head.headers, body).await?;
    api.load.start(&body.bytes)?;
    json(&api.load.view())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeRequest {
    mode: ModeName,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Auto,
    On,
    Off,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Mode {
        match name {
            ModeName::Auto => Mode::Auto,
            ModeName::On => Mode::On,
            ModeName::Off => Mode::Off,
        }
    }
}

/// `POST /api/adapters/{id}` with `{"mode": "auto" | "on" | "off"}`.
pub(crate) async fn set_mode<S, B, E>(api: &ApiState, id: &str, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    api.guard.check_post(head, Scope::Admin)?;
    check_json_type(&head.headers)?;
    let body = api.bodies.at_most(BODY_BYTES_MAX).collect(&head.headers, body).await?;
    let mode = parse_mode(&body.bytes)?;
    api.engine.set_mode(id, mode.into()).await?;
    json(&value!({ "id": id, "mode": format!("{mode:?}").to_lowercase() }))
}

fn parse_mode(body: &[u8]) -> Result<ModeName, Error> {
    let request: Result<Object<ModeRequest>, _> =
        serde_json::from_slice(document::without_mark(body));
    let wrong = |error| Error::malformed(format!("send {{\"mode\": \"auto|on|off\"}}: {error}"));
    Ok(request.map_err(wrong)?.0.mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_parsed() {
        assert!(matches!(parse_mode(br#"{"mode": "auto"}"#), Ok(ModeName::Auto)));
        assert!(matches!(parse_mode(br#"{"mode":"on"}"#), Ok(ModeName::On)));
        assert!(matches!(parse_mode(br#"{"mode":"off"}"#), Ok(ModeName::Off)));
        for wrong in [
            "",
            "{}",
            r#"{"mode":"ON"}"#,
            r#"{"mode":1}"#,
            r#"{"mode":"on","x":1}"#,
            "on",
            r#"["on"]"#,
        ] {
            assert_eq!(parse_mode(wrong.as_bytes()).unwrap_err().kind.status(), 400, "{wrong}");
        }
    }
}
