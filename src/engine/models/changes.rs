//! Changes of the served models at run time, in the driver.

use crate::calls::messages::{EnsembleResult, ModelCommand};
use crate::calls::rejections::LoadError;
use crate::core::Core;
use crate::models::{last_good_files, serving};
use crate::statistics::Answered;
use adapter::entry::Api;
use model::info::ModelInfo;
use schedule::{AdapterId, AdapterView, ClientId, Event, ModelId};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Compute, MemoryUsage, ModelStatistics};
use types::escape;

/// Performs a command, even if its caller no longer waits for the result.
pub(crate) fn perform_command(core: &mut Core, command: ModelCommand) {
    match command {
        ModelCommand::AddForValidation { infos, done } => {
            let tried =
                infos.into_iter().map(|info| serving::add_for_validation(core, info)).collect();
            let _ = done.send(tried);
        }
        ModelCommand::Serve { name, tried, broken, done } => {
            let versions: Vec<_> = tried.iter().map(|info| info.version.as_str()).collect();
            match versions.as_slice() {
                [] => tracing::info!(model = %name, "unloaded"),
                _ => tracing::info!(model = %name, "loaded version {}", versions.join(", ")),
            }
            core.catalogue.serve(&name, &tried);
            serving::count(core, &tried);
            // Each of them has answered a request or has been loaded.
            tried.iter().for_each(|info| last_good_files::keep_files(core, info));
            core.catalogue.record_errors(&name, broken);
            serving::catalogue_changed(core);
            let _ = done.send(());
        }
        ModelCommand::IsLoaded { info, done } => {
            let id = core.catalogue.number(&info);
            let _ = done.send(id.is_some_and(|id| core.fleet.has_loaded(id)));
        }
        ModelCommand::EndValidation { tried, done } => {
            // Before the end of the validation, which removes the models with their errors.
            let error = tried.iter().find_map(|info| load_error(core, info));
            core.catalogue.end_validation(&tried);
            serving::catalogue_changed(core);
            let _ = done.send(error);
        }
        ModelCommand::RecordErrors { name, broken, kept, done } => {
            for bad in &broken {
                tracing::warn!(model = %escape::line(&name), "failed to load: {}", bad.error);
            }
            core.catalogue.record_errors(&name, broken);
            last_good_files::read_from_kept(core, &name, kept);
            serving::catalogue_changed(core);
            let _ = done.send(());
        }
    }
}

/// The statistics of a model since the server started.
pub(crate) fn statistics_of(core: &Core, info: &Arc<ModelInfo>) -> Option<ModelStatistics> {
    let id = core.catalogue.number(info)?;
    let mut statistics = core.statistics.get(id)?.stats.clone();
    statistics.memory_usage = memory_usage(core, id);
    Some(statistics)
}

/// Counts a call to an ensemble.
pub(crate) fn count_ensemble(core: &mut Core, result: &EnsembleResult) {
    let Some(id) = core.catalogue.number(&result.model) else { return };
    let took = result.queue + result.run;
    match &result.error {
        Some(error) => core.statistics.failed(id, ("chain", error), took),
        None => {
            let compute = Compute { infer: result.run, ..Compute::default() };
            let answered = Answered { rows: result.rows, queue: result.queue, compute };
            let time = core.time();
            core.statistics.answered(id, time, answered);
        }
    }
}

/// Announces a request of a client to a model after `within`; for an ensemble, to each of its
/// members.
pub(crate) fn announced(
    core: &mut Core,
    model: &Arc<ModelInfo>,
    client: ClientId,
    within: Duration,
) {
    let number = |info| core.catalogue.number(info);
    let named = |name| number(core.catalogue.resolve(name, None)?);
    let models: Vec<ModelId> = match model.ensemble() {
        Some(chain) => chain.models().filter_map(named).collect(),
        None => number(model).into_iter().collect(),
    };
    for model in models {
        core.turn(Event::Announced { model, client, within });
    }
}

fn memory_usage(core: &Core, model: ModelId) -> Vec<MemoryUsage> {
    let used = |(at, (id, view)): (u64, (AdapterId, AdapterView<'_>))| {
        let byte_size = view.replicas.get(&model)?.bytes;
        let is_cpu = core.fleet.member(id).is_some_and(|member| member.entry.api == Api::Cpu);
        // The values of `type` in Triton's statistics extension; CPU_PINNED does not occur.
        let kind = if is_cpu { "CPU" } else { "GPU" };
        Some(MemoryUsage { kind: kind.to_owned(), id: at, byte_size })
    };
    (0..).zip(core.scheduler.adapters()).filter_map(used).collect()
}

fn load_error(core: &Core, info: &Arc<ModelInfo>) -> Option<LoadError> {
    let id = core.catalogue.number(info)?;
    core.fleet.load_error(id).cloned()
}
