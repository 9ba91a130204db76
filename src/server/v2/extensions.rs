//! Extensions of the Open Inference Protocol V2, as Triton defines them: model repository,
//! statistics, model configuration.

use crate::context::{ApiState, Target};
use crate::http::body::{check_lenient_json_type, check_optional_json_type};
use crate::http::guard::Head;
use crate::http::keys::Scope;
use crate::http::object::Object;
use crate::http::respond::{HttpFailure, Outcome, done, json};
use bytes::Buf;
use engine::PRIORITY_DEFAULT;
use futures_util::Stream;
use model::info::ModelInfo;
use model::signature::{RowMode, TensorSpec};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};
use std::collections::{BTreeMap, HashSet};
use telemetry::{ModelState, ModelStatistics, ModelView};
use types::error::Error;
use types::json::document;
use types::tensor::Datatype;

/// Maximum size of the body of these routes, in bytes: one short object.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// One line of the index; `state` is `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct IndexEntry {
    name: String,
    version: String,
    state: &'static str,
    reason: String,
}

/// Other fields are ignored, as in inference: the request has no effect on the state.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ChangeRequest {
    /// Only the names are needed. A value that is parsed may be nested without a limit.
    parameters: BTreeMap<String, IgnoredAny>,
}

/// `POST /v2/repository/index`: every model of the repository and its state.
pub(crate) async fn index<S, B, E>(api: &ApiState, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    api.guard.check_post(head, Scope::Read)?;
    check_lenient_json_type(&head.headers)?;
    let request: IndexRequest = read(api, head, body).await?;
    let names = api.engine.model_names().await?;
    let snapshot = api.engine.snapshots().borrow().clone();
    let mut entries = list(names, &snapshot.models);
    entries.retain(|entry| !request.ready || entry.state == state_name(ModelState::Ready));
    json(&entries)
}

/// Returns the state's name in Triton's index of the repository.
fn state_name(state: ModelState) -> &'static str {
    match state {
        ModelState::Ready => "READY",
        ModelState::Loading => "LOADING",
        ModelState::Unloading => "UNLOADING",
        ModelState::Unavailable => "UNAVAILABLE",
    }
}

/// Returns the known models, then those that only the repository has.
fn list(names: Vec<String>, models: &[ModelView]) -> Vec<IndexEntry> {
    let known: HashSet<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let unloaded = names.into_iter().filter(|name| !known.contains(name.as_str()));
    let unloaded = unloaded.map(|name| IndexEntry {
        name,
        version: String::new(),
        state: state_name(ModelState::Unavailable),
        reason: "not loaded".into(),
    });
    let entry = |model: &ModelView| IndexEntry {
        name: model.name.clone(),
        version: model.version.clone(),
        state: state_name(model.state),
        reason: model.reason.clone().unwrap_or_default(),
    };
    let mut entries: Vec<_> = models.iter().map(entry).chain(unloaded).collect();
    entries.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    entries
}

/// `POST /v2/repository/models/{m}/load`: reads the model again, and serves it after its load.
pub(crate) async fn load<S, B, E>(api: &ApiState, name: &str, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    let request: ChangeRequest = read_change(api, head, body).await?;
    if let Some(name) = request.parameters.keys().next() {
        let shown: String = name.chars().take(100).collect();
        let message = format!(
            "load has no parameter '{shown}'; a model is defined by its folder in the repository"
        );
        return Err(Error::unprocessable(message).into());
    }
    api.engine.load_model(name).await?;
    Ok(done())
}

/// `POST /v2/repository/models/{m}/unload`: finishes admitted requests and rejects new ones.
pub(crate) async fn unload<S, B, E>(api: &ApiState, name: &str, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    // `unload_dependents` is the only parameter of the protocol. The models of an ensemble stay
    // loaded, since other requests and ensembles may use them.
    let _: ChangeRequest = read_change(api, head, body).await?;
    api.engine.unload_model(name).await?;
    Ok(done())
}

/// Reads the body of a route that changes state.
async fn read_change<S, B, E>(
    api: &ApiState,
    head: &Head,
    body: S,
) -> Result<ChangeRequest, HttpFailure>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    api.guard.check_post(head, Scope::Admin)?;
    check_optional_json_type(&head.headers)?;
    read(api, head, body).await
}

/// Reads a body; an empty one stands for `{}`.
async fn read<T, S, B, E>(api: &ApiState, head: &Head, body: S) -> Result<T, HttpFailure>
where
    T: for<'a> Deserialize<'a> + Default,
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    let body = api.bodies.at_most(BODY_BYTES_MAX).collect(&head.headers, body).await?;
    Ok(parse(&body.bytes)?)
}

fn parse<T: for<'a> Deserialize<'a> + Default>(body: &[u8]) -> Result<T, Error> {
    let body = document::without_mark(body);
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let parsed: Result<Object<T>, _> = serde_json::from_slice(body);
    let wrong = |error| Error::malformed(format!("the body is invalid: {error}"));
    Ok(parsed.map_err(wrong)?.0)
}

