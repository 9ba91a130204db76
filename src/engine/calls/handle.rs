//! The interface of the engine for the API.

use crate::calls::admissions::{Admission, Admissions};
use crate::calls::held_memory::{Full, Memory};
use crate::calls::messages::{Control, InferAnswer, InferCall, Mode, WhatifInputs, shutting_down};
use crate::calls::partial::{CancelOnDrop, PartialAnswerSender, PartialAnswers, Reply};
use crate::calls::submitted::Submitted;
use crate::models::library::Library;
use crate::models::name_locks::NameLocks;
use crate::models::validation::Validator;
use crate::{Catalogue, LiveConfig};
use model::info::ModelInfo;
use schedule::RequestId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use telemetry::{History, Metrics, ModelStatistics, Notation, Sample, Snapshot};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use types::clock;
use types::error::{Error, ErrorKind};

/// A handle to the engine. Clones are cheap and refer to the same engine.
#[derive(Clone)]
pub struct EngineHandle {
    pub(crate) calls: mpsc::Sender<Submitted>,
    pub(crate) cancels: mpsc::Sender<RequestId>,
    pub(crate) controls: mpsc::Sender<Control>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) models: watch::Receiver<Arc<Catalogue>>,
    pub(crate) requests: Arc<AtomicU64>,
    /// Number of settings changes.
    pub(crate) configured: Arc<AtomicU64>,
    pub(crate) admissions: Admissions,
    pub(crate) memory: Memory,
    /// Permits for steps of the host; their number bounds how many run at the same time.
    pub(crate) host_permits: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    pub(crate) history: History,
    /// The time at which the server started.
    pub(crate) begin: Instant,
    pub(crate) store: Library,
    /// Locks by name, held while a model of the name is loaded.
    pub(crate) loads: NameLocks,
    pub(crate) validator: Validator,
}

impl EngineHandle {
    /// Admits a request of a client. It is answered with the models that are served now, even if
    /// the server shuts down or the models are unloaded or replaced.
    ///
    /// # Errors
    /// 503 if the server is shutting down.
    pub fn admit(&self) -> Result<Arc<Admission>, Error> {
        self.admissions.admit(&self.models).map(Arc::new).ok_or_else(shutting_down)
    }

    /// Runs one call. Dropping the future cancels the request (the client has disconnected).
    ///
    /// # Errors
    /// 429 if the queue or its memory is full, 503 if no adapter can serve or the server is
    /// shutting down, 504 if the timeout passed, 500 if all attempts failed.
    pub async fn infer(&self, call: InferCall) -> Result<InferAnswer, Error> {
        if call.model.decoupled {
            return Err(Error::malformed(format!(
                "model '{}' answers in parts; send the request to generate or generate_stream",
                call.model.name
            )));
        }
        let (answer, answered) = oneshot::channel();
        let mut cancel = self.cancel_on_drop();
        self.submit(cancel.id, call, Reply::Whole(answer))?;
        let answer = answered.await.unwrap_or_else(|_| Err(shutting_down()));
        cancel.cancels = None;
        answer
    }

    /// Runs one call of one row to a decoupled model. Dropping the answers cancels it.
    ///
    /// # Errors
    /// 429 if the queue or its memory is full, 503 if the server is shutting down. Later errors,
    /// those of [`EngineHandle::infer`], take the place of an answer.
    pub fn generate(&self, call: InferCall) -> Result<PartialAnswers, Error> {
        if !call.model.decoupled || call.rows != 1 {
            let (model, rows) = (&call.model.name, call.rows);
            let what =
                format!("{rows} rows for model '{model}', which must be one of a decoupled model");
            return Err(Error::internal(what));
        }
        let cancel = self.cancel_on_drop();
        let id = cancel.id;
        let (parts, answers) = PartialAnswerSender::channel(cancel);
        self.submit(id, call, Reply::Parts(parts))?;
        Ok(answers)
    }

    fn cancel_on_drop(&self) -> CancelOnDrop {
        // The numbers must only be unique; no other memory access depends on their order.
        let id = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        CancelOnDrop { id, cancels: Some(self.cancels.clone()) }
    }

