//! Description of one validated version of a model, without its weights.

use crate::files::{BadFile, Files, ModelSource};
use crate::layout::{GraphFiles, Layout};
use crate::pipeline::{Around, Ensemble, Pipeline};
use crate::signature::{RowMode, Signature};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Rows of a batch where `[batch]` says nothing.
pub(super) const MAX_ROWS_DEFAULT: usize = 8;
/// Rows of the largest batch that an adapter tries where `[batch]` says nothing.
const MAX_ROWS_GROWN: usize = 1 << 16;

/// One version of one model, validated, as everything outside the worker knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// A number, as text.
    pub version: String,
    /// `identity`, `count`, `digits`, `onnx` or a kind the user registered.
    pub kind: String,
    pub source: ModelSource,
    pub signature: Signature,
    pub batch: Batching,
    /// The latency that scheduling aims at, admission to answer; late answers are still given.
    pub slo: Option<Duration>,
    /// Labels of the classes, if the model has any.
    pub labels: Vec<String>,
    /// The sample that every replica must answer right before it serves, if the model has one.
    pub golden: Option<GoldenSpec>,
    pub layout: Layout,
    pub graph: GraphFiles,
    /// What clients see instead of the graph, if anything stands around it.
    pub pipeline: Option<Pipeline>,
    /// The reason why rows become runs as the signature says; empty where the kind says it.
    #[serde(default)]
    pub rows_reason: String,
    /// A request is answered in parts.
    #[serde(default)]
    pub decoupled: bool,
    /// Bytes of all files of this version: an estimate of the memory that it takes, for as long as
    /// no adapter has loaded it.
    pub files_bytes: u64,
    /// Time of the last change of any of its files, the manifest included, in seconds of Unix time;
    /// `None` for a model in the binary.
    #[serde(default)]
    pub files_changed: Option<u64>,
}

/// The `[batch]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    /// Rows of the largest batch.
    pub max_rows: usize,
    /// Each adapter finds its largest batch below `max_rows` by measurement.
    #[serde(default)]
    pub grows: bool,
    /// How long the first request of a batch may wait for company.
    pub delay: Duration,
    /// Device memory that a row takes while it runs, in bytes, beside that of the model; 0 if that is
    /// not worth an account.
    #[serde(default)]
    pub row_memory_bytes: u64,
}

/// The `[golden]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenSpec {
    /// A file in the version's folder, in the JSON form of the V2 protocol.
    pub file: String,
    /// Largest difference allowed between an output's element and the expected one.
    pub tolerance: f64,
}

impl Batching {
    /// Sets the limits that follow from the mode and from `[batch]` in `model.toml`.
    pub(super) fn limit(&mut self, mode: RowMode, exact: bool, written: Option<usize>) {
        if mode != RowMode::Stacked {
            // A batch of runs one after the other would only make the first wait for the last.
            self.max_rows = 1;
        } else if written.is_none() && !exact {
            self.grows = true;
            self.max_rows = MAX_ROWS_GROWN;
        }
    }

    /// Rows of the largest batch before anything is measured.
    pub fn first_rows(&self) -> usize {
        if self.grows { self.max_rows.min(MAX_ROWS_DEFAULT) } else { self.max_rows }
    }
}

impl ModelInfo {
    /// The same model with one run for each request, since its rows depend on each other.
    pub fn run_whole(&self, reason: &str) -> ModelInfo {
        let mut whole = self.clone();
        // The steps around a graph send single rows.
        let mode = if self.pipeline.is_some() { RowMode::Each } else { RowMode::Whole };
        whole.signature.set_rows(mode);
        whole.batch = Batching { max_rows: 1, grows: false, ..self.batch };
        reason.clone_into(&mut whole.rows_reason);
        whole
    }

    /// What clients send and get; `signature` is what its replicas take and give.
    pub fn interface(&self) -> &Signature {
        self.pipeline.as_ref().map_or(&self.signature, Pipeline::interface)
    }

    /// The steps before and after its graph, if there are any.
    pub fn around(&self) -> Option<&Around> {
        match &self.pipeline {
            Some(Pipeline::Around(around)) => Some(around),
            _ => None,
        }
    }

    /// The chain of models that it is, if it is one: no adapter loads it.
    pub fn ensemble(&self) -> Option<&Ensemble> {
        match &self.pipeline {
            Some(Pipeline::Ensemble(ensemble)) => Some(ensemble),
            _ => None,
        }
    }

    /// The files of this version.
    ///
    /// # Errors
    /// If the repository's folder is gone.
    pub fn files(&self) -> Result<Files, BadFile> {
        let root = match &self.source {
            ModelSource::Embedded => Files::embedded(),
            ModelSource::Folder(folder) => Files::open(folder)?,
        };
        Ok(self.layout.folder(&root, &self.name, &self.version))
    }

    /// Name of the file with the graph, for the kind `onnx`.
    pub fn graph_file(&self) -> String {
        self.graph.file.clone()
    }
}
