//! What the API may ask of the engine.

use crate::error::Error;
use crate::model::repository::ModelInfo;
use crate::telemetry::Snapshot;
use crate::tensor::Tensors;
use std::sync::Arc;
use std::time::Duration;

/// One inference call, already parsed and checked against the model's signature.
#[derive(Debug)]
pub struct InferCall {
    pub model: Arc<ModelInfo>,
    /// Inputs; every tensor has `rows` rows on axis 0.
    pub inputs: Tensors,
    pub rows: usize,
}

/// The answer to one call.
#[derive(Clone, Debug)]
pub struct InferAnswer {
    /// All outputs of the model, `rows` rows each.
    pub outputs: Tensors,
    /// Ids of the adapters that ran it, in row order.
    pub adapters: Vec<String>,
    /// Admitted to handed to a worker.
    pub queue_time: Duration,
    /// Handed to a worker to outputs on the host.
    pub run_time: Duration,
}

/// The operator's wish for one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Auto,
    On,
    Off,
}

/// Cheap to clone; every clone speaks to the same engine.
#[derive(Clone)]
pub struct EngineHandle {}

impl EngineHandle {
    /// Runs one call. Dropping the future takes the request back (the client hung up).
    pub async fn infer(&self, _call: InferCall) -> Result<InferAnswer, Error> {
        Err(Error::unavailable("not built yet"))
    }

    /// The model, if it is served. `version` `None` means the newest one served.
    pub fn model(&self, _name: &str, _version: Option<&str>) -> Result<Arc<ModelInfo>, Error> {
        Err(Error::not_found("not built yet"))
    }

    /// Whether some adapter can answer for this model now, perhaps after a start.
    pub fn model_ready(&self, _model: &ModelInfo) -> bool {
        false
    }

    /// The newest snapshot; `changed().await` on the receiver waits for the next one.
    pub fn snapshots(&self) -> tokio::sync::watch::Receiver<Arc<Snapshot>> {
        tokio::sync::watch::channel(Arc::new(Snapshot::default())).1
    }

    /// Sets the operator's wish for an adapter; takes effect at once.
    pub async fn set_mode(&self, _adapter: &str, _mode: Mode) -> Result<(), Error> {
        Err(Error::not_found("not built yet"))
    }
}
