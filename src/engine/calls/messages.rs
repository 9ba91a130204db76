//! Messages from the handle to the driver, and their answers.

use crate::LiveConfig;
use crate::calls::admissions::Admission;
use crate::calls::rejections::LoadError;
use model::file_copies::ModelCopy;
use model::info::ModelInfo;
use model::repository::BadModel;
use schedule::{Policy, Role};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Arrivals, ModelStatistics};
use tokio::sync::oneshot;
use types::error::Error;
use types::tensor::Tensors;

/// One inference call, already parsed and checked against the model's signature.
#[derive(Debug)]
pub struct InferCall {
    pub model: Arc<ModelInfo>,
    /// Inputs; every tensor has `rows` rows on axis 0. Inputs of clients carry the charge of their
    /// memory.
    pub inputs: Tensors,
    pub rows: usize,
    /// Number of the client, for fair queuing; 0 is the server itself.
    pub client: u64,
    /// 1 is the most urgent; 0 stands for the default.
    pub priority: u32,
    /// The time after which the client no longer needs an answer.
    pub timeout: Option<Duration>,
    /// The admission of a client's request. The server's own requests have none and are rejected
    /// during a shutdown.
    pub admission: Option<Arc<Admission>>,
}

impl InferCall {
    /// The client number of the server's own requests.
    pub(crate) const SERVER: u64 = 0;

    /// A request of the server itself, of one row.
    pub fn own(model: Arc<ModelInfo>, inputs: Tensors) -> InferCall {
        let (client, priority, timeout, admission) = (Self::SERVER, 0, None, None);
        InferCall { model, inputs, rows: 1, client, priority, timeout, admission }
    }
}

/// The answer to one call.
#[derive(Debug)]
pub struct InferAnswer {
    /// All outputs of the model, `rows` rows each.
    pub outputs: Tensors,
    /// Ids of the adapters that ran the request, in row order.
    pub adapters: Vec<String>,
    /// Rows of the batch that contained the request; of the largest one if the request was split.
    pub batch_rows: u32,
    /// Time from the admission to the transfer to a worker.
    pub queue_time: Duration,
    /// Time from the transfer to a worker until the outputs are on the host.
    pub run_time: Duration,
}

/// The mode that the operator has set for an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Auto,
    On,
    Off,
}

/// A request to the driver other than inference.
pub(crate) enum Control {
    SetMode {
        adapter: String,
        mode: Mode,
        done: oneshot::Sender<Result<(), Error>>,
    },
    /// A client announced a request for this model after `within`.
    Announce {
        model: Arc<ModelInfo>,
        client: u64,
        within: Duration,
    },
    Arrivals {
        done: oneshot::Sender<WhatifInputs>,
    },
    Configure(Box<LiveConfig>),
    ModelCommand(ModelCommand),
    /// The end of a request to an ensemble. The requests to its models are counted separately.
    EnsembleResult(EnsembleResult),
    Statistics {
        models: Vec<Arc<ModelInfo>>,
        done: oneshot::Sender<Vec<ModelStatistics>>,
    },
    Shutdown,
}

/// Arrivals of the last day, and the settings of the scheduler.
#[derive(Debug)]
pub struct WhatifInputs {
    pub arrivals: Arrivals,
    /// Time since the server started.
    pub now: Duration,
    pub policy: Policy,
    /// True if adapters are started before requests of regular clients.
    pub ahead: bool,
    /// Number of adapters that stay on without load.
    pub min: usize,
    /// Latency target of models that do not name one.
    pub slo: Duration,
    /// The role of the CPU.
    pub cpu: Role,
}

/// A command that concerns the served models.
pub(crate) enum ModelCommand {
    /// Adds models for a validation load; returns the entries of the catalogue.
    AddForValidation { infos: Vec<ModelInfo>, done: oneshot::Sender<Vec<Arc<ModelInfo>>> },
    /// Serves validated models in place of all others of this name. An empty list unloads the name.
    Serve {
        name: String,
        tried: Vec<Arc<ModelInfo>>,
        broken: Vec<BadModel>,
        done: oneshot::Sender<()>,
    },
    /// Returns true if an adapter has loaded the model.
    IsLoaded { info: Arc<ModelInfo>, done: oneshot::Sender<bool> },
    /// Ends the validation load; returns the error of the load, if there was one.
    EndValidation { tried: Vec<Arc<ModelInfo>>, done: oneshot::Sender<Option<LoadError>> },
    /// Records the errors of the models of this name, and reads the served ones from their copies.
    RecordErrors {
        name: String,
        broken: Vec<BadModel>,
        kept: Vec<ModelCopy>,
        done: oneshot::Sender<()>,
    },
}

/// Result and times of a request to an ensemble, for the statistics.
pub(crate) struct EnsembleResult {
    pub(crate) model: Arc<ModelInfo>,
    pub(crate) rows: u64,
    pub(crate) queue: Duration,
    pub(crate) run: Duration,
    pub(crate) error: Option<String>,
}

pub(crate) fn shutting_down() -> Error {
    Error::unavailable("the server is shutting down")
}
