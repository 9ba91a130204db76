//! Loads and unloads models of the repository while the server runs.

use super::handle::EngineHandle;
use super::messages::{Control, InferCall, ModelOrder, going_down};
use super::rejections::LoadError;
use super::validation::Verdict;
use crate::error::{Error, ErrorKind};
use crate::model::batch::warm_up_inputs;
use crate::model::info::ModelInfo;
use crate::model::repository::{BadModel, Found};
use crate::wire::Cause;
use std::sync::Arc;
use tokio::sync::oneshot;

impl EngineHandle {
    /// Reads a model again and serves it in place of what was served under its name, if anything:
    /// from the moment that a version has answered on some adapter, so that no client waits for
    /// it. If that fails everything stays as it was. Goes on to its end if the caller goes away.
    ///
    /// # Errors
    /// 404 if the repository has no such model, 422 if its files are wrong, 500 if the machine
    /// failed to read or hold it, else the error of the validation load, such as 503 if no adapter
    /// can serve.
    pub async fn load_model(&self, name: &str) -> Result<(), Error> {
        let (handle, name) = (self.clone(), name.to_owned());
        let load = tokio::spawn(async move {
            // One of a name at a time, so that of two loads the later one counts.
            let _turn = handle.loads.take(&name).await;
            handle.load(name).await
        });
        load.await.unwrap_or_else(|error| Err(Error::internal(format!("loading broke: {error}"))))
    }

    /// Serves a model no more. Requests that were admitted are finished.
    ///
    /// # Errors
    /// 404 if it is not served.
    pub async fn unload_model(&self, name: &str) -> Result<(), Error> {
        self.model(name, None)?;
        self.serve(name.to_owned(), Vec::new(), Vec::new()).await
    }

    /// Names of all models in the repository.
    ///
    /// # Errors
    /// 500 if the repository cannot be read.
    pub async fn model_names(&self) -> Result<Vec<String>, Error> {
        let library = self.store.clone();
        let names = tokio::task::spawn_blocking(move || library.repository.names()).await;
        let names = names.map_err(|error| Error::internal(error.to_string()))?;
        names.map_err(|error| Error::internal(format!("cannot read the repository: {error}")))
    }

    async fn load(&self, name: String) -> Result<(), Error> {
        let (good, broken) = self.scan(name.clone()).await?;
        if good.is_empty() {
            return Err(self.blame(name, broken).await);
        }
        let tried = match self.validator.validate(&good, &self.snapshots).await {
            Verdict::Short => self.try_to_serve(&name, good.clone(), broken.clone()).await?,
            Verdict::Long => return self.serve_untried(name, good, broken).await,
            Verdict::Failed(why) => Err(why),
        };
        let whole = match tried {
            Ok(()) => return Ok(()),
            Err(why) if why.cause == Cause::Rows => {
                good.iter().map(|info| info.run_whole(&why.error)).collect()
            }
            Err(why) => return Err(self.blame_load(name, why).await),
        };
        match self.try_to_serve(&name, whole, broken).await? {
            Ok(()) => Ok(()),
            Err(why) => Err(self.blame_load(name, why).await),
        }
    }

    /// Serves models that were loaded in a process of their own; an adapter loads them with the
    /// first request, since that takes long beside the requests to other models.
    async fn serve_untried(
        &self,
        name: String,
        infos: Vec<ModelInfo>,
        broken: Vec<BadModel>,
    ) -> Result<(), Error> {
        let tried = self.order(|done| ModelOrder::TryOut { infos, done }).await?;
        self.serve(name, tried, broken).await
    }

    /// Serves models once each has answered or been loaded; else returns the error of a load.
    ///
    /// # Errors
    /// If the validation load could not be made.
    async fn try_to_serve(
        &self,
        name: &str,
        infos: Vec<ModelInfo>,
        broken: Vec<BadModel>,
    ) -> Result<Result<(), LoadError>, Error> {
        let tried = self.order(|done| ModelOrder::TryOut { infos, done }).await?;
        let Err(error) = self.answers(&tried).await else {
            return self.serve(name.to_owned(), tried, broken).await.map(Ok);
        };
        let why = self.order(|done| ModelOrder::Dismiss { tried, done }).await?;
        why.map_or(Err(error), |why| Ok(Err(why)))
    }