/// `GET /v2/models/{m}[/versions/{v}]/stats`, and `GET /v2/models/stats` for all.
pub(crate) async fn statistics(api: &ApiState, target: Option<&Target>, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let name = target.map(|target| target.name.as_str());
    let version = target.and_then(|target| target.version.as_deref());
    let models = api.engine.models(name, version)?;
    let statistics: Vec<ModelStatistics> = api.engine.statistics(models).await?;
    json(&value!({ "model_stats": statistics }))
}

/// `GET /v2/models/{m}[/versions/{v}]/config`.
pub(crate) fn config(api: &ApiState, target: &Target, head: &Head) -> Outcome {
    api.guard.check_model_read(head)?;
    let model = api.engine.model(&target.name, target.version.as_deref())?;
    json(&describe(&model))
}

/// Returns the supported fields of Triton's `ModelConfig` (`model_config.proto`). Requests of more
/// rows than `max_batch_size` are accepted too: they are cut into chunks.
fn describe(model: &ModelInfo) -> Value {
    let mode = model.interface().rows;
    let tensor = |spec: &TensorSpec| describe_tensor(spec, mode);
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect::<Vec<_>>();
    let batches = model.interface().rows == RowMode::Stacked;
    let mut inputs = tensors(&model.interface().inputs);
    for input in &mut inputs {
        for no in ["allow_ragged_batch", "is_shape_tensor", "optional"] {
            input[no] = false.into();
        }
    }
    let delay = u64::try_from(model.batch.delay.as_micros()).unwrap_or(u64::MAX);
    value!({
        "name": model.name,
        "platform": format!("concertina_{}", model.kind),
        "backend": "concertina",
        "version_policy": { "specific": { "versions": [model.version.parse::<u64>().ok()] } },
        "max_batch_size": if batches { model.batch.max_rows } else { 0 },
        "input": inputs,
        "output": tensors(&model.interface().outputs),
        "dynamic_batching": {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": delay,
            "priority_levels": u32::MAX,
            "default_priority_level": PRIORITY_DEFAULT,
        },
        "instance_group": [],
        "parameters": {},
        "model_transaction_policy": { "decoupled": model.decoupled },
    })
}

/// Dimensions are without the batch axis if `max_batch_size` is above 0, otherwise with all axes.
fn describe_tensor(spec: &TensorSpec, mode: RowMode) -> Value {
    let datatype = spec.datatype();
    let name = match datatype {
        Datatype::Bytes => "STRING",
        _ => datatype.as_str(),
    };
    let dims = match mode {
        RowMode::Stacked => spec.shape.clone(),
        RowMode::Each | RowMode::Whole => spec.public_shape(mode),
    };
    value!({ "name": spec.name, "data_type": format!("TYPE_{name}"), "dims": dims })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, state: ModelState) -> ModelView {
        ModelView { name: name.into(), state, ..ModelView::default() }
    }

    #[test]
    fn index_lists_served_and_other_models() {
        let names = ["c", "a", "b"].map(str::to_owned).to_vec();
        let entries =
            list(names, &[view("b", ModelState::Ready), view("gone", ModelState::Unloading)]);
        let lines: Vec<_> =
            entries.iter().map(|e| format!("{} {} {}", e.name, e.state, e.reason)).collect();
        let expected =
            ["a UNAVAILABLE not loaded", "b READY ", "c UNAVAILABLE not loaded", "gone UNLOADING "];
        assert_eq!(lines, expected);
    }

    #[test]
    fn bodies_may_be_empty_but_not_wrong() {
        assert!(!parse::<IndexRequest>(b" \n").unwrap().ready);
        assert!(!parse::<IndexRequest>("\u{feff}".as_bytes()).unwrap().ready);
        assert!(parse::<IndexRequest>(br#"{"ready": true}"#).unwrap().ready);
        let unload = br#"{"parameters": {"unload_dependents": false}}"#;
        assert_eq!(parse::<ChangeRequest>(unload).unwrap().parameters.len(), 1);
        assert!(!parse::<IndexRequest>(br#"{"repository_name": "a"}"#).unwrap().ready);
        for wrong in ["3", "{", "[]", r#"{"ready": 1}"#] {
            assert_eq!(parse::<IndexRequest>(wrong.as_bytes()).unwrap_err().kind.status(), 400);
        }
        for wrong in [r#"{"ready": true}"#, r#"{"parameters": []}"#] {
            assert_eq!(parse::<ChangeRequest>(wrong.as_bytes()).unwrap_err().kind.status(), 400);
        }
    }

    #[test]
    fn datatypes_have_the_names_of_the_configuration() {
        let spec = |datatype| TensorSpec::new("x", vec![datatype], vec![-1, 3]);
        let expected = value!({ "name": "x", "data_type": "TYPE_FP32", "dims": [-1, 3] });
        assert_eq!(describe_tensor(&spec(Datatype::Fp32), RowMode::Stacked), expected);
        assert_eq!(
            describe_tensor(&spec(Datatype::Bytes), RowMode::Whole)["data_type"],
            "TYPE_STRING"
        );
    }
}
