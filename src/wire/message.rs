//! Messages between server and worker.

use super::files::{FilesAnswer, FilesRequest};
use adapter::entry::Probe;
use adapter::sensors::Reading;
use bytes::Bytes;
use model::info::ModelInfo;
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, TensorError, Tensors};

/// The version of this protocol. A worker is always the same executable as its server; the
/// handshake detects a binary that was replaced while the server runs.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/10");

/// Server to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Load this model and warm it up; the answer is `Loaded` or `LoadFailed`. A loaded model of
    /// the same number is replaced once the new one is warm, and kept if that fails.
    Load(Box<LoadRequest>),
    /// Drop this model, or abort its load, and free its memory; the answer is `Unloaded`. This and
    /// `Load` overtake batches on the link: a batch of this model that is not answered yet fails.
    Unload {
        model: u32,
    },
    /// Run a batch of a loaded model. The bytes of its inputs follow. For a decoupled model the
    /// batch is one time slice of each of its rows.
    Run {
        batch: u64,
        model: u32,
        rows: u64,
        slices: Vec<TimeSlice>,
        tensors: Vec<TensorHeader>,
    },
    /// Cancel a row of a batch of a decoupled model at its next step. This overtakes batches.
    Cancel {
        batch: u64,
        row: u64,
    },
    /// An answer about the files of a model; bytes may follow.
    Files(FilesAnswer),
    Ping {
        number: u64,
    },
    /// Exit now.
    Stop,
}

/// The time slice of a row of a decoupled model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSlice {
    /// Number of partial answers that were sent before.
    pub sent: u64,
    /// Maximum number of partial answers in this slice.
    pub answers_max: u64,
}

/// A model to load, and its source (`info`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The engine's number for the model, used in `Run`.
    pub model: u32,
    pub info: ModelInfo,
}

/// Worker to server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message.
    Hello {
        version: String,
        token: String,
    },
    /// A step of a start or load has ended; `doing` names the next one.
    Progress {
        doing: String,
    },
    /// The device is open and has passed its check. `open_ms` is the time for that, `confinement`
    /// the text of the enforced restrictions.
    Opened {
        probe: Option<Probe>,
        open_ms: u64,
        confinement: String,
    },
    /// The adapter cannot serve. The worker exits after this message.
    Unfit {
        why: Unfit,
        error: String,
    },
    Loaded {
        model: u32,
        load_ms: u64,
        /// Like `load_ms`, without the batches of other models that ran in between.
        warm_up_ms: u64,
        /// Growth of the device's memory in use; if the device does not report it, the size of the
        /// model's files.
        memory_bytes: u64,
        /// Rows of each bucket and the microseconds of a batch, ascending, for the first estimate
        /// of this replica's speed. Empty if the warm-up failed.
        measured: Vec<(u32, u64)>,
        /// Time for tuning kernels within the load, if files were added to the adapter's caches.
        tuning_ms: Option<u64>,
        /// A remark for the operator: the warm-up failed, or rows could not be compared.
        note: Option<String>,
    },
    LoadFailed {
        model: u32,
        /// Rows of the bucket that was warmed up or timed; 0 if the load failed before.
        rows: u32,
        cause: Cause,
        error: String,
    },
    /// The model is not loaded any more, or never was.
    Unloaded {
        model: u32,
        /// Decrease of the device's memory in use; if the device does not report it, the value in
        /// `Loaded`.
        memory_bytes: u64,
    },
    /// A partial answer to a row of the running batch; the bytes of its outputs follow. It has no
    /// outputs if the row only ends.
    Partial {
        batch: u64,
        row: u64,
        /// The row needs no further time slice.
        last: bool,
        tensors: Vec<TensorHeader>,
    },
    /// The end of a batch. The bytes of its outputs follow; a decoupled model has already sent all
    /// of them as partial answers.
    Done {
        batch: u64,
        tensors: Vec<TensorHeader>,
        timings: Timings,
    },
    Failed {
        batch: u64,
        cause: Cause,
        error: String,
    },
    /// A request of a remote worker for the files of a model.
    Files(FilesRequest),
    Pong {
        number: u64,
    },
    /// A periodic reading from the card's management library.
    Reading(Reading),
    /// Bytes of device memory that tensors use, and that are reserved for tensors, after a change
    /// of either.
    InUse {
        memory_bytes: u64,
        reserved_bytes: u64,
    },
}