    fn submit(&self, id: RequestId, call: InferCall, reply: Reply) -> Result<(), Error> {
        let is_own = call.client == InferCall::SERVER;
        let held = is_own.then(|| self.memory.of(call.client).charge(call.inputs.bytes()));
        let held = held.transpose().map_err(|full| self.memory_rejection(&call.model, full))?;
        let model = call.model.clone();
        // A call that waited here for a place would escape the limits of the queue.
        let submitted = self.calls.try_send(Submitted { id, call, reply, held });
        submitted.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.count_unqueued(&model, "intake");
                Error::new(
                    ErrorKind::QueueFull,
                    "too many requests are being submitted; retry later",
                )
                .retry_after(self.drain())
            }
            mpsc::error::TrySendError::Closed(_) => shutting_down(),
        })
    }

    /// The bound on host memory that requests and answers hold.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Counts a call that is rejected for lack of memory, and returns its error.
    pub(crate) fn memory_rejection(&self, model: &ModelInfo, full: Full) -> Error {
        self.count_unqueued(model, "memory");
        let error = full.of_request();
        if full == Full::Now { error.retry_after(self.drain()) } else { error }
    }

    /// Counts a call that was rejected before it reached the queue.
    pub fn count_unqueued(&self, model: &ModelInfo, cause: &'static str) {
        self.metrics.model(&model.name, &model.version).failed(cause);
    }

    /// The time in which the queue will be served; at least one second.
    fn drain(&self) -> Duration {
        Duration::from_millis(self.snapshots.borrow().queue.drain_ms.max(1000))
    }

    /// The model, if it is served. Without `version`, the newest served version.
    ///
    /// # Errors
    /// 404 with the models or versions that are served; for a model of the repository that cannot
    /// be served, 422 with the error in its files, or 500 if the machine is the cause.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<ModelInfo>, Error> {
        find(&self.models.borrow().clone(), name, version)
    }

    /// All served models, filtered by name and version if these are given.
    ///
    /// # Errors
    /// 404 if the named model is not served.
    pub fn models(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Vec<Arc<ModelInfo>>, Error> {
        if let Some(name) = name {
            self.model(name, version)?;
        }
        let models = self.models.borrow().clone();
        let wanted = |info: &&Arc<ModelInfo>| {
            name.is_none_or(|name| info.name == name)
                && version.is_none_or(|version| info.version == version)
        };
        Ok(models.served().filter(wanted).cloned().collect())
    }

    /// The statistics of these models since the server started.
    ///
    /// # Errors
    /// 503 if the server is shutting down.
    pub async fn statistics(
        &self,
        models: Vec<Arc<ModelInfo>>,
    ) -> Result<Vec<ModelStatistics>, Error> {
        let (done, outcome) = oneshot::channel();
        let control = Control::Statistics { models, done };
        self.controls.send(control).await.map_err(|_| shutting_down())?;
        outcome.await.map_err(|_| shutting_down())
    }

    /// The arrivals of the last day, and the settings of the scheduler.
    ///
    /// # Errors
    /// 503 if the server is shutting down.
    pub async fn whatif_inputs(&self) -> Result<WhatifInputs, Error> {
        let (done, outcome) = oneshot::channel();
        self.controls.send(Control::Arrivals { done }).await.map_err(|_| shutting_down())?;
        outcome.await.map_err(|_| shutting_down())
    }

    /// All metrics as text.
    pub fn metrics(&self, notation: Notation) -> String {
        let snapshot = self.snapshots.borrow().clone();
        self.metrics.render(&snapshot, notation)
    }

    /// One sample for each of the last seconds, oldest first.
    pub fn history(&self) -> Vec<Arc<Sample>> {
        self.history.samples()
    }

    /// The time since the server started.
    pub fn uptime(&self) -> Duration {
        clock::now().duration_since(self.begin)
    }

    /// The newest snapshot; `changed().await` on the receiver waits for the next one.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Sets the mode of an adapter, with immediate effect.
    ///
    /// # Errors
    /// 404 if the adapter does not exist, 422 if it cannot be used.
    pub async fn set_mode(&self, adapter: &str, mode: Mode) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        let control = Control::SetMode { adapter: adapter.to_owned(), mode, done };
        self.controls.send(control).await.map_err(|_| shutting_down())?;
        outcome.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    /// Announces a client's request to a model after `within`. An adapter is started in time if the
    /// policy considers that worth its energy.
    ///
    /// # Errors
    /// 503 if too many control requests are pending, or if the server is shutting down.
    pub fn announce(
        &self,
        model: Arc<ModelInfo>,
        client: u64,
        within: Duration,
    ) -> Result<(), Error> {
        self.send_control(Control::Announce { model, client, within })
    }

    fn send_control(&self, control: Control) -> Result<(), Error> {
        self.controls.try_send(control).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::unavailable("too many control requests are pending; retry later")
            }
            mpsc::error::TrySendError::Closed(_) => shutting_down(),
        })
    }

    /// Applies settings at run time.
    ///
    /// # Errors
    /// 503 if too many control requests are pending, or if the server is shutting down.
    pub fn configure(&self, config: LiveConfig) -> Result<(), Error> {
        self.send_control(Control::Configure(Box::new(config)))?;
        // /api/whatif compares this number: a reload by SIGHUP also makes its answer old.
        self.configured.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Number of changes of the settings since the engine started.
    pub fn configured(&self) -> u64 {
        self.configured.load(Ordering::Relaxed)
    }

    /// Ends admission, answers the admitted requests and stops every worker.
    pub async fn shut_down(&self) {
        // First, so that the number of requests for which the driver waits can only fall.
        self.admissions.close();
        // The send fails only if the driver has already ended.
        let _ = self.controls.send(Control::Shutdown).await;
    }
}

impl Admission {
    /// The model, if it was served when the request began.
    ///
    /// # Errors
    /// Those of [`EngineHandle::model`].
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<ModelInfo>, Error> {
        find(self.models(), name, version)
    }
}

pub(crate) fn find(
    models: &Catalogue,
    name: &str,
    version: Option<&str>,
) -> Result<Arc<ModelInfo>, Error> {
    let found = models.resolve(name, version).cloned();
    found.ok_or_else(|| no_model(models, name, version))
}

fn no_model(models: &Catalogue, name: &str, version: Option<&str>) -> Error {
    let broken = models.broken().iter().find(|bad| {
        bad.name == name && version.is_none_or(|v| bad.version.as_deref().is_none_or(|b| b == v))
    });
    if let Some(bad) = broken {
        return Error::new(
            crate::models::catalogue::kind_of(bad),
            format!("model '{name}' cannot be served: {}", bad.error),
        );
    }
    let named = models.served().filter(|model| model.name == name);
    let versions: Vec<_> = named.map(|model| model.version.as_str()).collect();
    if let (Some(version), false) = (version, versions.is_empty()) {
        let versions = versions.join(", ");
        return Error::not_found(format!(
            "model '{name}' has no version '{version}'; served: {versions}"
        ));
    }
    let names: Vec<_> = models.served().map(|model| model.name.as_str()).collect();
    Error::not_found(format!("model '{name}' not found; served: {}", names.join(", ")))
}
