//! Failed loads, and the last good files of a model that serve in their place.

use crate::core::Core;
use crate::learned_profiles;
use crate::models::file_keeper::{FailedLoad, LookupResult};
use crate::models::serving;
use model::file_copies::ModelCopy;
use model::info::ModelInfo;
use model::repository::BadModel;
use schedule::{AdapterId, Event, Incarnation, LoadRetry, ModelId};
use std::sync::Arc;
use wire::{Cause, FromWorker};

/// Copies the files of a model that an adapter has loaded from the repository.
pub(crate) fn keep_loaded_files(
    core: &mut Core,
    adapter: AdapterId,
    incarnation: Incarnation,
    model: ModelId,
) {
    let own = core.keeper.store.repository.source();
    let served = core.catalogue.served_as(model).cloned();
    if let Some(info) = served.filter(|_| core.fleet.reads(adapter, incarnation, own)) {
        keep_files(core, &info);
    }
}

/// Copies the files of a loaded model, if it was loaded from the repository.
pub(crate) fn keep_files(core: &mut Core, info: &Arc<ModelInfo>) {
    // A model that was read from its copy is not copied; an ensemble has no files to load.
    if info.source == *core.keeper.store.repository.source() && info.ensemble().is_none() {
        let served = core.catalogue.served().filter(|other| other.name == info.name);
        let versions = served.map(|other| other.version.clone()).collect();
        core.keeper.keep(info, versions);
    }
}

/// Handles a failed load. If the files of a served model are the cause, the last good files are
/// looked up before the scheduler receives the failure, so that waiting requests are answered.
pub(crate) fn load_failed(
    core: &mut Core,
    (adapter, incarnation): (AdapterId, Incarnation),
    failed: FailedLoad,
) -> Option<Event> {
    let model = ModelId(failed.model);
    let own = core.keeper.store.repository.source();
    let is_of_files = core.fleet.reads(adapter, incarnation, own)
        && core.fleet.is_caused_by_files(model, failed.cause);
    let served = core.catalogue.served_as(model).cloned();
    let Some(info) = served.filter(|_| is_of_files) else {
        return load_failed_for_good(core, adapter, incarnation, failed);
    };
    let lookups = LookupResult { adapter, incarnation, failed, kept: Vec::new() };
    match core.keeper.look_up(&info.name, lookups) {
        Ok(()) => None,
        Err(LookupResult { failed, .. }) => {
            load_failed_for_good(core, adapter, incarnation, failed)
        }
    }
}

fn load_failed_for_good(
    core: &mut Core,
    adapter: AdapterId,
    incarnation: Incarnation,
    failed: FailedLoad,
) -> Option<Event> {
    let FailedLoad { model, rows, cause, error } = failed;
    if let Some(info) = core.catalogue.get(ModelId(model)) {
        core.learned_profiles.forget_shapes(&learned_profiles::key(info));
    }
    if cause == Cause::Rows {
        // The successor must exist before the requests are rejected, since clients send them again.
        serving::run_whole(core, ModelId(model), &error);
    }
    let message = FromWorker::LoadFailed { model, rows, cause, error };
    core.fleet.advance_start(adapter, incarnation, message, &core.catalogue)
}

/// Loads the last good files in place of the files that could not be loaded.
pub(crate) fn use_lookup(core: &mut Core, lookups: LookupResult) -> Option<Event> {
    let LookupResult { adapter, incarnation, failed, kept } = lookups;
    let model = ModelId(failed.model);
    // The model may have been unloaded during the lookup.
    let Some(info) = core.catalogue.served_as(model).cloned() else {
        return load_failed_for_good(core, adapter, incarnation, failed);
    };
    let same = kept.iter().find_map(|kept| alike(&kept.info, &info));
    let Some(same) = same else {
        let error = failed.error.clone();
        let event = load_failed_for_good(core, adapter, incarnation, failed)?;
        // The queued requests were checked against the signature of the wrong files, so they are
        // rejected first.
        core.turn(event);
        serve_kept(core, &info, kept, error);
        return None;
    };
    core.fleet.load_ended((adapter, incarnation), &info.name, &failed.error);
    record_newer_error(core, &info, failed.error);
    core.catalogue.read_from(model, same);
    serving::catalogue_changed(core);
    Some(Event::LoadFailed { adapter, incarnation, model, retry: LoadRetry::Now })
}

/// Serves the copies of a model in place of a version that cannot be loaded, if no other
/// version is served.
fn serve_kept(core: &mut Core, info: &Arc<ModelInfo>, kept: Vec<ModelCopy>, error: String) {
    // The version that failed is still served, and counts as one.
    let others = core.catalogue.served().filter(|other| other.name == info.name).count() > 1;
    if others || kept.is_empty() {
        return;
    }
    record_newer_error(core, info, error);
    let tried: Vec<_> =
        kept.into_iter().map(|kept| serving::add_for_validation(core, kept.info)).collect();
    core.catalogue.serve(&info.name, &tried);
    serving::count(core, &tried);
    serving::catalogue_changed(core);
}

fn record_newer_error(core: &mut Core, info: &ModelInfo, error: String) {
    let name = info.name.clone();
    let what = "serving the last good files; the files in the repository cannot be loaded";
    tracing::warn!(model = %name, "{what}");
    let bad = BadModel { name: name.clone(), version: None, error, machine: false };
    core.catalogue.record_errors(&name, vec![bad]);
}

/// Makes the copies of served models their source, since the files in the repository were
/// replaced by wrong ones.
pub(crate) fn read_from_kept(core: &mut Core, name: &str, kept: Vec<ModelCopy>) {
    let own = core.keeper.store.repository.source().clone();
    for ModelCopy { stamp, info: kept } in kept {
        let is_it = |info: &ModelInfo| {
            let same = info.name == name && info.version == kept.version;
            same && info.source == own && info.graph.stamp == stamp
        };
        let Some(model) = core.catalogue.find_served(is_it) else { continue };
        let alike = core.catalogue.get(model).and_then(|info| alike(&kept, info));
        if let Some(alike) = alike {
            core.catalogue.read_from(model, alike);
        }
    }
}

/// The copy of a model, if it has the same interface and batches, so that queued requests fit it. A
/// copy that runs each request by itself is compared too, since only a load shows for some models
/// that rows depend on each other.
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
