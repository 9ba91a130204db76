//! The last good files of models: copied once a model has loaded, and loaded where the files in the
//! repository cannot be.

use super::driver::Driver;
use super::library::Library;
use super::recollections;
use crate::model::info::ModelInfo;
use crate::model::kept::KeptModel;
use crate::model::repository::{BadModel, Found};
use crate::schedule::{AdapterId, Again, Event, Incarnation, ModelId};
use crate::wire::{Cause, Up};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Most failed loads whose last good files are being looked up.
const LOOKS_MAX: usize = 256;

/// A worker's report of a failed load.
#[derive(Debug)]
pub(super) struct FailedLoad {
    pub(super) model: u32,
    pub(super) rows: u32,
    pub(super) cause: Cause,
    pub(super) error: String,
}

/// A failed load with the copies that are kept of its model.
pub(super) struct Looked {
    adapter: AdapterId,
    incarnation: Incarnation,
    failed: FailedLoad,
    kept: Vec<KeptModel>,
}

/// A loaded model whose files are to be copied.
struct Copy {
    info: Arc<ModelInfo>,
    /// The served versions of its name.
    versions: Vec<String>,
}

/// Copies and looks up files on threads of their own, since the driver must not wait for a disk.
pub(super) struct Keeper {
    store: Library,
    looked: mpsc::Sender<Looked>,
    /// The sender to the thread that copies; `None` where nothing is kept.
    copies: Option<std::sync::mpsc::Sender<Copy>>,
    /// Stamps of the last files that were copied, or failed to be, by name and version.
    tried: HashMap<(String, String), u64>,
}

impl Keeper {
    pub(super) fn new(library: Library) -> (Keeper, mpsc::Receiver<Looked>) {
        let (looked, receiver) = mpsc::channel(LOOKS_MAX);
        let copies = copy_in_background(&library);
        (Keeper { store: library, looked, copies, tried: HashMap::new() }, receiver)
    }

    /// Copies the files of a loaded model. `versions`: the served versions of its name.
    fn keep(&mut self, info: &Arc<ModelInfo>, versions: Vec<String>) {
        let Some(copies) = &self.copies else { return };
        let key = (info.name.clone(), info.version.clone());
        if self.tried.insert(key, info.graph.stamp) == Some(info.graph.stamp) {
            return;
        }
        // This cannot fail: the thread ends when this sender is dropped.
        let _ = copies.send(Copy { info: info.clone(), versions });
    }

    /// Looks up the copies of a model. Returns the load where nothing is kept at all.
    fn look(&self, name: &str, failed: Looked) -> Result<(), Looked> {
        if self.store.kept.is_none() {
            return Err(failed);
        }
        let (store, name, looked) = (self.store.clone(), name.to_owned(), self.looked.clone());
        tokio::task::spawn_blocking(move || {
            let kept = store.kept_of(&name);
            // This fails only when the driver has ended, which needs no result.
            let _ = looked.blocking_send(Looked { kept, ..failed });
        });
        Ok(())
    }
}

/// Starts the thread that copies one model after the other in the order of their loads, since the
/// copy of a newer version removes that of the older one.
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
                "failed to start a thread; no model's last good files are kept: {error}"
            );
            None
        }
    }
}

impl Library {
    /// Reads the repository: one entry per version that is served, and one per model or version
    /// that cannot be, followed by the copies that are kept of the latter.
    pub fn scan(&self) -> Vec<Found> {
        let Some(kept) = &self.kept else { return self.repository.scan(&self.kinds) };
        let names = match self.repository.names() {
            Ok(names) => names,
            Err(_) => return self.repository.scan(&self.kinds),
        };
        // A folder that is empty is perhaps not mounted yet.
        if !names.is_empty() {
            kept.retain_models(&names);
        }
        let scan =
            |name: &String| self.with_kept(name, self.repository.scan_one(name, &self.kinds));
        names.iter().flat_map(scan).collect()
    }

    /// The results of a scan of a model, with the copies of the versions that are bad now.
    pub(super) fn with_kept(&self, name: &str, mut found: Vec<Found>) -> Vec<Found> {
        let good: Vec<String> = found.iter().filter_map(version_of).map(str::to_owned).collect();
        let bad: Vec<Option<String>> = found.iter().filter_map(bad_version).collect();
        if bad.is_empty() {
            return found;
        }
        // Where another version is good, only a version that is bad now is taken from its copy.
        let missing = |version: &String| match good.is_empty() {
            true => true,
            false => !good.contains(version) && bad.iter().flatten().any(|bad| bad == version),
        };
        let kept = self.kept_of(name).into_iter().filter(|kept| missing(&kept.info.version));
        found.extend(kept.map(|kept| Found::Good(kept.info)));
        found
    }

    /// Reads one model. Versions that are bad now are taken from their copies, unless all are bad:
    /// what serves then stays in place.
    pub(super) fn scan_one(&self, name: &str) -> Vec<Found> {
        let found = self.repository.scan_one(name, &self.kinds);
        let any_good = found.iter().any(|found| version_of(found).is_some());
        if any_good { self.with_kept(name, found) } else { found }
    }

    /// The copies of a model that can be served.
    pub(super) fn kept_of(&self, name: &str) -> Vec<KeptModel> {
        self.kept.as_ref().map(|kept| kept.find(name, &self.kinds)).unwrap_or_default()
    }
}

fn version_of(found: &Found) -> Option<&str> {
    match found {
        Found::Good(info) => Some(&info.version),
        Found::Bad(_) => None,
    }
}

fn bad_version(found: &Found) -> Option<Option<String>> {
    match found {
        Found::Good(_) => None,
        Found::Bad(bad) => Some(bad.version.clone()),
    }
}

