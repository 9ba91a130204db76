//! What server and worker say to each other.

use crate::adapter::entry::{AdapterEntry, Probe};
use crate::model::repository::ModelInfo;
use crate::tensor::{Datatype, Tensor, TensorError, Tensors};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The version of this protocol. A worker is always the same executable as its server; the
/// handshake catches a binary that was replaced while the server runs.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// The one line of JSON that a worker reads from its stdin before anything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Name of the socket to connect to.
    pub socket: PathBuf,
    /// Proves that the worker is the one this line was written to.
    pub token: String,
    /// Process id of the server.
    pub server: u32,
    pub adapter: AdapterEntry,
    /// This adapter's own folder for caches.
    pub cache_dir: PathBuf,
    /// Where adapters are locked against other servers.
    pub lock_dir: PathBuf,
}

/// Server to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down {
    /// Load this model, warm it up, then say `Loaded` or `LoadFailed`.
    Load(LoadOrder),
    /// Run a batch. Its inputs' bytes follow.
    Run {
        batch: u64,
        model: u32,
        rows: u64,
        tensors: Vec<TensorHeader>,
    },
    Ping {
        number: u64,
    },
    /// Exit now.
    Stop,
}

/// Which model to load; `info` says from where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadOrder {
    /// The engine's number for it, used in `Run`.
    pub model: u32,
    pub info: ModelInfo,
}

/// Worker to server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up {
    /// The first message.
    Hello {
        version: String,
        token: String,
    },
    /// Something of the start is done; says what is being done now.
    Progress {
        doing: String,
    },
    /// The device is open and passed its check. `open_ms` is how long that took.
    Opened {
        probe: Option<Probe>,
        open_ms: u64,
    },
    /// The adapter cannot serve at all. The worker exits after this.
    Unfit {
        why: Unfit,
        error: String,
    },
    Loaded {
        model: u32,
        load_ms: u64,
        warm_up_ms: u64,
    },
    LoadFailed {
        model: u32,
        cause: Cause,
        error: String,
    },
    /// A batch is done. Its outputs' bytes follow.
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
    Pong {
        number: u64,
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
    /// The device computes, but not what the golden sample says.
    WrongAnswer,
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

/// A message that may declare tensors.
pub(super) trait Carries {
    /// The tensors whose bytes follow the message.
    fn tensors(&self) -> &[TensorHeader];
}

impl Carries for Down {
    fn tensors(&self) -> &[TensorHeader] {
        match self {
            Down::Run { tensors, .. } => tensors,
            Down::Load(_) | Down::Ping { .. } | Down::Stop => &[],
        }
    }
}

impl Carries for Up {
    fn tensors(&self) -> &[TensorHeader] {
        match self {
            Up::Done { tensors, .. } => tensors,
            Up::Hello { .. }
            | Up::Progress { .. }
            | Up::Opened { .. }
            | Up::Unfit { .. }
            | Up::Loaded { .. }
            | Up::LoadFailed { .. }
            | Up::Failed { .. }
            | Up::Pong { .. } => &[],
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
