//! The files of a version of a model that a copy of it needs.

use crate::files::{BadFile, Detail, is_safe_name};
use crate::info::ModelInfo;
use crate::layout::{ENDING, Layout, NESTED, version_number};
use std::path::Path;

/// Most files of a version, and most levels of nested folders.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 8;

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionFile {
    /// The path in the repository, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

/// The total bytes of these files.
pub(crate) fn bytes_of(files: &[VersionFile]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
}

/// The files of a version in the repository at `root`, a canonical path.
///
/// # Errors
/// If a folder or file cannot be read, or there are more than 10 000 files.
pub(crate) fn version_files(root: &Path, info: &ModelInfo) -> Result<Vec<VersionFile>, BadFile> {
    if info.layout == Layout::File {
        let paths = [&info.graph.file].into_iter().chain(&info.graph.beside);
        return paths.map(|path| single(root, path)).collect();
    }
    let wanted = |name: &str| {
        version_number(name).is_none() || (info.layout == Layout::Version && name == info.version)
    };
    let mut files = Vec::new();
    walk(root, &info.name, 0, &wanted, &mut files)?;
    if !info.graph.file.is_empty() {
        files.retain(|file| !is_of_other_graph(&file.path, info));
    }
    Ok(files)
}

/// All files in the folder `root`, a canonical path.
///
/// # Errors
/// Those of [`version_files`].
pub(crate) fn all_files(root: &Path) -> Result<Vec<VersionFile>, BadFile> {
    let mut files = Vec::new();
    walk(root, "", 0, &|_| true, &mut files)?;
    Ok(files)
}

fn single(root: &Path, path: &str) -> Result<VersionFile, BadFile> {
    let found = root.join(path).metadata();
    let found = found.map_err(|error| BadFile::new(path, &error))?;
    Ok(VersionFile { path: path.to_owned(), bytes: found.len() })
}

/// Returns true for the file of another graph than the served one, or of its external data: folders
/// of Hugging Face contain the same model in many precisions.
fn is_of_other_graph(path: &str, info: &ModelInfo) -> bool {
    let folder = match info.layout {
        Layout::Version => format!("{}/{}/", info.name, info.version),
        Layout::Nested => format!("{}/{NESTED}/", info.name),
        Layout::Model | Layout::File => format!("{}/", info.name),
    };
    let own = path.strip_prefix(&folder).is_some_and(|path| {
        path == info.graph.file || info.graph.beside.iter().any(|beside| beside == path)
    });
    let graph =
        path.ends_with(ENDING) || path.contains(".onnx_data") || path.contains(".onnx.data");
    graph && !own
}

/// Adds the files of a folder and its subfolders that a model could read. `wanted` selects the
/// subfolders of the outermost folder.
fn walk(
    root: &Path,
    folder: &str,
    depth: usize,
    wanted: &dyn Fn(&str) -> bool,
    files: &mut Vec<VersionFile>,
) -> Result<(), BadFile> {
    let entries = root.join(folder).read_dir();
    let entries = entries.map_err(|error| BadFile::new(folder, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_safe_name(name)) else { continue };
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        // A model cannot read a link that is broken or leads out of the repository.
        let real = entry.path().canonicalize().ok().filter(|real| real.starts_with(root));
        let Some(found) = real.and_then(|real| real.metadata().ok()) else { continue };
        if found.is_dir() && depth < DEPTH_MAX && (depth > 0 || wanted(name)) {
            walk(root, &path, depth + 1, wanted, files)?;
        } else if found.is_file() {
            files.push(VersionFile { path, bytes: found.len() });
        }
        if files.len() > FILES_MAX {
            return Err(BadFile::new(
                folder,
                Detail::from(format!("the model has more than {FILES_MAX} files")),
            ));
        }
    }
    Ok(())
}
