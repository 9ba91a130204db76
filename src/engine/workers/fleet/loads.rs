//! Results of loads: errors, and the remarks of workers.

use super::Fleet;
use crate::Catalogue;
use crate::calls::rejections::LoadError;
use model::files::ModelSource;
use schedule::{AdapterId, Event, Fault, Incarnation, LoadRetry, ModelId};
use wire::{Cause, Unfit};

impl Fleet {
    /// The error of the last failed load of a model.
    pub(crate) fn load_error(&self, model: ModelId) -> Option<&LoadError> {
        self.load_errors.get(&model)
    }

    /// `true` if an adapter has loaded the model.
    pub(crate) fn has_loaded(&self, model: ModelId) -> bool {
        self.proven.contains(&model)
    }

    /// A worker's remark on a model that it loaded.
    pub(crate) fn note(&self, model: ModelId) -> Option<&str> {
        self.notes.get(&model).map(String::as_str)
    }

    /// Removes the results of a model that was unloaded.
    pub(crate) fn forget_model(&mut self, model: ModelId) {
        self.load_errors.remove(&model);
        self.notes.remove(&model);
        self.proven.remove(&model);
    }

    /// Records that the kernel killed a worker while it loaded this model.
    pub(crate) fn killed_loading(&mut self, model: ModelId) {
        let error = "memory ran out during the load, and the kernel killed the worker process";
        let error = LoadError { cause: Cause::Memory, error: error.to_owned() };
        self.load_errors.insert(model, error);
    }

    /// Logs a failed load and clears the adapter's phase.
    pub(crate) fn load_ended(
        &mut self,
        (adapter, incarnation): (AdapterId, Incarnation),
        model: &str,
        error: &str,
    ) {
        let member = self.member_mut(adapter);
        if let Some(member) = member.filter(|member| member.incarnation == incarnation) {
            member.phase = None;
            member.loading = None;
            tracing::warn!(adapter = %member.entry.id, %model, "failed to load: {error}");
        }
    }

    /// `true` if the adapter is in this incarnation and its last load was from this source.
    pub(crate) fn reads(
        &self,
        id: AdapterId,
        incarnation: Incarnation,
        source: &ModelSource,
    ) -> bool {
        let current = self.member(id).filter(|member| member.incarnation == incarnation);
        current.is_some_and(|member| member.reads.as_ref() == Some(source))
    }

    /// True if this cause of a failed load shows that the model's files are wrong.
    pub(crate) fn is_caused_by_files(&self, model: ModelId, cause: Cause) -> bool {
        match cause {
            Cause::Input | Cause::Model => true,
            Cause::WrongAnswer => !self.proven.contains(&model),
            Cause::Device | Cause::Memory | Cause::Machine | Cause::Rows => false,
        }
    }

    pub(super) fn load_failed(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        (model, cause, error): (ModelId, Cause, String),
        models: &Catalogue,
    ) -> Event {
        let name = models.get(model).map(|info| info.name.clone()).unwrap_or_default();
        self.load_ended((adapter, incarnation), &name, &error);
        let fault = match cause {
            Cause::Device | Cause::Memory => Fault::Device,
            Cause::WrongAnswer if self.proven.contains(&model) => Fault::WrongAnswer,
            // The device has passed its own check, so a golden sample that no adapter has answered
            // correctly is probably wrong.
            Cause::WrongAnswer | Cause::Input | Cause::Model | Cause::Rows | Cause::Machine => {
                let error = LoadError { cause, error };
                let retry = if error.is_of_files() { LoadRetry::Never } else { LoadRetry::Later };
                self.load_errors.insert(model, error);
                return Event::LoadFailed { adapter, incarnation, model, retry };
            }
        };
        self.fault(adapter, &format!("model '{name}': {error}"));
        Event::Faulted { adapter, incarnation, fault }
    }
}

/// The fault of an adapter that cannot serve.
pub(super) fn unfit(why: Unfit) -> Fault {
    match why {
        Unfit::InUse => Fault::InUse,
        Unfit::Device | Unfit::Environment => Fault::Device,
        Unfit::WrongAnswer => Fault::WrongAnswer,
    }
}
