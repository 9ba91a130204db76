//! Models: the repository, `model.toml`, the steps around a graph, and the trait that every kind
//! implements. Without burn: models are loaded by the crate `kinds` and run in workers only.

pub mod batch;
pub mod count;
pub mod file_copies;
pub mod files;
mod generate;
pub mod golden;
pub mod identity;
pub mod info;
pub mod layout;
pub mod manifest;
pub(crate) mod names;
pub mod onnx;
mod pbtxt;
pub mod pipeline;
pub mod repository;
pub mod signature;
mod table;
pub mod transfer;
mod triton;
mod version_files;
mod versions;

pub use batch::{bucket_for, buckets, run_batch, warm_up_inputs};
pub use files::{BadFile, Files, ModelSource};
pub use generate::{Generate, Generated};
pub use info::{Batching, GoldenSpec, ModelInfo};
pub use layout::Layout;
pub use repository::{BadModel, Repository, ScanResult};
pub use signature::{Signature, TensorSpec};
pub use table::{list_json, table};

use types::tensor::Tensors;

/// One loaded version of a model, on one device.
///
/// Implementations may panic where burn does: the worker catches the panic and treats it as a fault
/// of the device.
pub trait Model: Send {
    /// The model's inputs and outputs, which must match `model.toml`.
    fn signature(&self) -> &Signature;

    /// Runs `rows` rows, which are along axis 0 of every input and output.
    ///
    /// # Errors
    /// See [`ModelError`]: the variant states the origin of the fault.
    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError>;

    /// The interface for answers in parts, if the model is decoupled (`decoupled` in `model.toml`);
    /// [`Model::forward`] is then never called.
    fn generator(&mut self) -> Option<&mut dyn Generate> {
        None
    }
}

/// The reason why a model was not loaded or did not answer; the variant states the origin of the
/// fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The request: it would fail on every adapter, so it is not retried on another.
    #[error("{0}")]
    Input(String),
    /// The device: another adapter may succeed.
    #[error("device failed: {0}")]
    Device(String),
    /// The device's memory is full: fewer rows may fit, or another adapter may have enough.
    #[error("out of memory: {0}")]
    Memory(String),
    /// The model: its files or its code are wrong on every adapter.
    #[error("broken model: {0}")]
    Broken(String),
    /// The machine: an existing file cannot be read, or host memory is exhausted.
    #[error("{0}")]
    Machine(String),
    /// The model: rows that were proved to be independent give other results together than apart.
    #[error("rows depend on each other: {0}")]
    Rows(String),
    /// The model's golden sample gave a wrong result on this adapter, which must not serve it.
    #[error("golden sample failed: {0}")]
    Golden(String),
}

impl From<BadFile> for ModelError {
    fn from(error: BadFile) -> ModelError {
        match error.machine {
            true => ModelError::Machine(error.to_string()),
            false => ModelError::Broken(error.to_string()),
        }
    }
}
