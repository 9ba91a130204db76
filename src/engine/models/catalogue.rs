//! The models by number, and the serving state of each.

use model::info::ModelInfo;
use model::pipeline::EnsembleStep;
use model::repository::{BadModel, ScanResult};
use schedule::ModelId;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::error::{Error, ErrorKind};

/// The serving state of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServingState {
    /// Its validation load has not ended; clients cannot use it yet.
    Validating,
    Served,
    /// Unloaded or replaced: it only answers the requests that were admitted while it was served.
    /// `last` is the last generation of the catalogue that served it.
    Retiring {
        last: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct CatalogueEntry {
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) serving_state: ServingState,
}

/// The served models, and those that cannot be served. Numbers are never reused.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    entries: BTreeMap<ModelId, CatalogueEntry>,
    broken: Vec<BadModel>,
    numbered: u32,
    generation: u64,
}

/// The reason why an ensemble cannot be served.
#[derive(Debug)]
pub(crate) struct Missing {
    /// [`ErrorKind::Unavailable`] if neither a file nor the machine is the cause.
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

impl Missing {
    pub(crate) fn error(&self, name: &str) -> Error {
        Error::new(self.kind, format!("model '{name}' cannot be served: {}", self.text))
    }
}

/// The version as a number, for comparison.
fn number_of(info: &ModelInfo) -> u64 {
    info.version.parse().unwrap_or_default()
}

/// The error kind of requests for a bad model.
pub(crate) fn kind_of(bad: &BadModel) -> ErrorKind {
    if bad.machine { ErrorKind::Internal } else { ErrorKind::Unprocessable }
}

impl Catalogue {
    /// The catalogue of a scan of the repository.
    pub fn new(found: Vec<ScanResult>) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for found in found {
            match found {
                ScanResult::Good(info) => {
                    catalogue.insert(Arc::new(info), ServingState::Served);
                }
                ScanResult::Bad(bad) => catalogue.broken.push(bad),
            }
        }
        catalogue
    }

    /// The number of this version of the catalogue.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The next version of the catalogue, for clients.
    pub(crate) fn next(&mut self) -> Catalogue {
        self.generation += 1;
        self.clone()
    }

    /// All models that clients can use.
    pub fn served(&self) -> impl Iterator<Item = &Arc<ModelInfo>> {
        let served = |entry: &&CatalogueEntry| entry.serving_state == ServingState::Served;
        self.entries.values().filter(served).map(|entry| &entry.info)
    }

    /// Models of the repository that cannot be served, with the reasons.
    pub fn broken(&self) -> &[BadModel] {
        &self.broken
    }

    /// The model that a client names; without a version, the newest served one.
    pub(crate) fn resolve(&self, name: &str, version: Option<&str>) -> Option<&Arc<ModelInfo>> {
        let named = self.served().filter(|info| info.name == name);
        match version {
            Some(version) => named.into_iter().find(|info| info.version == version),
            None => named.max_by_key(|info| number_of(info)),
        }
    }

    /// Marks the ensembles that cannot be served as bad among the results of a scan.
    pub fn check_ensembles(found: Vec<ScanResult>) -> Vec<ScanResult> {
        // A member may come later in the scan than its ensemble.
        let catalogue = Catalogue::new(found.clone());
        let check = |found| match found {
            ScanResult::Good(info) => catalogue.check_ensemble(info),
            bad @ ScanResult::Bad(_) => bad,
        };
        found.into_iter().map(check).collect()
    }

    fn check_ensemble(&self, info: ModelInfo) -> ScanResult {
        let Some(Missing { kind, text: error }) = self.missing(&info) else {
            return ScanResult::Good(info);
        };
        let machine = kind == ErrorKind::Internal;
        ScanResult::Bad(BadModel { name: info.name, version: Some(info.version), error, machine })
    }

    /// The reason why an ensemble cannot be served: a member is not served, or lacks an input or
    /// output that a step names.
    pub(crate) fn missing(&self, info: &ModelInfo) -> Option<Missing> {
        let steps = &info.ensemble()?.steps;
        // The model's image input accepts a piece of an image under any name.
        let crops = steps.iter().any(|step| matches!(step, EnsembleStep::Crop { .. }));
        steps.iter().find_map(|step| self.missing_of(step, crops))
    }

    fn missing_of(&self, step: &EnsembleStep, crops: bool) -> Option<Missing> {
        let EnsembleStep::Model { name, inputs, outputs } = step else { return None };
        let member = self.resolve(name, None).filter(|member| member.ensemble().is_none());
        let Some(member) = member else { return Some(self.unserved(name)) };
        let interface = member.interface();
        let takes = |own: &&String| interface.inputs.iter().any(|spec| spec.name == **own);
        let gives = |own: &&String| interface.outputs.iter().any(|spec| spec.name == **own);
        let other = outputs.values().find(|own| !gives(own)).map(|own| ("output", own));
        let other = other.or_else(|| {
            let other = inputs.keys().find(|own| !takes(own)).filter(|_| !crops);
            other.map(|own| ("input", own))
        });
        let (sort, own) = other?;
        let text = format!("a step names the {sort} '{own}', which model '{name}' does not have");
        Some(Missing { kind: ErrorKind::Unprocessable, text })
    }