impl Driver {
    /// Keeps the files of a model that an adapter has loaded from the repository.
    pub(super) fn proved(&mut self, adapter: AdapterId, life: Incarnation, model: ModelId) {
        let own = self.keeper.store.repository.source();
        let served = self.catalogue.served_as(model).cloned();
        if let Some(info) = served.filter(|_| self.fleet.reads(adapter, life, own)) {
            self.keep_files(&info);
        }
    }

    /// Keeps the files of a loaded model, if they are those of the repository.
    pub(super) fn keep_files(&mut self, info: &Arc<ModelInfo>) {
        if info.source == *self.keeper.store.repository.source() && info.ensemble().is_none() {
            let served = self.catalogue.served().filter(|other| other.name == info.name);
            let versions = served.map(|other| other.version.clone()).collect();
            self.keeper.keep(info, versions);
        }
    }

    /// Handles a failed load. If the files of a served model are the cause, the last good files are
    /// looked up before the scheduler receives the failure, so that waiting requests are answered.
    pub(super) fn load_failed(
        &mut self,
        (adapter, incarnation): (AdapterId, Incarnation),
        failed: FailedLoad,
    ) -> Option<Event> {
        let model = ModelId(failed.model);
        let own = self.keeper.store.repository.source();
        let others = self.fleet.reads(adapter, incarnation, own)
            && self.fleet.blames_files(model, failed.cause);
        let served = self.catalogue.served_as(model).cloned();
        let Some(info) = served.filter(|_| others) else {
            return self.load_failed_for_good(adapter, incarnation, failed);
        };
        let looked = Looked { adapter, incarnation, failed, kept: Vec::new() };
        match self.keeper.look(&info.name, looked) {
            Ok(()) => None,
            Err(Looked { failed, .. }) => self.load_failed_for_good(adapter, incarnation, failed),
        }
    }

    fn load_failed_for_good(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        failed: FailedLoad,
    ) -> Option<Event> {
        let FailedLoad { model, rows, cause, error } = failed;
        if let Some(info) = self.catalogue.get(ModelId(model)) {
            self.recollections.forget_shapes(&recollections::key(info));
        }
        if cause == Cause::Rows {
            // The successor must exist before the requests are rejected: they are sent to it again.
            self.run_whole(ModelId(model), &error);
        }
        let message = Up::LoadFailed { model, rows, cause, error };
        self.fleet.starting(adapter, incarnation, message, &self.catalogue)
    }

    /// Loads the last good files in place of those that could not be loaded.
    pub(super) fn looked(&mut self, looked: Looked) -> Option<Event> {
        let Looked { adapter, incarnation, failed, kept } = looked;
        let model = ModelId(failed.model);
        let Some(info) = self.catalogue.served_as(model).cloned() else {
            return self.load_failed_for_good(adapter, incarnation, failed);
        };
        let same = kept.iter().find_map(|kept| alike(&kept.info, &info));
        let Some(same) = same else {
            let error = failed.error.clone();
            let event = self.load_failed_for_good(adapter, incarnation, failed)?;
            // The waiting requests were checked against the signature of the wrong files, so that
            // they are rejected first.
            self.turn(event);
            self.serve_kept(&info, kept, error);
            return None;
        };
        self.fleet.load_ended((adapter, incarnation), &info.name, &failed.error);
        self.blame_newer(&info, failed.error);
        self.catalogue.read_from(model, same);
        self.catalogue_changed();
        Some(Event::LoadFailed { adapter, incarnation, model, again: Again::Now })
    }

    /// Serves the copies of a model in place of a version that cannot be loaded, if no other
    /// version is served.
    fn serve_kept(&mut self, info: &Arc<ModelInfo>, kept: Vec<KeptModel>, error: String) {
        let others = self.catalogue.served().filter(|other| other.name == info.name).count() > 1;
        if others || kept.is_empty() {
            return;
        }
        self.blame_newer(info, error);
        let tried: Vec<_> = kept.into_iter().map(|kept| self.try_out(kept.info)).collect();
        self.catalogue.serve(&info.name, &tried);
        self.count(&tried);
        self.catalogue_changed();
    }

    fn blame_newer(&mut self, info: &ModelInfo, error: String) {
        let name = info.name.clone();
        let what = "serving the last good files; those in the repository cannot be loaded";
        tracing::warn!(model = %name, "{what}");
        let bad = BadModel { name: name.clone(), version: None, error, machine: false };
        self.catalogue.blame(&name, vec![bad]);
    }

    /// Makes the copies of served models their source, since the files in the repository were
    /// replaced by wrong ones.
    pub(super) fn read_from_kept(&mut self, name: &str, kept: Vec<KeptModel>) {
        let own = self.keeper.store.repository.source().clone();
        for KeptModel { stamp, info: kept } in kept {
            let is_it = |info: &ModelInfo| {
                let same = info.name == name && info.version == kept.version;
                same && info.source == own && info.graph.stamp == stamp
            };
            let Some(model) = self.catalogue.find_served(is_it) else { continue };
            let alike = self.catalogue.get(model).and_then(|info| alike(&kept, info));
            if let Some(alike) = alike {
                self.catalogue.read_from(model, alike);
            }
        }
    }
}

/// The copy of a model, if it has the same interface and batches, so that waiting requests fit it.
/// A copy with each request run by itself is compared too: some rows are found to depend on each
/// other only in a load.
fn alike(kept: &ModelInfo, info: &ModelInfo) -> Option<ModelInfo> {
    let whole = || kept.run_whole(&info.rows_reason);
    [kept.clone(), whole()].into_iter().find(|kept| {
        kept.version == info.version
            && kept.kind == info.kind
            && kept.signature == info.signature
            && kept.pipeline == info.pipeline
            && kept.batch == info.batch
    })
}