/// The reason why an adapter cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unfit {
    /// A worker of another server uses it.
    InUse,
    /// The device could not be opened or was lost.
    Device,
    /// The known-answer check gave a wrong result.
    WrongAnswer,
    /// A folder of the server cannot be used, which is not a fault of the adapter.
    Environment,
}

/// The cause of a failed load or batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The input, which would fail on any adapter.
    Input,
    /// The model, which would fail on any adapter.
    Model,
    /// The device.
    Device,
    /// The device, because its memory is full.
    Memory,
    /// The machine: an existing file cannot be read, or host memory is exhausted.
    Machine,
    /// The device computes a result that differs from the golden sample.
    WrongAnswer,
    /// The model: its rows depend on each other, although they are independent according to the
    /// graph. Each request must run by itself.
    Rows,
}

/// Times of a batch inside the worker, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Time from complete reception until the compute thread takes the batch.
    pub wait_us: u64,
    pub run_us: u64,
}

/// A tensor without its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorHeader {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    pub bytes: u64,
}

/// A message that may declare tensors or other bytes.
pub(super) trait Carries {
    /// The tensors with bytes that follow the message.
    fn tensors(&self) -> &[TensorHeader];

    /// Bytes that follow the message.
    fn body_bytes(&self) -> u64 {
        bytes_of(self.tensors())
    }
}

fn bytes_of(tensors: &[TensorHeader]) -> u64 {
    tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
}

impl Carries for ToWorker {
    fn tensors(&self) -> &[TensorHeader] {
        match self {
            ToWorker::Run { tensors, .. } => tensors,
            ToWorker::Load(_)
            | ToWorker::Unload { .. }
            | ToWorker::Cancel { .. }
            | ToWorker::Files(_)
            | ToWorker::Ping { .. }
            | ToWorker::Stop => &[],
        }
    }

    fn body_bytes(&self) -> u64 {
        match self {
            ToWorker::Files(answer) => answer.body_bytes(),
            other => bytes_of(other.tensors()),
        }
    }
}

impl Carries for FromWorker {
    fn tensors(&self) -> &[TensorHeader] {
        match self {
            FromWorker::Done { tensors, .. } | FromWorker::Partial { tensors, .. } => tensors,
            FromWorker::Hello { .. }
            | FromWorker::Progress { .. }
            | FromWorker::Opened { .. }
            | FromWorker::Unfit { .. }
            | FromWorker::Loaded { .. }
            | FromWorker::LoadFailed { .. }
            | FromWorker::Unloaded { .. }
            | FromWorker::Failed { .. }
            | FromWorker::Files(_)
            | FromWorker::Pong { .. }
            | FromWorker::Reading(_)
            | FromWorker::InUse { .. } => &[],
        }
    }
}

/// The headers of tensors.
pub fn tensor_headers(tensors: &Tensors) -> Vec<TensorHeader> {
    let header = |tensor: &Tensor| TensorHeader {
        name: tensor.name.clone(),
        datatype: tensor.datatype,
        shape: tensor.shape.iter().map(|dim| *dim as u64).collect(),
        bytes: tensor.data.len() as u64,
    };
    tensors.0.iter().map(header).collect()
}

/// Restores tensors from headers and the bytes that followed them, without copying.
///
/// # Errors
/// If the bytes do not match the shapes.
pub fn tensors_from(headers: Vec<TensorHeader>, mut body: Bytes) -> Result<Tensors, TensorError> {
    let whole = |header: TensorHeader| {
        let length = usize::try_from(header.bytes).unwrap_or(usize::MAX).min(body.len());
        let dim = |dim: &u64| usize::try_from(*dim).unwrap_or(usize::MAX);
        let shape = header.shape.iter().map(dim).collect();
        Tensor::new(header.name, header.datatype, shape, body.split_to(length))
    };
    headers.into_iter().map(whole).collect()
}
