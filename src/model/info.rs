//! The description of one validated version of a model, without its weights.

use crate::files::{BadFile, Files, ModelSource};
use crate::layout::{GraphFiles, Layout};
use crate::pipeline::{Around, Ensemble, Pipeline};
use crate::signature::{RowMode, Signature};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Rows of a batch if `[batch]` does not set `max_rows`.
pub(super) const MAX_ROWS_DEFAULT: usize = 8;
/// Rows of the largest batch that an adapter tries if `[batch]` does not set `max_rows`.
const MAX_ROWS_GROWN: usize = 1 << 16;

/// One validated version of one model, as it is known outside the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    /// A positive integer, as text.
    pub version: String,
    /// `identity`, `count`, `digits`, `onnx` or a kind that the user registered.
    pub kind: String,
    pub source: ModelSource,
    pub signature: Signature,
    pub batch: Batching,
    /// The latency target of the scheduler, from admission to answer; late answers are still sent.
    pub slo: Option<Duration>,
    /// Labels of the classes, if the model has them.
    pub labels: Vec<String>,
    /// The sample that every replica must reproduce before it serves, if the model has one.
    pub golden: Option<GoldenSpec>,
    pub layout: Layout,
    pub graph: GraphFiles,
    /// The steps around the graph, or the ensemble, if there are any: they define the interface for
    /// clients.
    pub pipeline: Option<Pipeline>,
    /// The reason for the row mode of the signature; empty if the kind determines it.
    #[serde(default)]
    pub rows_reason: String,
    /// True if a request is answered in parts.
    #[serde(default)]
    pub decoupled: bool,
    /// Bytes of all files of this version: the estimate of its memory until an adapter has loaded
    /// it.
    pub files_bytes: u64,
    /// Time of the last change of any of its files, the manifest included, in seconds of Unix time;
    /// `None` for an embedded model.
    #[serde(default)]
    pub files_changed: Option<u64>,
}

/// The `[batch]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    /// Rows of the largest batch.
    pub max_rows: usize,
    /// True if each adapter finds its largest batch, up to `max_rows`, by measurement.
    #[serde(default)]
    pub grows: bool,
    /// The batching delay: the longest time that the first request of a batch may wait for others.
    pub delay: Duration,
    /// Device memory of a row while it runs, in bytes, in addition to that of the model; 0 if it is
    /// negligible.
    #[serde(default)]
    pub row_memory_bytes: u64,
}

/// The `[golden]` table of `model.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenSpec {
    /// A file in the version's folder, in the JSON form of the V2 protocol.
    pub file: String,
    /// Largest allowed difference between an element of an output and the expected one.
    pub tolerance: f64,
}

impl Batching {
    /// Sets the limits that follow from the row mode and from `[batch]` in `model.toml`.
    pub(super) fn limit(&mut self, mode: RowMode, exact: bool, written: Option<usize>) {
        if mode != RowMode::Stacked {
            // A batch of consecutive runs would only delay the answer to its first request.
            self.max_rows = 1;
        } else if written.is_none() && !exact {
            self.grows = true;
            self.max_rows = MAX_ROWS_GROWN;
        }
    }

    /// Rows of the largest batch before any measurement.
    pub fn first_rows(&self) -> usize {
        if self.grows { self.max_rows.min(MAX_ROWS_DEFAULT) } else { self.max_rows }
    }
}

impl ModelInfo {
    /// The same model with one run for each request, because its rows depend on each other.
    pub fn run_whole(&self, reason: &str) -> ModelInfo {
        let mut whole = self.clone();
        // The steps around a graph produce single rows.
        let mode = if self.pipeline.is_some() { RowMode::Each } else { RowMode::Whole };
        whole.signature.set_rows(mode);
        whole.batch = Batching { max_rows: 1, grows: false, ..self.batch };
        reason.clone_into(&mut whole.rows_reason);
        whole
    }

    /// The inputs and outputs for clients; `signature` has those of its replicas.
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

    /// The chain of models, if the model is an ensemble: no adapter loads it.
    pub fn ensemble(&self) -> Option<&Ensemble> {
        match &self.pipeline {
            Some(Pipeline::Ensemble(ensemble)) => Some(ensemble),
            _ => None,
        }
    }

    /// The files of this version.
    ///
    /// # Errors
    /// If the repository's folder does not exist any more.
    pub fn files(&self) -> Result<Files, BadFile> {
        let root = match &self.source {
            ModelSource::Embedded => Files::embedded(),
            ModelSource::Folder(folder) => Files::open(folder)?,
        };
        Ok(self.layout.folder(&root, &self.name, &self.version))
    }

    /// The name of the file with the graph, for the kind `onnx`.
    pub fn graph_file(&self) -> String {
        self.graph.file.clone()
    }
}
