//! Models: the repository, `model.toml`, the steps around a graph, and the trait that every kind
//! implements. No burn: models themselves are loaded (crate `kinds`) and run in workers only.

pub mod batch;
pub mod count;
pub mod files;
mod generate;
pub mod golden;
pub mod identity;
pub mod info;
pub mod kept;
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
pub use table::table;

use types::tensor::Tensors;

/// One loaded version of a model, on one device.
///
/// Implementations may panic where burn does: the worker catches it and takes it for a fault of
/// the device.
pub trait Model: Send {
    /// What it takes and gives; must be what `model.toml` says.
    fn signature(&self) -> &Signature;

    /// Runs `rows` rows; every input has its rows on axis 0. Output tensors likewise.
    ///
    /// # Errors
    /// See [`ModelError`]: which variant it is decides who is blamed.
    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError>;

    /// The way to answer in parts, if the model is decoupled (`decoupled` in `model.toml`); then
    /// [`Model::forward`] is never called.
    fn generator(&mut self) -> Option<&mut dyn Generate> {
        None
    }
}

/// Why a model was not loaded or gave no answer; the variant says whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The request's: it would fail on every adapter, so it is not tried on another.
    #[error("{0}")]
    Input(String),
    /// The device's: another adapter may well do it.
    #[error("device failed: {0}")]
    Device(String),
    /// The device's memory is full: fewer rows may fit, or another adapter may hold it.
    #[error("out of memory: {0}")]
    Memory(String),
    /// The model's: its files, or its code, are wrong on every adapter.
    #[error("broken model: {0}")]
    Broken(String),
    /// The machine's: an existing file cannot be read, or host memory is exhausted.
    #[error("{0}")]
    Machine(String),
    /// Rows that were proved to be independent come out otherwise together than apart.
    #[error("rows depend on each other: {0}")]
    Rows(String),
    /// Its golden sample came out wrong on this adapter, which must not serve it.
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
