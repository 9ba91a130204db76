//! The check of an ONNX file with the code that lists a repository and the code that loads a model
//! in a worker, so that `concertina models check` rejects the same files as a server.

use crate::context::LoadContext;
use crate::registry::Registry;
use anyhow::{Context, anyhow, bail};
use burn::tensor::Device;
use model::golden;
use model::info::ModelInfo;
use model::layout::{ENDING, Layout, NESTED, version_number};
use model::manifest::Manifest;
use model::onnx::KIND;
use model::repository::{DESCRIPTIONS, Repository, ScanResult};
use std::path::{Path, PathBuf};

/// Loads a file on the CPU like a worker, with its description, and runs its golden sample, if it
/// has one. Returns the description that a server would have.
///
/// # Errors
/// If a server would not serve it.
pub(super) fn check(path: &Path) -> anyhow::Result<ModelInfo> {
    let (registry, device) = (Registry::builtin(), Device::flex());
    let info = info(path, &registry.kinds())?;
    let files = info.files()?;
    let context = LoadContext { info: &info, files: &files, device: &device };
    let mut model = registry.load(&context)?;
    if let Some(sample) = golden::sample(&files, &info)? {
        sample.check(model.as_mut(), info.batch.max_rows)?;
    }
    Ok(info)
}

/// The model of this file in a repository: with the `model.toml` or `config.pbtxt` of its folder,
/// if it has one, else by itself.
fn info(path: &Path, kinds: &[String]) -> anyhow::Result<ModelInfo> {
    let path = path.canonicalize()?;
    let text =
        |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::to_owned);
    let file = text(path.file_name()).context("its name is not UTF-8")?;
    let Some(name) = file.strip_suffix(ENDING) else {
        bail!("its name must end with {ENDING} to be served");
    };
    if let Some((folder, version)) = described(&path) {
        let parent = folder.parent().context("its folder is the root folder")?;
        let name = text(folder.file_name()).context("the name of its folder is not UTF-8")?;
        let repository = Repository::open(parent)?;
        return pick(repository.scan_one(&name, kinds), &version, &file);
    }
    let repository = path.parent().context("has no folder").map(Repository::open)?;
    let info = repository
        .and_then(|repository| repository.info(name, "1", Layout::File, &Manifest::of_kind(KIND)));
    Ok(info?)
}

/// The model folder of a file, and the version, if the folder has a description.
fn described(path: &Path) -> Option<(PathBuf, String)> {
    let here = path.parent()?;
    let name = here.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let inner = version_number(name).is_some() || name == NESTED;
    let version = version_number(name).map_or("1".to_owned(), |number| number.to_string());
    let folders =
        [Some((here, "1".to_owned())), here.parent().filter(|_| inner).map(|f| (f, version))];
    let is_described = |folder: &Path| DESCRIPTIONS.iter().any(|file| folder.join(file).is_file());
    let found = folders.into_iter().flatten().find(|(folder, _)| is_described(folder));
    found.map(|(folder, version)| (folder.to_owned(), version))
}

/// Finds the model with this graph file.
fn pick(found: Vec<ScanResult>, version: &str, file: &str) -> anyhow::Result<ModelInfo> {
    for found in found {
        match found {
            ScanResult::Good(info) if info.version == version && info.graph.file == file => {
                return Ok(info);
            }
            ScanResult::Bad(bad) if bad.version.as_deref().is_none_or(|bad| bad == version) => {
                return Err(anyhow!(bad.error));
            }
            _ => {}
        }
    }
    bail!("is not the served graph of its folder")
}
