//! What server and worker say to each other.

use super::files::{FilesAnswer, FilesRequest};
use adapter::entry::Probe;
use adapter::sensors::Reading;
use bytes::Bytes;
use model::info::ModelInfo;
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, TensorError, Tensors};

/// The version of this protocol. A worker is always the same executable as its server; the
/// handshake catches a binary that was replaced while the server runs.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/10");

/// Server to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Load this model, warm it up, then say `Loaded` or `LoadFailed`. A number that is loaded
    /// already is replaced once the new one is warm; if that fails it stays as it is.
    Load(Box<LoadRequest>),
    /// Drop this model, or give up loading it; free its memory, then say `Unloaded`. This and
    /// `Load` overtake batches on the link: a batch of this model that is not answered yet fails.
    Unload {
        model: u32,
    },
    /// Run a batch of a loaded model. Its inputs' bytes follow. For a decoupled model it is one time
    /// slice of each of its rows.
    Run {
        batch: u64,
        model: u32,
        rows: u64,
        slices: Vec<TimeSlice>,
        tensors: Vec<TensorHeader>,
    },
    /// Give up a row of a batch of a decoupled model at its next step. This overtakes batches.
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
    /// Partial answers that were sent before.
    pub sent: u64,
    /// Most partial answers in this slice.
    pub answers_max: u64,
}

/// Which model to load; `info` says from where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The engine's number for it, used in `Run`.
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
    /// Something of a start or load is done; says what is being done now.
    Progress {
        doing: String,
    },
    /// The device is open and passed its check. `open_ms` is how long that took, `confinement`
    /// what keeps the worker to its part, in words.
    Opened {
        probe: Option<Probe>,
        open_ms: u64,
        confinement: String,
    },
    /// The adapter cannot serve at all. The worker exits after this.
    Unfit {
        why: Unfit,
        error: String,
    },
    Loaded {
        model: u32,
        load_ms: u64,
        /// Like `load_ms`, without the batches of other models that ran in between.
        warm_up_ms: u64,
        /// How much the device's memory in use grew by it; where the device does not tell, the
        /// size of its files.
        memory_bytes: u64,
        /// Rows of a bucket and the microseconds that a batch of it takes, ascending: the source of
        /// the first estimate of this replica's speed. Empty if the warm-up failed.
        measured: Vec<(u32, u64)>,
        /// Time of it in which kernels were tuned, if files were added to the adapter's caches.
        tuning_ms: Option<u64>,
        /// A remark for the operator: the warm-up failed, or rows could not be compared.
        note: Option<String>,
    },
    LoadFailed {
        model: u32,
        /// Rows of the bucket that was warmed up or timed; 0 if it did not come to that.
        rows: u32,
        cause: Cause,
        error: String,
    },
    /// The model is gone, or never was there.
    Unloaded {
        model: u32,
        /// How much the device's memory in use fell; where the device does not tell, what `Loaded`
        /// said.
        memory_bytes: u64,
    },
    /// A partial answer to a row of a batch that runs; its outputs' bytes follow. No outputs if the row
    /// merely ends.
    Partial {
        batch: u64,
        row: u64,
        /// The row needs no further time slice.
        last: bool,
        tensors: Vec<TensorHeader>,
    },
    /// A batch is done. Its outputs' bytes follow; of a decoupled model all went before.
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
    /// For a worker that may run elsewhere: what it needs of the files of a model.
    Files(FilesRequest),
    Pong {
        number: u64,
    },
    /// What the card's own management library tells, again and again.
    Reading(Reading),
    /// Bytes of device memory that tensors hold, and that are kept for tensors in all, when one of
    /// them changed.
    InUse {
        memory_bytes: u64,
        reserved_bytes: u64,
    },
}

/// Why an adapter cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unfit {
    /// Another server's worker holds it.
    InUse,
    /// The device could not be opened or was lost.
    Device,
    /// The known-answer check came out wrong.
    WrongAnswer,
    /// A folder of the server cannot be used: no fault of the adapter.
    Environment,
}

/// Whose fault a failed load or batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The input's: it would fail elsewhere too.
    Input,
    /// The model's: likewise.
    Model,
    /// The device's.
    Device,
    /// The device's: its memory is full.
    Memory,
    /// The machine's: an existing file cannot be read, or host memory is exhausted.
    Machine,
    /// The device computes, but not what the golden sample says.
    WrongAnswer,
    /// Rows of the model depend on each other, although the graph seems to keep them apart: it is
    /// to be run whole.
    Rows,
}

/// Where the time of a batch went inside the worker, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Received whole to taken by the compute thread.
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
    /// The tensors whose bytes follow the message.
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

/// The headers of whole tensors.
pub fn tensor_headers(tensors: &Tensors) -> Vec<TensorHeader> {
    let header = |tensor: &Tensor| TensorHeader {
        name: tensor.name.clone(),
        datatype: tensor.datatype,
        shape: tensor.shape.iter().map(|dim| *dim as u64).collect(),
        bytes: tensor.data.len() as u64,
    };
    tensors.0.iter().map(header).collect()
}

/// Puts headers and the bytes that followed them together again, sharing the bytes.
///
/// # Errors
/// If the bytes are not what the shapes promise.
pub fn tensors_from(headers: Vec<TensorHeader>, mut body: Bytes) -> Result<Tensors, TensorError> {
    let whole = |header: TensorHeader| {
        let length = usize::try_from(header.bytes).unwrap_or(usize::MAX).min(body.len());
        let dim = |dim: &u64| usize::try_from(*dim).unwrap_or(usize::MAX);
        let shape = header.shape.iter().map(dim).collect();
        Tensor::new(header.name, header.datatype, shape, body.split_to(length))
    };
    headers.into_iter().map(whole).collect()
}
