//! Loads and unloads models of the repository while the server runs.

use crate::calls::handle::EngineHandle;
use crate::calls::messages::{Control, InferCall, ModelCommand, shutting_down};
use crate::calls::rejections::LoadError;
use crate::models::validation::Verdict;
use model::batch::warm_up_inputs;
use model::info::ModelInfo;
use model::repository::{BadModel, ScanResult};
use std::sync::Arc;
use tokio::sync::oneshot;
use types::error::{Error, ErrorKind};
use wire::Cause;

/// See [`EngineHandle::load_model`].
pub(crate) async fn load_model(engine: &EngineHandle, name: &str) -> Result<(), Error> {
    let (handle, name) = (engine.clone(), name.to_owned());
    // A task of its own, since the future of a client that disconnects is dropped.
    let load = tokio::spawn(async move {
        // One load per name at a time, so that of two loads the later one determines the result.
        let _lock = handle.loads.lock(&name).await;
        load(&handle, name).await
    });
    load.await.unwrap_or_else(|error| Err(Error::internal(format!("the load failed: {error}"))))
}

/// See [`EngineHandle::unload_model`].
pub(crate) async fn unload_model(engine: &EngineHandle, name: &str) -> Result<(), Error> {
    engine.model(name, None)?;
    serve(engine, name.to_owned(), Vec::new(), Vec::new()).await
}

/// See [`EngineHandle::model_names`].
pub(crate) async fn model_names(engine: &EngineHandle) -> Result<Vec<String>, Error> {
    let library = engine.store.clone();
    let names = tokio::task::spawn_blocking(move || library.repository.names()).await;
    let names = names.map_err(|error| Error::internal(error.to_string()))?;
    names.map_err(|error| Error::internal(format!("failed to read the repository: {error}")))
}

async fn load(engine: &EngineHandle, name: String) -> Result<(), Error> {
    let (good, broken) = scan(engine, name.clone()).await?;
    if good.is_empty() {
        return Err(record_errors(engine, name, broken).await);
    }
    let tried = match engine.validator.validate(&good, &engine.snapshots).await {
        Verdict::Short => try_to_serve(engine, &name, good.clone(), broken.clone()).await?,
        Verdict::Long => return serve_untried(engine, name, good, broken).await,
        Verdict::Failed(why) => Err(why),
    };
    let whole = match tried {
        Ok(()) => return Ok(()),
        // Only a load shows for some models that rows depend on each other. The second attempt
        // runs each request by itself.
        Err(why) if why.cause == Cause::Rows => {
            good.iter().map(|info| info.run_whole(&why.error)).collect()
        }
        Err(why) => return Err(record_load_error(engine, name, why).await),
    };
    match try_to_serve(engine, &name, whole, broken).await? {
        Ok(()) => Ok(()),
        Err(why) => Err(record_load_error(engine, name, why).await),
    }
}

/// Serves models that were loaded only in a validation process. An adapter loads them with the
/// first request, since a load now would delay the requests to other models.
async fn serve_untried(
    engine: &EngineHandle,
    name: String,
    infos: Vec<ModelInfo>,
    broken: Vec<BadModel>,
) -> Result<(), Error> {
    let tried = send_command(engine, |done| ModelCommand::AddForValidation { infos, done }).await?;
    serve(engine, name, tried, broken).await
}

/// Serves models once each has answered or has been loaded; otherwise returns the error of a load.
///
/// # Errors
/// If the validation load could not run.
async fn try_to_serve(
    engine: &EngineHandle,
    name: &str,
    infos: Vec<ModelInfo>,
    broken: Vec<BadModel>,
) -> Result<Result<(), LoadError>, Error> {
    let tried = send_command(engine, |done| ModelCommand::AddForValidation { infos, done }).await?;
    let Err(error) = check_answers(engine, &tried).await else {
        return serve(engine, name.to_owned(), tried, broken).await.map(Ok);
    };
    let why = send_command(engine, |done| ModelCommand::EndValidation { tried, done }).await?;
    why.map_or(Err(error), |why| Ok(Err(why)))
}

async fn record_load_error(engine: &EngineHandle, name: String, why: LoadError) -> Error {
    let (machine, error) = (!why.is_of_files(), why.error);
    let bad = BadModel { name: name.clone(), version: None, error, machine };
    record_errors(engine, name, vec![bad]).await
}

