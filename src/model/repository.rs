//! The model repository: folders, versions, `model.toml`. It is read in the serving process and
//! does not depend on devices.
//!
//! ```text
//! <name>/model.toml           kind, inputs, outputs, batching, labels
//! <name>/<version>/...        files of one version, a positive integer; they depend on the kind
//! <name>/<version>/model.onnx needs no model.toml, nor does
//! <name>/model.onnx           of one version, nor
//! <name>/onnx/model.onnx      in Hugging Face's layout, nor
//! <name>.onnx                 a model that is one file
//! ```

use crate::files::{BadFile, Detail, Files, ModelSource, is_safe_name};
use crate::golden;
use crate::identity;
use crate::info::{Batching, MAX_ROWS_DEFAULT, ModelInfo};
use crate::layout::{self, GraphFiles, Layout, version_number};
use crate::manifest::{self, Manifest, Versions};
use crate::names;
use crate::onnx::signature as onnx;
use crate::pipeline::{Ensemble, Pipeline, ensemble};
use crate::triton;
use std::collections::BTreeMap;
use std::path::Path;
use types::escape;

/// Files that describe a model, in the order of precedence.
pub const DESCRIPTIONS: [&str; 2] = [manifest::FILE, triton::FILE];
/// The error for a folder without a model.
const NO_MODEL: &str = "does not contain a model; add model.onnx, a version folder (a positive integer such as 1) or a folder onnx with it, or model.toml";

/// A result of a scan: a version, or an error.
#[allow(clippy::large_enum_variant, reason = "a repository has few of them")]
#[derive(Clone, Debug, PartialEq)]
pub enum ScanResult {
    /// A version that can be served.
    Good(ModelInfo),
    /// A model or version that cannot be served.
    Bad(BadModel),
}

/// A model, or one version of it, that cannot be served, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadModel {
    pub name: String,
    /// `None` if the error occurred before any version was read.
    pub version: Option<String>,
    /// The file and the cause.
    pub error: String,
    /// True if the machine failed; else the model's files are wrong.
    pub machine: bool,
}

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Repository {
    source: ModelSource,
    root: Files,
}

impl Repository {
    /// The embedded repository, which is served if no other is named.
    pub fn embedded() -> Repository {
        let root = Files::embedded();
        Repository { source: root.source(), root }
    }

    /// A repository on disk.
    ///
    /// # Errors
    /// If the folder does not exist.
    pub fn open(folder: impl AsRef<Path>) -> Result<Repository, BadFile> {
        let root = Files::open(folder.as_ref())?;
        Ok(Repository { source: root.source(), root })
    }

    /// The place of the repository; also the [`ModelInfo::source`] of its models.
    pub fn source(&self) -> &ModelSource {
        &self.source
    }

