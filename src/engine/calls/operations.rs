//! Operations of the engine that consist of several calls of the driver.

use crate::calls::handle::EngineHandle;
use crate::calls::messages::{InferAnswer, InferCall};
use crate::calls::pipeline;
use crate::models::folder::{self, Marks};
use crate::models::{readiness, repository};
use model::info::ModelInfo;
use std::sync::Arc;
use std::time::Duration;
use types::error::Error;

impl EngineHandle {
    /// Runs a call with inputs of the model's interface, through the steps around its graph or
    /// through the models of an ensemble, if it has any. Dropping the future cancels all requests
    /// in flight.
    ///
    /// # Errors
    /// Those of [`EngineHandle::infer`]; 422 if the first step does not accept the inputs.
    pub async fn serve_call(&self, call: InferCall) -> Result<InferAnswer, Error> {
        pipeline::serve_call(self, call).await
    }

    /// The newest served version of each name for which an adapter can answer now, possibly after a
    /// start, ordered by name.
    pub fn ready_models(&self) -> Vec<Arc<ModelInfo>> {
        readiness::ready_models(self)
    }

    /// The model, if an adapter can answer for it now, possibly after a start. Without `version`,
    /// the newest served version.
    ///
    /// # Errors
    /// 404 if it is not served, 422 if the model's files are wrong, 500 if the machine failed to
    /// load them, 503 for any other reason.
    pub fn check_ready(&self, name: &str, version: Option<&str>) -> Result<Arc<ModelInfo>, Error> {
        readiness::check_ready(self, name, version)
    }

    /// Reads a model again and serves it in place of the models that were served under its name.
    /// The replacement takes effect when a version has answered on an adapter, so that no client
    /// waits for it. If that fails, nothing changes. The load continues if the caller drops the
    /// future.
    ///
    /// # Errors
    /// 404 if the repository has no such model, 422 if its files are wrong, 500 if the machine
    /// failed to read or hold it, else the error of the validation load, such as 503 if no adapter
    /// can serve.
    pub async fn load_model(&self, name: &str) -> Result<(), Error> {
        repository::load_model(self, name).await
    }

    /// Ends serving a model. Requests that were admitted are finished.
    ///
    /// # Errors
    /// 404 if it is not served.
    pub async fn unload_model(&self, name: &str) -> Result<(), Error> {
        repository::unload_model(self, name).await
    }

    /// Names of all models in the repository.
    ///
    /// # Errors
    /// 500 if the repository cannot be read.
    pub async fn model_names(&self) -> Result<Vec<String>, Error> {
        repository::model_names(self).await
    }

    /// Polls the repository's folder periodically. `first` holds the marks from before the served
    /// models were read, so that a model that changed since then is read again.
    pub async fn follow_repository(self, first: Marks, every: Duration) {
        folder::follow_repository(self, first, every).await;
    }
}