    async fn blame_load(&self, name: String, why: LoadError) -> Error {
        let (machine, error) = (!why.is_of_files(), why.error);
        let bad = BadModel { name: name.clone(), version: None, error, machine };
        self.blame(name, vec![bad]).await
    }

    /// Records the errors in the files of a model. The versions that serve now are read from their
    /// copies from then on, where there are any.
    async fn blame(&self, name: String, broken: Vec<BadModel>) -> Error {
        let error = unloadable(&name, &broken);
        let (library, asked) = (self.store.clone(), name.clone());
        let kept = tokio::task::spawn_blocking(move || library.kept_of(&asked)).await;
        let kept = kept.unwrap_or_default();
        match self.order(|done| ModelOrder::Blame { name, broken, kept, done }).await {
            Ok(()) => error,
            Err(down) => down,
        }
    }

    async fn scan(&self, name: String) -> Result<(Vec<ModelInfo>, Vec<BadModel>), Error> {
        let (library, asked) = (self.store.clone(), name.clone());
        let scan = move || library.scan_one(&asked);
        let found = tokio::task::spawn_blocking(scan).await;
        let found = found.map_err(|error| Error::internal(format!("the scan broke: {error}")))?;
        if found.is_empty() {
            let shown: String = name.chars().take(100).collect();
            return Err(Error::not_found(format!("the repository has no model '{shown}'")));
        }
        let (mut good, mut broken) = (Vec::new(), Vec::new());
        for found in found {
            match found {
                Found::Good(info) => good.push(info),
                Found::Bad(bad) => broken.push(bad),
            }
        }
        Ok((good, broken))
    }

    /// Whether every model answers a row of zeros; the adapter that does holds it from then on.
    async fn answers(&self, models: &[Arc<ModelInfo>]) -> Result<(), Error> {
        for model in models {
            if model.ensemble().is_some() {
                let missing = self.models.borrow().missing(model);
                missing.map_or(Ok(()), |missing| Err(missing.error(&model.name)))?;
                continue;
            }
            self.answers_zeros(model).await?;
        }
        Ok(())
    }

    /// Checks that a model answers a row of zeros, or at least has been loaded: some graphs fail
    /// for zeros or invented lengths although their files are good.
    async fn answers_zeros(&self, model: &Arc<ModelInfo>) -> Result<(), Error> {
        let inputs = warm_up_inputs(&model.signature, 1).into_iter().next().unwrap_or_default();
        match self.infer(InferCall::own(model.clone(), inputs)).await {
            Err(error) if error.kind == ErrorKind::Unprocessable => {
                let info = model.clone();
                let loaded = self.order(|done| ModelOrder::IsLoaded { info, done }).await?;
                if loaded { Ok(()) } else { Err(error) }
            }
            outcome => outcome.map(drop),
        }
    }

    async fn serve(
        &self,
        name: String,
        tried: Vec<Arc<ModelInfo>>,
        broken: Vec<BadModel>,
    ) -> Result<(), Error> {
        self.order(|done| ModelOrder::Serve { name, tried, broken, done }).await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> ModelOrder,
    ) -> Result<T, Error> {
        let (done, outcome) = oneshot::channel();
        let sent = self.controls.send(Control::Order(order(done))).await;
        sent.map_err(|_| going_down())?;
        outcome.await.map_err(|_| going_down())
    }
}

fn unloadable(name: &str, broken: &[BadModel]) -> Error {
    let reasons: Vec<_> = broken.iter().map(|bad| bad.error.as_str()).collect();
    let (name, reasons) = (name.escape_debug(), reasons.join("; "));
    let message = format!("model '{name}' cannot be loaded: {reasons}");
    let machine = broken.iter().all(|bad| bad.machine);
    Error::new(if machine { ErrorKind::Internal } else { ErrorKind::Unprocessable }, message)
}