    /// Names of all models, whether they can be served or not.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, BadFile> {
        let mut names = self.root.folders()?;
        let files = self.root.files()?;
        let graphs = files.iter().filter_map(|name| name.strip_suffix(layout::ENDING));
        names.extend(graphs.map(str::to_owned));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// For each model, a number that changes when its files change: it shows which models to scan
    /// again.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn marks(&self) -> Result<BTreeMap<String, u64>, BadFile> {
        let folders = self.root.folders()?;
        let mark = |name: String| {
            let folder = folders.contains(&name).then(|| self.root.folder(&name).mark());
            let file = || self.root.file_mark(&format!("{name}{}", layout::ENDING));
            let mark = folder.unwrap_or_else(file);
            (name, mark)
        };
        Ok(self.names()?.into_iter().map(mark).collect())
    }

    /// Reads every model: one entry for each served version, and one for each model or version that
    /// cannot be served, in the order of their names. `kinds` are those that workers can load.
    ///
    /// Weights are not read here: a worker checks them when it loads them.
    pub fn scan(&self, kinds: &[String]) -> Vec<ScanResult> {
        match self.names() {
            Ok(names) => names.iter().flat_map(|name| self.scan_model(name, kinds)).collect(),
            Err(error) => vec![bad("", None, error)],
        }
    }

    /// Like [`Repository::scan`], for one name; empty if its folder does not exist.
    ///
    /// The name may come from a client: it is used as a path only if the repository lists it.
    pub fn scan_one(&self, name: &str, kinds: &[String]) -> Vec<ScanResult> {
        match self.names() {
            Ok(names) if names.iter().any(|listed| listed == name) => self.scan_model(name, kinds),
            Ok(_) => Vec::new(),
            Err(error) => vec![bad("", None, error)],
        }
    }

    fn scan_model(&self, name: &str, kinds: &[String]) -> Vec<ScanResult> {
        if !is_safe_name(name) {
            let shown: String = name.chars().take(100).collect();
            return vec![bad(name, None, BadFile::new(escape::line(&shown), names::RULE))];
        }
        let (manifest, layout) = match self.manifest(name, kinds) {
            Ok(found) => found,
            Err(error) => return vec![bad(name, None, error)],
        };
        if layout != Layout::Version {
            return vec![self.version(name, 1, layout, &manifest)];
        }
        match self.versions(name, &manifest.versions) {
            Ok(all) => all.iter().map(|v| self.version(name, *v, layout, &manifest)).collect(),
            Err(error) => vec![bad(name, None, error)],
        }
    }

    /// The manifest, from `model.toml` or by default, and the layout of the files.
    fn manifest(&self, name: &str, kinds: &[String]) -> Result<(Manifest, Layout), BadFile> {
        let folder = self.root.folder(name);
        let folders = self.root.folders()?;
        if !folders.iter().any(|folder| folder == name) {
            return Ok((Manifest::of_kind(onnx::KIND), Layout::File));
        }
        let files = folder.files()?;
        let found = Layout::of_folder(&folder);
        let layout = found.unwrap_or_default();
        let has = |file: &str| files.iter().any(|found| found == file);
        if !has(manifest::FILE) && has(triton::FILE) {
            let (manifest, ignored) = triton::read(&folder)?;
            triton::log_ignored(name, &ignored);
            return Ok((manifest, layout));
        }
        if !folder.has(manifest::FILE) {
            let manifest = found.map(|layout| (Manifest::of_kind(onnx::KIND), layout));
            return manifest.ok_or_else(|| BadFile::new(name, NO_MODEL));
        }
        let data = folder.read_up_to(manifest::FILE, manifest::BYTES_MAX)?;
        let path = folder.path_of(manifest::FILE);
        let manifest = Manifest::parse(&path, &data)?;
        if manifest.kind != ensemble::KIND && !kinds.contains(&manifest.kind) {
            let detail = format!(
                "kind: '{}' is unknown; use {} or {}",
                manifest.kind,
                kinds.join(", "),
                ensemble::KIND
            );
            return Err(BadFile::new(path, detail));
        }
        if let Some(signature) =
            manifest.signature.as_ref().filter(|_| manifest.kind == identity::KIND)
        {
            identity::check(signature).map_err(|detail| BadFile::new(path, detail))?;
        }
        let layout = match manifest.kind.as_str() {
            onnx::KIND => layout,
            // An ensemble has no files except its `model.toml`.
            ensemble::KIND => Layout::Model,
            _ => Layout::Version,
        };
        Ok((manifest, layout))
    }

    /// The versions that the manifest selects, ascending. Folders with names that are not positive
    /// integers are ignored.
    fn versions(&self, name: &str, wanted: &Versions) -> Result<Vec<u64>, BadFile> {
        let folders = self.root.folder(name).folders()?;
        let numbers = wanted.of(folders.iter().filter_map(|name| version_number(name)).collect());
        if numbers.is_empty() {
            return Err(BadFile::new(name, "has no version folder (a positive integer such as 1)"));
        }
        Ok(numbers)
    }

    fn version(&self, name: &str, number: u64, layout: Layout, manifest: &Manifest) -> ScanResult {
        let version = number.to_string();
        match self.info(name, &version, layout, manifest) {
            Ok(info) => ScanResult::Good(info),
            Err(error) => bad(name, Some(version), error),
        }
    }

    pub fn info(
        &self,
        name: &str,
        version: &str,
        layout: Layout,
        manifest: &Manifest,
    ) -> Result<ModelInfo, BadFile> {
        let manifest = manifest.clone();
        let files = layout.folder(&self.root, name, version);
        let mut info = ModelInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            kind: manifest.kind,
            source: self.source.clone(),
            signature: manifest.signature.unwrap_or_default(),
            batch: Batching {
                max_rows: manifest.max_rows.unwrap_or(MAX_ROWS_DEFAULT),
                grows: false,
                delay: manifest.delay,
                row_memory_bytes: manifest.row_memory_bytes,
            },
            slo: manifest.latency_target,
            labels: manifest.labels,
            golden: manifest.golden,
            layout,
            graph: GraphFiles::default(),
            pipeline: None,
            rows_reason: String::new(),
            decoupled: manifest.decoupled,
            files_bytes: 0,
            files_changed: None,
        };
        self.check_version(&info)?;
        if info.kind == onnx::KIND {
            info.graph.file = match layout {
                Layout::File => format!("{name}{}", layout::ENDING),
                _ => layout::graph_in(&files, manifest.file.as_deref())?,
            };
        }
        // The stamp is taken before anything is read, so that a later change gives another stamp.
        let stamp = layout.stamp(&self.root, (name, version), &info.graph.file);
        let extent = match layout {
            Layout::File => files.file_extent(&info.graph_file()),
            _ => files.extent(),
        };
        info.files_bytes = extent.bytes;
        let settings = self.root.folder(name).file_extent(manifest::FILE);
        info.files_changed = extent.changed.max(settings.changed);
        if info.kind == onnx::KIND {
            // The steps around a graph work on single rows.
            let by_row = !manifest.pipeline.is_empty();
            onnx::complete(&mut info, &files, manifest.rows, by_row)?;
            triton::log_unknown(name, &manifest.tensors, &info.signature);
            info.batch.limit(info.signature.rows, info.signature.exact, manifest.max_rows);
        }
        let own =
            |detail: Detail| BadFile::new(self.root.folder(name).path_of(manifest::FILE), detail);
        if info.kind == ensemble::KIND {
            let chain = Ensemble::check(manifest.steps, info.signature.clone()).map_err(own)?;
            info.pipeline = Some(Pipeline::Ensemble(chain));
        } else if !manifest.pipeline.is_empty() {
            let around = manifest.pipeline.check(&info.signature, &info.labels, &files);
            info.pipeline = Some(Pipeline::Around(around.map_err(own)?));
        }
        if let Some(spec) = &info.golden {
            golden::read(&files, spec, &info.signature)?;
        }
        info.graph.stamp = info.graph.stamp_beside(layout, &files, stamp);
        Ok(info)
    }

    /// The current stamp of the files of a model.
    pub(crate) fn stamp(&self, info: &ModelInfo) -> u64 {
        let (name, version) = (info.name.as_str(), info.version.as_str());
        let stamp = info.layout.stamp(&self.root, (name, version), &info.graph.file);
        let files = info.layout.folder(&self.root, name, version);
        info.graph.stamp_beside(info.layout, &files, stamp)
    }

    fn check_version(&self, info: &ModelInfo) -> Result<(), BadFile> {
        let model = self.root.folder(&info.name);
        if info.layout == Layout::Version && !model.folders()?.contains(&info.version) {
            return Err(BadFile::new(model.path_of(&info.version), "does not exist"));
        }
        Ok(())
    }
}

fn bad(name: &str, version: Option<String>, error: BadFile) -> ScanResult {
    let (machine, error) = (error.machine, error.to_string());
    ScanResult::Bad(BadModel { name: name.to_owned(), version, error, machine })
}

#[cfg(test)]
#[path = "repository_tests.rs"]
mod tests;
