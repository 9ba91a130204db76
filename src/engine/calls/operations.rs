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
    /// Runs a call whose inputs are what the model's interface says: through the steps around its
    /// graph or through its chain of models, if it has any. Dropping the future takes back all that
    /// is under way.
    ///
    /// # Errors
    /// Those of [`EngineHandle::infer`]; 422 if what was sent is not what the first step takes.
    pub async fn serve_call(&self, call: InferCall) -> Result<InferAnswer, Error> {
        pipeline::serve_call(self, call).await
    }

    /// The newest version served of each name that some adapter can answer for now, perhaps after a
    /// start, in the order of the names.
    pub fn ready_models(&self) -> Vec<Arc<ModelInfo>> {
        readiness::ready_models(self)
    }

    /// The model, if some adapter can answer for it now, perhaps after a start. `version` `None`
    /// means the newest one served.
    ///
    /// # Errors
    /// 404 if it is not served; else the reason why none can: 422 if the model's files are wrong,
    /// 500 if the machine failed to load them, else 503.
    pub fn check_ready(&self, name: &str, version: Option<&str>) -> Result<Arc<ModelInfo>, Error> {
        readiness::check_ready(self, name, version)
    }

    /// Reads a model again and serves it in place of what was served under its name, if anything:
    /// from the moment that a version has answered on some adapter, so that no client waits for
    /// it. If that fails everything stays as it was. Goes on to its end if the caller goes away.
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
