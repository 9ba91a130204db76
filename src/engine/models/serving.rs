//! The start and end of serving models.

use crate::Catalogue;
use crate::core::Core;
use crate::workers::discovery;
use model::info::ModelInfo;
use schedule::{Event, ModelId, ModelProfile};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn add_for_validation(core: &mut Core, info: ModelInfo) -> Arc<ModelInfo> {
    let profile = profile(&info, core.config.live.slo);
    let (model, info) = core.catalogue.add_for_validation(info);
    // No adapter loads an ensemble: the scheduler has only its members.
    if info.ensemble().is_none() {
        core.turn(Event::ModelAdded { model, profile });
    }
    discovery::recall_all(core);
    discovery::recall_model(core, &info.name, model);
    info
}

/// Runs each request of a served model by itself from now on, since its rows depend on each other.
/// A model in its validation load is not replaced: the load fails and is repeated.
pub(crate) fn run_whole(core: &mut Core, old: ModelId, reason: &str) {
    let Some(info) = core.catalogue.served_as(old) else { return };
    let name = info.name.clone();
    tracing::warn!(model = %info.name, "running each request by itself: {reason}");
    let info = info.run_whole(reason);
    let profile = profile(&info, core.config.live.slo);
    let Some(model) = core.catalogue.replace(old, info) else { return };
    core.turn(Event::ModelAdded { model, profile });
    if let Some(info) = core.catalogue.get(model).cloned() {
        count(core, std::slice::from_ref(&info));
    }
    discovery::recall_all(core);
    discovery::recall_model(core, &name, model);
    catalogue_changed(core);
}

/// Adds these models to the statistics.
pub(crate) fn count(core: &mut Core, served: &[Arc<ModelInfo>]) {
    for info in served {
        if let Some(id) = core.catalogue.number(info) {
            core.statistics.add(id, info);
        }
    }
}

/// Publishes the catalogue to clients, before the caller of the change receives its result.
pub(crate) fn catalogue_changed(core: &mut Core) {
    core.catalogues.send_replace(Arc::new(core.catalogue.next()));
    remove_left(core);
    core.publish();
}

/// Removes models that were unloaded or replaced, have no pending requests and cannot be named by
/// an admitted request.
pub(crate) fn remove_left(core: &mut Core) {
    let is_idle = |id: &ModelId| !core.requests.has_pending(*id);
    let left: Vec<ModelId> =
        core.catalogue.left(core.admissions.oldest()).filter(is_idle).collect();
    for model in left {
        let is_ensemble = core.catalogue.get(model).is_some_and(|info| info.ensemble().is_some());
        core.catalogue.remove(model);
        core.fleet.forget_model(model);
        core.statistics.remove(model);
        if !is_ensemble {
            core.turn(Event::ModelRemoved { model });
        }
    }
}

pub(crate) fn profiles(catalogue: &Catalogue, slo: Duration) -> BTreeMap<ModelId, ModelProfile> {
    let graphs = catalogue.all().filter(|(_, entry)| entry.info.ensemble().is_none());
    graphs.map(|(id, entry)| (id, profile(&entry.info, slo))).collect()
}

/// The scheduler's profile of a model. `slo` applies to models that name none.
fn profile(info: &ModelInfo, slo: Duration) -> ModelProfile {
    ModelProfile {
        max_rows: u32::try_from(info.batch.max_rows).unwrap_or(u32::MAX),
        first_rows: u32::try_from(info.batch.first_rows()).unwrap_or(u32::MAX),
        delay: info.batch.delay,
        slo: info.slo.unwrap_or(slo),
        // An estimate, until a load reports the memory that the model takes.
        bytes: info.files_bytes,
        row_bytes: info.batch.row_memory_bytes,
        decoupled: info.decoupled,
    }
}
