//! The extent of files: their bytes, and the time of their last change.

use super::{DEPTH_MAX, ENTRIES_MAX};
use crate::names::is_safe_name;
use std::fs::Metadata;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Bytes of some files, and the time of their last change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    /// Unix time in seconds; `None` without a file on disk.
    pub(crate) changed: Option<u64>,
}

impl Extent {
    pub(super) fn embedded(bytes: u64) -> Extent {
        Extent { bytes, changed: None }
    }

    /// The extent of one file; zero for a file without metadata.
    pub(super) fn of_file(path: &Path) -> Extent {
        let mut extent = Extent::default();
        if let Ok(metadata) = path.metadata() {
            extent.add(&metadata);
        }
        extent
    }

    /// The extent of the plain files in and below `folder` that are inside `root` after links are
    /// resolved.
    pub(super) fn of_folder(root: &Path, folder: &Path) -> Extent {
        let (mut extent, mut entries) = (Extent::default(), 0);
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in folder.read_dir().into_iter().flatten().flatten() {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return extent;
                }
                if !entry.file_name().to_str().is_some_and(is_safe_name) {
                    continue;
                }
                let real = entry.path().canonicalize().ok().filter(|real| real.starts_with(root));
                let Some(metadata) = real.and_then(|real| real.metadata().ok()) else { continue };
                if metadata.is_file() {
                    extent.add(&metadata);
                } else if metadata.is_dir() && depth < DEPTH_MAX {
                    folders.push((entry.path(), depth + 1));
                }
            }
        }
        extent
    }

    fn add(&mut self, metadata: &Metadata) {
        self.bytes = self.bytes.saturating_add(metadata.len());
        let modified = metadata.modified().ok();
        let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        self.changed = self.changed.max(since.map(|since| since.as_secs()));
    }
}
