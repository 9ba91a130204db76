//! The places of a model's files: the layouts of a repository, and the file with the graph.

use crate::files::{BadFile, Files};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The default name of the file with the graph, in a model's or a version's folder.
pub const FILE: &str = "model.onnx";
/// Ending of the files that hold graphs.
pub const ENDING: &str = ".onnx";
/// The folder with the graphs of a model in Hugging Face's layout.
pub const NESTED: &str = "onnx";
/// Most names of files in a message; it states the number of the others.
const SHOWN_MAX: usize = 8;

/// The layout of the files of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// In a version folder inside the model's folder.
    #[default]
    Version,
    /// In the model's folder: the model has one version.
    Model,
    /// In a folder `onnx` inside the model's folder, as in Hugging Face's layout: one version.
    Nested,
    /// One file with the name of the model.
    File,
}

/// The files that a graph is read from, for the kind `onnx`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphFiles {
    /// Name of the file with the graph, in the folder of the version.
    pub file: String,
    /// Paths of the files with external data, relative to that folder.
    pub beside: Vec<String>,
    /// A number that changes when a file of the model changes.
    pub stamp: u64,
}

impl Layout {
    /// The folder with the files of a version.
    pub(crate) fn folder(self, root: &Files, name: &str, version: &str) -> Files {
        match self {
            Layout::Version => root.folder(name).folder(version),
            Layout::Model => root.folder(name),
            Layout::Nested => root.folder(name).folder(NESTED),
            Layout::File => root.clone(),
        }
    }

    /// The layout of a model's folder, by the places of its graphs; `None` if it has none.
    /// `model.onnx` has precedence, then version folders, then the folder `onnx`.
    pub(crate) fn of_folder(folder: &Files) -> Option<Layout> {
        let here = graphs(folder);
        if here.iter().any(|file| file == FILE) {
            return Some(Layout::Model);
        }
        let folders = folder.folders().unwrap_or_default();
        let holds = |name: &&String| !graphs(&folder.folder(name)).is_empty();
        if folders.iter().filter(|name| version_number(name).is_some()).any(|name| holds(&name)) {
            return Some(Layout::Version);
        }
        if folders.iter().filter(|name| *name == NESTED).any(|name| holds(&name)) {
            return Some(Layout::Nested);
        }
        (!here.is_empty()).then_some(Layout::Model)
    }

    /// The stamp of a version without external data outside its folders.
    pub(crate) fn stamp(self, root: &Files, (name, version): (&str, &str), graph: &str) -> u64 {
        let model = root.folder(name);
        match self {
            Layout::File => root.file_mark(graph),
            Layout::Model | Layout::Nested => model.mark(),
            Layout::Version => {
                let files = model.files().unwrap_or_default();
                let own = files.iter().map(|file| model.file_mark(file));
                joined(own.chain([model.folder(version).mark()]))
            }
        }
    }
}

impl GraphFiles {
    /// The stamp with external data: the marks of folders do not cover those of a single-file
    /// model.
    pub(crate) fn stamp_beside(&self, layout: Layout, files: &Files, stamp: u64) -> u64 {
        if layout != Layout::File {
            return stamp;
        }
        joined([stamp].into_iter().chain(self.beside.iter().map(|file| files.file_mark(file))))
    }
}

fn joined(marks: impl Iterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    marks.for_each(|mark| mark.hash(&mut hasher));
    hasher.finish()
}

fn graphs(folder: &Files) -> Vec<String> {
    let files = folder.files().unwrap_or_default();
    files.into_iter().filter(|file| file.ends_with(ENDING)).collect()
}

/// The name of the file with the graph in a version's folder: the configured one, else
/// `model.onnx`, else the only one.
///
/// # Errors
/// If there is none, or several without a `model.onnx`.
pub(crate) fn graph_in(files: &Files, wanted: Option<&str>) -> Result<String, BadFile> {
    if let Some(wanted) = wanted {
        return Ok(wanted.to_owned());
    }
    let found = graphs(files);
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(BadFile::new(files.path_of(FILE), "does not exist")),
        several if several.iter().any(|file| file == FILE) => Ok(FILE.to_owned()),
        several => {
            let shown: Vec<&str> = several.iter().take(SHOWN_MAX).map(String::as_str).collect();
            let more = match several.len().saturating_sub(SHOWN_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let shown = shown.join(", ");
            let text = format!("does not exist, but {shown}{more} do; rename one to model.onnx");
            Err(BadFile::new(files.path_of(FILE), text))
        }
    }
}

/// The number of a version's folder, if its name is a positive integer without leading zeros.
pub fn version_number(name: &str) -> Option<u64> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    if plain { name.parse().ok() } else { None }
}
