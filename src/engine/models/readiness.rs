//! Readiness of models. The catalogue and the snapshots are published one after the other; this
//! module reads a consistent pair of them.

use crate::Catalogue;
use crate::calls::handle::EngineHandle;
use model::info::ModelInfo;
use std::sync::Arc;
use telemetry::{ModelState, ModelView, Snapshot};
use tokio::sync::watch;
use types::error::{Error, ErrorKind};

/// See [`EngineHandle::ready_models`].
pub(crate) fn ready_models(engine: &EngineHandle) -> Vec<Arc<ModelInfo>> {
    let view = ConsistentView::read(&engine.models, &engine.snapshots);
    view.models.newest().filter(|model| view.check(model).is_ok()).cloned().collect()
}

/// See [`EngineHandle::check_ready`].
pub(crate) fn check_ready(
    engine: &EngineHandle,
    name: &str,
    version: Option<&str>,
) -> Result<Arc<ModelInfo>, Error> {
    let view = ConsistentView::read(&engine.models, &engine.snapshots);
    let model = crate::calls::handle::find(&view.models, name, version)?;
    view.check(&model)?;
    Ok(model)
}

/// The catalogue, and the newest snapshot that was not made from a later catalogue.
struct ConsistentView {
    models: Arc<Catalogue>,
    snapshot: Arc<Snapshot>,
}

impl ConsistentView {
    fn read(
        models: &watch::Receiver<Arc<Catalogue>>,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
    ) -> ConsistentView {
        loop {
            let (models, snapshot) = (models.borrow().clone(), snapshots.borrow().clone());
            // A catalogue is published before the snapshots made from it, so it can be read now.
            if snapshot.catalogue <= models.generation() {
                return ConsistentView { models, snapshot };
            }
        }
    }

    /// Checks that an adapter can answer for a model of this catalogue.
    fn check(&self, model: &ModelInfo) -> Result<(), Error> {
        let same = |view: &&ModelView| view.name == model.name && view.version == model.version;
        let view = self.snapshot.models.iter().find(same);
        let state = view.map(|view| view.state);
        // A model that was not served in an earlier catalogue has answered since then.
        let is_new = self.snapshot.catalogue < self.models.generation()
            && matches!(state, None | Some(ModelState::Loading | ModelState::Unloading));
        if state == Some(ModelState::Ready) || is_new {
            return Ok(());
        }
        let (kind, what) = match view.and_then(|view| view.failed) {
            Some(true) => (ErrorKind::Unprocessable, "cannot be served"),
            Some(false) => (ErrorKind::Internal, "cannot be served"),
            None => (ErrorKind::Unavailable, "cannot be served now"),
        };
        let reason = view.and_then(|view| view.reason.as_deref());
        let reason = reason.unwrap_or("no adapter can serve it");
        Err(Error::new(kind, format!("model '{}' {what}: {reason}", model.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::catalogue::fixtures::{catalogue, info};

    fn snapshot(catalogue: u64, models: &[(&str, &str, ModelState)]) -> Arc<Snapshot> {
        let view = |(name, version, state): &(&str, &str, ModelState)| ModelView {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            state: *state,
            ..ModelView::default()
        };
        let models = models.iter().map(view).collect();
        Arc::new(Snapshot { catalogue, models, ..Snapshot::default() })
    }

    #[test]
    fn state_in_a_snapshot_of_this_catalogue_applies() {
        let models = Arc::new(catalogue(&[("a", "1")]));
        for (state, ready) in [
            (ModelState::Ready, true),
            (ModelState::Unavailable, false),
            (ModelState::Loading, false),
        ] {
            let snapshot = snapshot(0, &[("a", "1", state)]);
            let view = ConsistentView { models: models.clone(), snapshot };
            assert_eq!(view.check(&info("a", "1")).is_ok(), ready, "{state:?}");
        }
        let view = ConsistentView { models, snapshot: snapshot(0, &[]) };
        assert!(view.check(&info("a", "1")).is_err());
    }

    #[test]
    fn model_that_is_served_since_the_snapshot_was_made_is_ready() {
        let mut models = catalogue(&[("a", "1")]);
        let (_, tried) = models.add_for_validation(info("a", "2"));
        models.serve("a", &[tried]);
        let models = Arc::new(models.next());
        let states = [
            (ModelState::Loading, true),
            (ModelState::Unloading, true),
            (ModelState::Ready, true),
            (ModelState::Unavailable, false),
        ];
        for (state, ready) in states {
            let snapshot = snapshot(0, &[("a", "1", ModelState::Ready), ("a", "2", state)]);
            let view = ConsistentView { models: models.clone(), snapshot };
            assert_eq!(view.check(&info("a", "2")).is_ok(), ready, "{state:?}");
        }
        let view =
            ConsistentView { models, snapshot: snapshot(0, &[("a", "1", ModelState::Ready)]) };
        assert!(view.check(&info("a", "2")).is_ok());
    }

    #[test]
    fn readers_always_find_a_model_while_its_version_changes() {
        let mut models = catalogue(&[("a", "0")]);
        let (catalogues, catalogue) = watch::channel(Arc::new(models.clone()));
        let (snapshots, snapshot_seen) =
            watch::channel(snapshot(0, &[("a", "0", ModelState::Ready)]));
        let reader = std::thread::spawn(move || {
            let mut seen = 0_u32;
            while catalogue.has_changed().is_ok() {
                let view = ConsistentView::read(&catalogue, &snapshot_seen);
                let newest = view.models.newest().next().unwrap();
                assert!(view.check(newest).is_ok(), "{} of {:?}", newest.version, view.snapshot);
                seen += 1;
            }
            seen
        });
        for version in 1..20_000 {
            let version = version.to_string();
            let (_, tried) = models.add_for_validation(info("a", &version));
            models.serve("a", &[tried]);
            let left: Vec<_> = models.left(None).collect();
            left.into_iter().for_each(|id| models.remove(id));
            let next = models.next();
            let generation = next.generation();
            catalogues.send_replace(Arc::new(next));
            snapshots.send_replace(snapshot(generation, &[("a", &version, ModelState::Ready)]));
        }
        drop(catalogues);
        assert!(reader.join().unwrap() > 0);
    }
}
