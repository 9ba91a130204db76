//! Follows the model repository's folder: what is put there is served, what changes is loaded
//! again, what is gone is served no more.

use crate::calls::handle::EngineHandle;
use std::collections::BTreeMap;
use std::time::Duration;
use types::escape;

/// Models by name, each with a number that changes when its files do.
pub type Marks = BTreeMap<String, u64>;

/// What to do with a model.
#[derive(Debug, PartialEq, Eq)]
enum FolderChange {
    Load(String),
    Unload(String),
}

/// What was seen of the folder so far.
#[derive(Debug)]
struct SeenFolder {
    /// As it was when it was last acted on.
    settled: Marks,
    /// As it was at the last look: what still changes is being copied.
    last: Marks,
}

impl SeenFolder {
    fn new(marks: Marks) -> SeenFolder {
        SeenFolder { settled: marks.clone(), last: marks }
    }

    /// What is new since it was last acted on and was so at the look before already.
    fn look(&mut self, now: Marks) -> Vec<FolderChange> {
        let mut changes = Vec::new();
        for (name, mark) in &now {
            let calm = self.last.get(name) == Some(mark);
            if calm && self.settled.get(name) != Some(mark) {
                self.settled.insert(name.clone(), *mark);
                changes.push(FolderChange::Load(name.clone()));
            }
        }
        let gone = |name: &&String| !now.contains_key(*name) && !self.last.contains_key(*name);
        for name in self.settled.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.settled.remove(&name);
            changes.push(FolderChange::Unload(name));
        }
        self.last = now;
        changes
    }
}

/// See [`EngineHandle::follow_repository`].
pub(crate) async fn follow_repository(engine: EngineHandle, first: Marks, every: Duration) {
    let mut seen = SeenFolder::new(first);
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(now) = marks(&engine).await else { continue };
        for change in seen.look(now) {
            // Beside others: one that takes long to load delays none of them.
            tokio::spawn(act(engine.clone(), change));
        }
    }
}

async fn act(engine: EngineHandle, change: FolderChange) {
    match change {
        FolderChange::Load(name) => match engine.load_model(&name).await {
            Ok(()) => {
                tracing::info!(model = %escape::line(&name), "found in the repository; served")
            }
            Err(error) => {
                tracing::warn!(model = %escape::line(&name), "found in the repository: {error}")
            }
        },
        FolderChange::Unload(name) => {
            // A load that began before ends before.
            let _lock = engine.loads.lock(&name).await;
            forget_kept(&engine, &name).await;
            // One that was broken, or unloaded by hand, is served no more already.
            if engine.unload_model(&name).await.is_ok() {
                tracing::info!(model = %name, "removed from the repository; no longer served");
            }
        }
    }
}

/// Removes the copies of a model that is no longer in the repository.
async fn forget_kept(engine: &EngineHandle, name: &str) {
    let (library, name) = (engine.store.clone(), name.to_owned());
    let forget = move || library.kept.map(|kept| kept.retain_versions(&name, &[]));
    let _ = tokio::task::spawn_blocking(forget).await;
}

/// `None` if the folder cannot be read just now.
async fn marks(engine: &EngineHandle) -> Option<Marks> {
    let library = engine.store.clone();
    let marks = tokio::task::spawn_blocking(move || library.repository.marks());
    marks.await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(all: &[(&str, u64)]) -> Marks {
        all.iter().map(|(name, mark)| ((*name).to_owned(), *mark)).collect()
    }

    fn load(name: &str) -> FolderChange {
        FolderChange::Load(name.to_owned())
    }

    #[test]
    fn what_is_new_is_loaded_once_it_is_calm() {
        let mut seen = SeenFolder::new(marks(&[("old", 1)]));
        assert_eq!(seen.look(marks(&[("old", 1), ("new", 1)])), []);
        assert_eq!(seen.look(marks(&[("old", 1), ("new", 2)])), []);
        assert_eq!(seen.look(marks(&[("old", 1), ("new", 2)])), [load("new")]);
        assert_eq!(seen.look(marks(&[("old", 1), ("new", 2)])), []);
        assert_eq!(seen.look(marks(&[("old", 2), ("new", 2)])), []);
        assert_eq!(seen.look(marks(&[("old", 2), ("new", 2)])), [load("old")]);
    }

    #[test]
    fn what_is_gone_for_two_looks_is_unloaded() {
        let mut seen = SeenFolder::new(marks(&[("a", 1)]));
        assert_eq!(seen.look(marks(&[])), []);
        assert_eq!(seen.look(marks(&[("a", 1)])), []);
        assert_eq!(seen.look(marks(&[])), []);
        assert_eq!(seen.look(marks(&[])), [FolderChange::Unload("a".into())]);
        assert_eq!(seen.look(marks(&[])), []);
        assert_eq!(seen.look(marks(&[("a", 1)])), []);
        assert_eq!(seen.look(marks(&[("a", 1)])), [load("a")]);
    }
}
