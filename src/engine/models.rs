//! Models that come and go while the server runs, as the driver sees it.

use super::Catalogue;
use super::driver::Driver;
use super::messages::{Chained, ModelOrder};
use super::rejections::LoadError;
use super::statistics::Answered;
use crate::adapter::entry::Api;
use crate::escape;
use crate::model::info::ModelInfo;
use crate::schedule::{AdapterId, AdapterView, ClientId, Event, ModelId, ModelProfile};
use crate::telemetry::{Compute, MemoryUsage, ModelStatistics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

impl Driver {
    /// Performs an order. Who asked may be gone; what was ordered is done all the same.
    pub(super) fn perform_order(&mut self, order: ModelOrder) {
        match order {
            ModelOrder::TryOut { infos, done } => {
                let tried = infos.into_iter().map(|info| self.try_out(info)).collect();
                let _ = done.send(tried);
            }
            ModelOrder::Serve { name, tried, broken, done } => {
                let versions: Vec<_> = tried.iter().map(|info| info.version.as_str()).collect();
                match versions.as_slice() {
                    [] => tracing::info!(model = %name, "unloaded"),
                    _ => tracing::info!(model = %name, "loaded version {}", versions.join(", ")),
                }
                self.catalogue.serve(&name, &tried);
                self.count(&tried);
                // Each has answered a request or been loaded.
                tried.iter().for_each(|info| self.keep_files(info));
                self.catalogue.blame(&name, broken);
                self.catalogue_changed();
                let _ = done.send(());
            }
            ModelOrder::IsLoaded { info, done } => {
                let id = self.catalogue.number(&info);
                let _ = done.send(id.is_some_and(|id| self.fleet.has_loaded(id)));
            }
            ModelOrder::Dismiss { tried, done } => {
                let error = tried.iter().find_map(|info| self.load_error(info));
                self.catalogue.dismiss(&tried);
                self.catalogue_changed();
                let _ = done.send(error);
            }
            ModelOrder::Blame { name, broken, kept, done } => {
                for bad in &broken {
                    tracing::warn!(model = %escape::line(&name), "cannot be loaded: {}", bad.error);
                }
                self.catalogue.blame(&name, broken);
                self.read_from_kept(&name, kept);
                self.catalogue_changed();
                let _ = done.send(());
            }
        }
    }

    pub(super) fn try_out(&mut self, info: ModelInfo) -> Arc<ModelInfo> {
        let profile = profile(&info, self.config.slo);
        let (model, info) = self.catalogue.try_out(info);
        // No adapter loads a chain of models: the scheduler knows only its links.
        if info.ensemble().is_none() {
            self.turn(Event::ModelAdded { model, profile });
        }
        self.recall_all();
        info
    }

    /// Runs each request of a served model by itself from now on, since its rows depend on each
    /// other. A model in its validation load is not replaced: the load fails and is repeated.
    pub(super) fn run_whole(&mut self, old: ModelId, reason: &str) {
        let Some(info) = self.catalogue.served_as(old) else { return };
        tracing::warn!(model = %info.name, "running each request by itself: {reason}");
        let info = info.run_whole(reason);
        let profile = profile(&info, self.config.slo);
        let Some(model) = self.catalogue.replace(old, info) else { return };
        self.turn(Event::ModelAdded { model, profile });
        if let Some(info) = self.catalogue.get(model).cloned() {
            self.count(std::slice::from_ref(&info));
        }
        self.recall_all();
        self.catalogue_changed();
    }

    /// Counts what is done for them from now on.
    pub(super) fn count(&mut self, served: &[Arc<ModelInfo>]) {
        for info in served {
            if let Some(id) = self.catalogue.number(info) {
                self.statistics.add(id, info);
            }
        }
    }

    /// What was done for a model up to now.
    pub(super) fn statistics_of(&self, info: &Arc<ModelInfo>) -> Option<ModelStatistics> {
        let id = self.catalogue.number(info)?;
        let mut statistics = self.statistics.get(id)?.stats.clone();
        statistics.memory_usage = self.memory_usage(id);
        Some(statistics)
    }

    /// Counts a call that went through a chain of models.
    pub(super) fn count_chained(&mut self, chained: &Chained) {
        let Some(id) = self.catalogue.number(&chained.model) else { return };
        let took = chained.queue + chained.run;
        match &chained.error {
            Some(error) => self.statistics.failed(id, ("chain", error), took),
            None => {
                let compute = Compute { infer: chained.run, ..Compute::default() };
                let answered = Answered { rows: chained.rows, queue: chained.queue, compute };
                let time = self.time();
                self.statistics.answered(id, time, answered);
            }
        }
    }

    /// A client will ask for a model in so long; for a chain that means each of its models.
    pub(super) fn announced(&mut self, model: &Arc<ModelInfo>, client: ClientId, within: Duration) {
        let number = |info| self.catalogue.number(info);
        let named = |name| number(self.catalogue.resolve(name, None)?);
        let models: Vec<ModelId> = match model.ensemble() {
            Some(chain) => chain.models().filter_map(named).collect(),
            None => number(model).into_iter().collect(),
        };
        for model in models {
            self.turn(Event::Announced { model, client, within });
        }
    }

    fn memory_usage(&self, model: ModelId) -> Vec<MemoryUsage> {
        let used = |(at, (id, view)): (u64, (AdapterId, AdapterView<'_>))| {
            let byte_size = view.replicas.get(&model)?.bytes;
            let is_cpu = self.fleet.member(id).is_some_and(|member| member.entry.api == Api::Cpu);
            let kind = if is_cpu { "CPU" } else { "GPU" };
            Some(MemoryUsage { kind: kind.to_owned(), id: at, byte_size })
        };
        (0..).zip(self.scheduler.adapters()).filter_map(used).collect()
    }

    fn load_error(&self, info: &Arc<ModelInfo>) -> Option<LoadError> {
        let id = self.catalogue.number(info)?;
        self.fleet.load_error(id).cloned()
    }

    /// Tells clients before whoever ordered it is told that it is done.
    pub(super) fn catalogue_changed(&mut self) {
        self.catalogues.send_replace(Arc::new(self.catalogue.next()));
        self.remove_left();
        self.publish();
    }

    /// Forgets models that were unloaded or replaced, owe no answer any more and are not named by
    /// an admitted request.
    pub(super) fn remove_left(&mut self) {
        let owes_none = |id: &ModelId| !self.requests.owes(*id);
        let left: Vec<ModelId> =
            self.catalogue.left(self.admissions.oldest()).filter(owes_none).collect();
        for model in left {
            let chain = self.catalogue.get(model).is_some_and(|info| info.ensemble().is_some());
            self.catalogue.remove(model);
            self.fleet.forget_model(model);
            self.statistics.remove(model);
            if !chain {
                self.turn(Event::ModelRemoved { model });
            }
        }
    }
}

pub(super) fn profiles(catalogue: &Catalogue, slo: Duration) -> BTreeMap<ModelId, ModelProfile> {
    let graphs = catalogue.all().filter(|(_, entry)| entry.info.ensemble().is_none());
    graphs.map(|(id, entry)| (id, profile(&entry.info, slo))).collect()
}

/// What the scheduler needs to know of a model. `slo` is for models that name none.
fn profile(info: &ModelInfo, slo: Duration) -> ModelProfile {
    ModelProfile {
        max_rows: u32::try_from(info.batch.max_rows).unwrap_or(u32::MAX),
        first_rows: u32::try_from(info.batch.first_rows()).unwrap_or(u32::MAX),
        delay: info.batch.delay,
        slo: info.slo.unwrap_or(slo),
        bytes: info.files_bytes,
    }
}
