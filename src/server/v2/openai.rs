//! The models in the form of the OpenAI API. Clients of that API read this list first.

use crate::context::ApiState;
use crate::http::guard::Head;
use crate::http::respond::{Outcome, json};
use model::info::ModelInfo;
use serde_json::{Value, json as value};
use types::error::Error;

/// `GET /v1/models`: the newest version of each model that is ready.
pub(crate) fn models(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_model_read(head)?;
    let models = api.engine.ready_models();
    let data: Vec<_> = models.iter().map(|model| describe(model, api.started)).collect();
    json(&value!({ "object": "list", "data": data }))
}

/// `GET /v1/models/{m}`: 404 with the reason for a model that is not in the list.
pub(crate) fn model(api: &ApiState, name: &str, head: &Head) -> Outcome {
    api.guard.check_model_read(head)?;
    let ready = api.engine.ready_models();
    match ready.iter().find(|model| model.name == name) {
        Some(model) => json(&describe(model, api.started)),
        None => Err(Error::not_found(reason(api, name)).into()),
    }
}

/// Returns the reason why a model is not in the list.
fn reason(api: &ApiState, name: &str) -> String {
    let checked = api.engine.check_ready(name, None);
    checked.map_or_else(|error| error.message, |_| format!("model '{name}' was not ready"))
}

/// `created` is the time of the last change of the model's files; for an embedded model, the start
/// of the server.
fn describe(model: &ModelInfo, started: u64) -> Value {
    value!({
        "id": model.name,
        "object": "model",
        "created": model.files_changed.unwrap_or(started),
        "owned_by": crate::PROGRAM,
    })
}