/// Records the errors in the files of a model. The versions that serve now are read from their
/// copies from then on, if there are any.
async fn record_errors(engine: &EngineHandle, name: String, broken: Vec<BadModel>) -> Error {
    let error = unloadable(&name, &broken);
    let (library, wanted) = (engine.store.clone(), name.clone());
    let kept = tokio::task::spawn_blocking(move || library.kept_of(&wanted)).await;
    let kept = kept.unwrap_or_default();
    match send_command(engine, |done| ModelCommand::RecordErrors { name, broken, kept, done }).await
    {
        Ok(()) => error,
        Err(down) => down,
    }
}

async fn scan(
    engine: &EngineHandle,
    name: String,
) -> Result<(Vec<ModelInfo>, Vec<BadModel>), Error> {
    let (library, wanted) = (engine.store.clone(), name.clone());
    let scan = move || library.scan_one(&wanted);
    let found = tokio::task::spawn_blocking(scan).await;
    let found = found.map_err(|error| Error::internal(format!("the scan failed: {error}")))?;
    if found.is_empty() {
        // The name is the text of a client, which can have any length.
        let shown: String = name.chars().take(100).collect();
        return Err(Error::not_found(format!("the repository has no model '{shown}'")));
    }
    let (mut good, mut broken) = (Vec::new(), Vec::new());
    for found in found {
        match found {
            ScanResult::Good(info) => good.push(info),
            ScanResult::Bad(bad) => broken.push(bad),
        }
    }
    Ok((good, broken))
}

/// Checks that every model answers a row of zeros. The adapter that answers keeps the model loaded.
async fn check_answers(engine: &EngineHandle, models: &[Arc<ModelInfo>]) -> Result<(), Error> {
    for model in models {
        if model.ensemble().is_some() {
            let missing = engine.models.borrow().missing(model);
            missing.map_or(Ok(()), |missing| Err(missing.error(&model.name)))?;
            continue;
        }
        check_zeros(engine, model).await?;
    }
    Ok(())
}

/// Checks that a model answers a row of zeros, or at least that it has been loaded: some graphs
/// fail for zeros or made-up lengths although their files are good.
async fn check_zeros(engine: &EngineHandle, model: &Arc<ModelInfo>) -> Result<(), Error> {
    let inputs = warm_up_inputs(&model.signature, 1).into_iter().next().unwrap_or_default();
    if model.decoupled {
        // The first partial answer is sufficient; the drop of `answers` cancels the others.
        let mut answers = engine.generate(InferCall::own(model.clone(), inputs))?;
        return answers.next().await.transpose().map(drop);
    }
    match engine.infer(InferCall::own(model.clone(), inputs)).await {
        Err(error) if error.kind == ErrorKind::Unprocessable => {
            let info = model.clone();
            let loaded = send_command(engine, |done| ModelCommand::IsLoaded { info, done }).await?;
            if loaded { Ok(()) } else { Err(error) }
        }
        outcome => outcome.map(drop),
    }
}

async fn serve(
    engine: &EngineHandle,
    name: String,
    tried: Vec<Arc<ModelInfo>>,
    broken: Vec<BadModel>,
) -> Result<(), Error> {
    send_command(engine, |done| ModelCommand::Serve { name, tried, broken, done }).await
}

async fn send_command<T>(
    engine: &EngineHandle,
    command: impl FnOnce(oneshot::Sender<T>) -> ModelCommand,
) -> Result<T, Error> {
    let (done, outcome) = oneshot::channel();
    let sent = engine.controls.send(Control::ModelCommand(command(done))).await;
    sent.map_err(|_| shutting_down())?;
    outcome.await.map_err(|_| shutting_down())
}

fn unloadable(name: &str, broken: &[BadModel]) -> Error {
    let reasons: Vec<_> = broken.iter().map(|bad| bad.error.as_str()).collect();
    let (name, reasons) = (name.escape_debug(), reasons.join("; "));
    let message = format!("model '{name}' cannot be loaded: {reasons}");
    let machine = broken.iter().all(|bad| bad.machine);
    Error::new(if machine { ErrorKind::Internal } else { ErrorKind::Unprocessable }, message)
}
