//! The last good files of models: they are copied once a model has loaded, and loaded if the files
//! in the repository cannot be.

use crate::models::library::Library;
use model::file_copies::ModelCopy;
use model::info::ModelInfo;
use model::repository::ScanResult;
use schedule::{AdapterId, Incarnation};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use wire::Cause;

/// Maximum number of concurrent lookups of last good files.
const LOOKUPS_MAX: usize = 256;

/// A worker's report of a failed load.
#[derive(Debug)]
pub(crate) struct FailedLoad {
    pub(crate) model: u32,
    pub(crate) rows: u32,
    pub(crate) cause: Cause,
    pub(crate) error: String,
}

/// A failed load with the copies of its model's files.
pub(crate) struct LookupResult {
    pub(crate) adapter: AdapterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) failed: FailedLoad,
    pub(crate) kept: Vec<ModelCopy>,
}

/// A request to copy the files of a loaded model.
struct Copy {
    info: Arc<ModelInfo>,
    /// The served versions of its name.
    versions: Vec<String>,
}

/// Copies and looks up files on separate threads, since the driver must not wait for a disk.
pub(crate) struct FileKeeper {
    pub(crate) store: Library,
    lookups: mpsc::Sender<LookupResult>,
    /// Sender to the thread that copies; `None` if no copies are kept.
    copies: Option<std::sync::mpsc::Sender<Copy>>,
    /// Stamps of the files that were last copied, or could not be, by name and version.
    tried: HashMap<(String, String), u64>,
}

impl FileKeeper {
    pub(crate) fn new(library: Library) -> (FileKeeper, mpsc::Receiver<LookupResult>) {
        let (lookups, receiver) = mpsc::channel(LOOKUPS_MAX);
        let copies = copy_in_background(&library);
        (FileKeeper { store: library, lookups, copies, tried: HashMap::new() }, receiver)
    }

    /// Copies the files of a loaded model. `versions`: the served versions of its name.
    pub(crate) fn keep(&mut self, info: &Arc<ModelInfo>, versions: Vec<String>) {
        let Some(copies) = &self.copies else { return };
        let key = (info.name.clone(), info.version.clone());
        // Each start of an adapter loads the same files again.
        if self.tried.insert(key, info.graph.stamp) == Some(info.graph.stamp) {
            return;
        }
        // This cannot fail, because the thread ends only when this sender is dropped.
        let _ = copies.send(Copy { info: info.clone(), versions });
    }

    /// Looks up the copies of a model. Returns the load if no copies are kept.
    pub(crate) fn look_up(&self, name: &str, failed: LookupResult) -> Result<(), LookupResult> {
        if self.store.kept.is_none() {
            return Err(failed);
        }
        let (store, name, lookups) = (self.store.clone(), name.to_owned(), self.lookups.clone());
        tokio::task::spawn_blocking(move || {
            let kept = store.kept_of(&name);
            // This fails only when the driver has ended.
            let _ = lookups.blocking_send(LookupResult { kept, ..failed });
        });
        Ok(())
    }
}

/// Starts the thread that copies one model after the other in the order of their loads, since the
/// copy of a newer version removes the copy of the older one.
fn copy_in_background(library: &Library) -> Option<std::sync::mpsc::Sender<Copy>> {
    let (kept, repository) = (library.kept.clone()?, library.repository.clone());
    let (copies, received) = std::sync::mpsc::channel::<Copy>();
    let copy = move |Copy { info, versions }: Copy| {
        if let Err(error) = kept.keep(&repository, &info, &versions) {
            let why = "failed to keep the last good files";
            tracing::info!(model = %info.name, version = %info.version, "{why}: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("kept".to_owned());
    match thread.spawn(move || received.iter().for_each(copy)) {
        Ok(_) => Some(copies),
        Err(error) => {
            tracing::warn!(
                "failed to start the thread that copies the last good files of models: {error}"
            );
            None
        }
    }
}

impl Library {
    /// Reads the repository: one entry per version that can be served, and one per model or version
    /// that cannot, followed by the copies of the latter.
    pub fn scan(&self) -> Vec<ScanResult> {
        let Some(kept) = &self.kept else { return self.repository.scan(&self.kinds) };
        let names = match self.repository.names() {
            Ok(names) => names,
            // The scan reports the error of the folder.
            Err(_) => return self.repository.scan(&self.kinds),
        };
        // An empty folder may not be mounted yet.
        if !names.is_empty() {
            kept.retain_models(&names);
        }
        let scan =
            |name: &String| self.with_kept(name, self.repository.scan_one(name, &self.kinds));
        names.iter().flat_map(scan).collect()
    }

    /// Adds the copies of the versions that are bad now to the results of a scan of a model.
    pub(crate) fn with_kept(&self, name: &str, mut found: Vec<ScanResult>) -> Vec<ScanResult> {
        let good: Vec<String> = found.iter().filter_map(version_of).map(str::to_owned).collect();
        let bad: Vec<Option<String>> = found.iter().filter_map(bad_version).collect();
        if bad.is_empty() {
            return found;
        }
        // If another version is good, only versions that are bad now are read from their copies.
        let missing = |version: &String| match good.is_empty() {
            true => true,
            false => !good.contains(version) && bad.iter().flatten().any(|bad| bad == version),
        };
        let kept = self.kept_of(name).into_iter().filter(|kept| missing(&kept.info.version));
        found.extend(kept.map(|kept| ScanResult::Good(kept.info)));
        found
    }

    /// Reads one model. Versions that are bad now are read from their copies, unless all are bad:
    /// the versions that serve then stay in place.
    pub(crate) fn scan_one(&self, name: &str) -> Vec<ScanResult> {
        let found = self.repository.scan_one(name, &self.kinds);
        let any_good = found.iter().any(|found| version_of(found).is_some());
        if any_good { self.with_kept(name, found) } else { found }
    }

    /// The copies of a model that can be served.
    pub(crate) fn kept_of(&self, name: &str) -> Vec<ModelCopy> {
        self.kept.as_ref().map(|kept| kept.find(name, &self.kinds)).unwrap_or_default()
    }
}

fn version_of(found: &ScanResult) -> Option<&str> {
    match found {
        ScanResult::Good(info) => Some(&info.version),
        ScanResult::Bad(_) => None,
    }
}

fn bad_version(found: &ScanResult) -> Option<Option<String>> {
    match found {
        ScanResult::Good(_) => None,
        ScanResult::Bad(bad) => Some(bad.version.clone()),
    }
}
