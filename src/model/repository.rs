//! The model repository: folders, versions, `model.toml`.

use crate::model::signature::Signature;
use std::path::PathBuf;
use std::time::Duration;

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Compiled into the binary.
    Embedded,
    /// The repository folder on disk.
    Folder(PathBuf),
}

/// One version of one model, validated, as everything outside the worker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    pub name: String,
    /// A number, as text.
    pub version: String,
    /// `identity`, `digits` or a kind the user registered.
    pub kind: String,
    pub source: Source,
    pub signature: Signature,
    pub batch: Batching,
    /// Labels of the classes, if the model has any.
    pub labels: Vec<String>,
}

/// The `[batch]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    pub max_rows: usize,
    /// How long the first request of a batch may wait for company.
    pub delay: Duration,
}
