//! What the API may ask of the engine.

use super::requests::Held;
use crate::error::{Error, ErrorKind};
use crate::model::repository::ModelInfo;
use crate::schedule::RequestId;
use crate::telemetry::Snapshot;
use crate::tensor::Tensors;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// One inference call, already parsed and checked against the model's signature.
#[derive(Debug)]
pub struct InferCall {
    pub model: Arc<ModelInfo>,
    /// Inputs; every tensor has `rows` rows on axis 0.
    pub inputs: Tensors,
    pub rows: usize,
    /// 1 is the most urgent; 0 stands for the default.
    pub priority: u32,
    /// From when on an answer is worth nothing to the client.
    pub timeout: Option<Duration>,
}

/// The answer to one call.
#[derive(Debug)]
pub struct InferAnswer {
    /// All outputs of the model, `rows` rows each.
    pub outputs: Tensors,
    /// Ids of the adapters that ran it, in row order.
    pub adapters: Vec<String>,
    /// Admitted to handed to a worker.
    pub queue_time: Duration,
    /// Handed to a worker to outputs on the host.
    pub run_time: Duration,
    /// Counts the outputs' memory until the answer is dropped.
    pub(super) _held: Arc<Held>,
}

/// The operator's wish for one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Auto,
    On,
    Off,
}

/// A call on its way to the driver.
pub(super) struct Submitted {
    pub(super) id: RequestId,
    pub(super) call: InferCall,
    pub(super) answer: oneshot::Sender<Result<InferAnswer, Error>>,
    pub(super) held: Held,
}

/// What else the driver may be asked for.
pub(super) enum Control {
    SetMode { adapter: String, mode: Mode, done: oneshot::Sender<Result<(), Error>> },
    Shutdown,
}

/// Cheap to clone; every clone speaks to the same engine.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) calls: mpsc::Sender<Submitted>,
    pub(super) cancels: mpsc::Sender<RequestId>,
    pub(super) controls: mpsc::Sender<Control>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) models: Arc<Vec<Arc<ModelInfo>>>,
    pub(super) requests: Arc<AtomicU64>,
    pub(super) memory: super::requests::Memory,
}

impl EngineHandle {
    /// Runs one call. Dropping the future takes the request back (the client hung up).
    ///
    /// # Errors
    /// 429 if the queue or its memory is full, 503 if nothing can serve or the server goes down,
    /// 504 if its timeout passed, 500 if every try failed.
    pub async fn infer(&self, call: InferCall) -> Result<InferAnswer, Error> {
        let held = self.memory.admit(call.inputs.bytes()).ok_or_else(|| {
            Error::new(ErrorKind::QueueFull, "the memory for waiting requests is full")
                .retry_after(self.drain())
        })?;
        let id = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        let submitted = self.calls.try_send(Submitted { id, call, answer, held });
        submitted.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(ErrorKind::QueueFull, "the server is taking in as much as it can")
                    .retry_after(self.drain())
            }
            mpsc::error::TrySendError::Closed(_) => going_down(),
        })?;
        let mut cancel = CancelOnDrop { id, cancels: Some(self.cancels.clone()) };
        let answer = answered.await.unwrap_or_else(|_| Err(going_down()));
        cancel.cancels = None;
        answer
    }

    /// How long it will take to serve what waits; at least a second.
    fn drain(&self) -> Duration {
        Duration::from_millis(self.snapshots.borrow().queue.drain_ms.max(1000))
    }

    /// The model, if it is served. `version` `None` means the newest one served.
    ///
    /// # Errors
    /// 404, telling which models or versions there are.
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<ModelInfo>, Error> {
        let named = || self.models.iter().filter(|model| model.name == name);
        let number = |model: &&Arc<ModelInfo>| model.version.parse::<u64>().unwrap_or_default();
        let found = match version {
            Some(version) => named().find(|model| model.version == version),
            None => named().max_by_key(number),
        };
        found.cloned().ok_or_else(|| self.no_model(name, version))
    }

    fn no_model(&self, name: &str, version: Option<&str>) -> Error {
        let broken = self.snapshots.borrow().models.iter().find_map(|model| {
            let named = model.name == name && version.is_none_or(|v| v == model.version);
            model.reason.clone().filter(|_| named)
        });
        if let Some(reason) = broken {
            return Error::not_found(format!("model '{name}' cannot be served: {reason}"));
        }
        let named = self.models.iter().filter(|model| model.name == name);
        let versions: Vec<_> = named.map(|model| model.version.as_str()).collect();
        if let (Some(version), false) = (version, versions.is_empty()) {
            let versions = versions.join(", ");
            return Error::not_found(format!(
                "model '{name}' has no version '{version}'; served: {versions}"
            ));
        }
        let names: Vec<_> = self.models.iter().map(|model| model.name.as_str()).collect();
        Error::not_found(format!("there is no model '{name}'; served: {}", names.join(", ")))
    }

    /// Whether some adapter can answer for this model now, perhaps after a start.
    pub fn model_ready(&self, model: &ModelInfo) -> bool {
        let snapshot = self.snapshots.borrow();
        let same = |view: &&crate::telemetry::ModelView| {
            view.name == model.name && view.version == model.version
        };
        snapshot.models.iter().find(same).is_some_and(|view| view.state == "ready")
    }

    /// The newest snapshot; `changed().await` on the receiver waits for the next one.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Sets the operator's wish for an adapter; takes effect at once.
    ///
    /// # Errors
    /// 404 if there is no such adapter, 422 if it is one that cannot be used.
    pub async fn set_mode(&self, adapter: &str, mode: Mode) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        let control = Control::SetMode { adapter: adapter.to_owned(), mode, done };
        self.controls.send(control).await.map_err(|_| going_down())?;
        outcome.await.unwrap_or_else(|_| Err(going_down()))
    }

    /// Admits nothing more, finishes what was admitted, stops every worker.
    pub async fn shut_down(&self) {
        // If the driver is gone already there is nothing left to shut down.
        let _ = self.controls.send(Control::Shutdown).await;
    }
}

fn going_down() -> Error {
    Error::unavailable("the server is going down")
}

/// Tells the driver when nobody waits for the answer any more.
struct CancelOnDrop {
    id: RequestId,
    /// `None` once there is an answer.
    cancels: Option<mpsc::Sender<RequestId>>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancels) = &self.cancels {
            // If the channel is full the request merely runs for nobody.
            let _ = cancels.try_send(self.id);
        }
    }
}