    fn unserved(&self, name: &str) -> Missing {
        match self.broken.iter().find(|bad| bad.name == name) {
            Some(bad) => Missing {
                kind: kind_of(bad),
                text: format!("it needs model '{name}', which cannot be served: {}", bad.error),
            },
            None => Missing {
                kind: ErrorKind::Unavailable,
                text: format!("it needs model '{name}', which is not served"),
            },
        }
    }

    /// The newest served version of each name, ordered by name.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Arc<ModelInfo>> {
        let mut newest: BTreeMap<&str, &Arc<ModelInfo>> = BTreeMap::new();
        for info in self.served() {
            let known = newest.entry(&info.name).or_insert(info);
            if number_of(info) >= number_of(known) {
                *known = info;
            }
        }
        newest.into_values()
    }

    /// The number under which a call for this model runs: its own, or that of its successor with
    /// the same signature if it has been replaced.
    pub(crate) fn number(&self, info: &Arc<ModelInfo>) -> Option<ModelId> {
        // By identity: after a reload two entries have the same name and version.
        let own = self.entries.iter().find(|(_, entry)| Arc::ptr_eq(&entry.info, info));
        let succeeds = |(_, entry): &(&ModelId, &CatalogueEntry)| {
            entry.serving_state == ServingState::Served
                && (&entry.info.name, &entry.info.version) == (&info.name, &info.version)
                && entry.info.signature == info.signature
        };
        own.or_else(|| self.entries.iter().find(succeeds)).map(|(id, _)| *id)
    }

    /// The model of this number.
    pub(crate) fn get(&self, id: ModelId) -> Option<&Arc<ModelInfo>> {
        self.entries.get(&id).map(|entry| &entry.info)
    }

    /// The model of this number, if it is served.
    pub(crate) fn served_as(&self, id: ModelId) -> Option<&Arc<ModelInfo>> {
        let entry =
            self.entries.get(&id).filter(|entry| entry.serving_state == ServingState::Served);
        entry.map(|entry| &entry.info)
    }

    /// The number of the first served model for which `is_it` holds.
    pub(crate) fn find_served(&self, is_it: impl Fn(&ModelInfo) -> bool) -> Option<ModelId> {
        let mut entries = self.entries.iter();
        let found =
            entries.find(|(_, e)| e.serving_state == ServingState::Served && is_it(&e.info));
        found.map(|(id, _)| *id)
    }

    /// Replaces the description of a model by one that reads the same model from other files.
    pub(crate) fn read_from(&mut self, id: ModelId, info: ModelInfo) {
        if let Some(entry) = self.entries.get_mut(&id) {
            // The files of a copy have later timestamps than the original.
            let files_changed = entry.info.files_changed;
            entry.info = Arc::new(ModelInfo { files_changed, ..info });
        }
    }

    /// All models with their numbers, in any serving state.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ModelId, &CatalogueEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Adds a model for its validation load.
    pub(crate) fn add_for_validation(&mut self, info: ModelInfo) -> (ModelId, Arc<ModelInfo>) {
        let info = Arc::new(info);
        (self.insert(info.clone(), ServingState::Validating), info)
    }

    fn insert(&mut self, info: Arc<ModelInfo>, serving_state: ServingState) -> ModelId {
        let id = ModelId(self.numbered);
        self.numbered += 1;
        self.entries.insert(id, CatalogueEntry { info, serving_state });
        id
    }

    /// Serves a model in place of another one, which only answers its remaining requests.
    pub(crate) fn replace(&mut self, old: ModelId, info: ModelInfo) -> Option<ModelId> {
        let entry = self.entries.get_mut(&old)?;
        let retiring = ServingState::Retiring { last: self.generation };
        let serving_state = std::mem::replace(&mut entry.serving_state, retiring);
        Some(self.insert(Arc::new(info), serving_state))
    }

    /// Serves validated models in place of all other served models of this name.
    pub(crate) fn serve(&mut self, name: &str, tried: &[Arc<ModelInfo>]) {
        let retiring = ServingState::Retiring { last: self.generation };
        for entry in self.entries.values_mut().filter(|entry| entry.info.name == name) {
            let new = tried.iter().any(|tried| Arc::ptr_eq(tried, &entry.info));
            // Other validation loads of this name are not affected.
            if new {
                entry.serving_state = ServingState::Served;
            } else if entry.serving_state == ServingState::Served {
                entry.serving_state = retiring;
            }
        }
    }

    /// Removes models after a failed validation load.
    pub(crate) fn end_validation(&mut self, tried: &[Arc<ModelInfo>]) {
        let retiring = ServingState::Retiring { last: self.generation };
        for entry in self.entries.values_mut() {
            if tried.iter().any(|tried| Arc::ptr_eq(tried, &entry.info)) {
                entry.serving_state = retiring;
            }
        }
    }

    /// Replaces the recorded errors of the models of this name.
    pub(crate) fn record_errors(&mut self, name: &str, broken: Vec<BadModel>) {
        self.broken.retain(|bad| bad.name != name);
        self.broken.extend(broken);
    }

    /// Retiring models that no admitted request can name any more. `oldest` is the oldest
    /// generation of the catalogue that a request uses, if there is one.
    pub(crate) fn left(&self, oldest: Option<u64>) -> impl Iterator<Item = ModelId> {
        let left = move |entry: &CatalogueEntry| match entry.serving_state {
            // A request of generation `last` can still name the model.
            ServingState::Retiring { last } => oldest.is_none_or(|oldest| oldest > last),
            ServingState::Validating | ServingState::Served => false,
        };
        self.entries.iter().filter(move |(_, entry)| left(entry)).map(|(id, _)| *id)
    }

    /// Removes a model.
    pub(crate) fn remove(&mut self, id: ModelId) {
        self.entries.remove(&id);
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use model::files::ModelSource;
    use model::info::Batching;
    use model::layout::Layout;
    use model::signature::Signature;
    use std::time::Duration;

    pub(crate) fn info(name: &str, version: &str) -> ModelInfo {
        ModelInfo {
            name: name.into(),
            version: version.into(),
            kind: "identity".into(),
            source: ModelSource::Embedded,
            signature: Signature::default(),
            batch: Batching {
                max_rows: 1,
                grows: false,
                delay: Duration::ZERO,
                row_memory_bytes: 0,
            },
            slo: None,
            labels: Vec::new(),
            golden: None,
            layout: Layout::default(),
            graph: Default::default(),
            pipeline: None,
            rows_reason: String::new(),
            decoupled: false,
            files_bytes: 0,
            files_changed: None,
        }
    }

    pub(crate) fn catalogue(models: &[(&str, &str)]) -> Catalogue {
        let good = |(name, version): &(&str, &str)| ScanResult::Good(info(name, version));
        Catalogue::new(models.iter().map(good).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{catalogue, info};
    use super::*;

    fn versions(catalogue: &Catalogue) -> Vec<String> {
        catalogue.served().map(|info| format!("{}/{}", info.name, info.version)).collect()
    }

    #[test]
    fn name_resolves_to_the_newest_version_unless_one_is_given() {
        let catalogue = catalogue(&[("a", "2"), ("a", "10"), ("b", "11")]);
        assert_eq!(catalogue.resolve("a", None).unwrap().version, "10");
        assert_eq!(catalogue.resolve("a", Some("2")).unwrap().version, "2");
        assert_eq!(catalogue.resolve("a", Some("3")), None);
        assert_eq!(catalogue.resolve("c", None), None);
    }

    #[test]
    fn validated_model_replaces_its_name_only_when_it_is_served() {
        let mut catalogue = catalogue(&[("a", "1"), ("a", "2"), ("b", "1")]);
        let old = catalogue.resolve("a", Some("2")).unwrap().clone();
        let (id, tried) = catalogue.add_for_validation(info("a", "2"));
        assert_eq!(id, ModelId(3));
        assert!(Arc::ptr_eq(catalogue.resolve("a", None).unwrap(), &old));
        catalogue.serve("a", std::slice::from_ref(&tried));
        assert!(Arc::ptr_eq(catalogue.resolve("a", None).unwrap(), &tried));
        assert_eq!(versions(&catalogue), ["b/1", "a/2"]);
        let left = |oldest| catalogue.left(oldest).collect::<Vec<_>>();
        assert_eq!(left(None), [ModelId(0), ModelId(1)]);
        // A request that was admitted before can still name them.
        assert_eq!(left(Some(catalogue.generation())), []);
        assert_eq!(left(Some(catalogue.generation() + 1)), [ModelId(0), ModelId(1)]);
    }

    #[test]
    fn call_for_a_replaced_model_runs_on_its_successor() {
        let mut catalogue = catalogue(&[("a", "1")]);
        let old = catalogue.resolve("a", None).unwrap().clone();
        let (id, tried) = catalogue.add_for_validation(info("a", "1"));
        catalogue.serve("a", &[tried]);
        assert_eq!(catalogue.number(&old), Some(ModelId(0)));
        catalogue.remove(ModelId(0));
        assert_eq!(catalogue.number(&old), Some(id));
        catalogue.serve("a", &[]);
        assert_eq!(catalogue.number(&old), None);
    }

    #[test]
    fn failed_validation_changes_nothing_and_its_number_is_not_reused() {
        let mut catalogue = catalogue(&[("a", "1")]);
        let (first, tried) = catalogue.add_for_validation(info("a", "1"));
        catalogue.end_validation(&[tried]);
        assert_eq!(versions(&catalogue), ["a/1"]);
        catalogue.remove(first);
        assert_eq!(catalogue.add_for_validation(info("a", "1")).0, ModelId(2));
    }
}
