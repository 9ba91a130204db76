//! Follows the folder of the model repository: new models are served, changed ones are reloaded,
//! and removed ones are unloaded.

use crate::calls::handle::EngineHandle;
use std::collections::BTreeMap;
use std::time::Duration;
use types::escape;

/// Models by name, each with a number that changes with its files.
pub type Marks = BTreeMap<String, u64>;

/// An action for a model.
#[derive(Debug, PartialEq, Eq)]
enum FolderChange {
    Load(String),
    Unload(String),
}

/// States of the folder at earlier polls.
#[derive(Debug)]
struct SeenFolder {
    /// The state to which the served models correspond.
    settled: Marks,
    /// The state at the last poll. A model that still changes is probably being copied.
    last: Marks,
}

impl SeenFolder {
    fn new(marks: Marks) -> SeenFolder {
        SeenFolder { settled: marks.clone(), last: marks }
    }

    /// Changes since `settled` that are the same as at the previous poll.
    fn poll(&mut self, now: Marks) -> Vec<FolderChange> {
        let mut changes = Vec::new();
        for (name, mark) in &now {
            let is_stable = self.last.get(name) == Some(mark);
            if is_stable && self.settled.get(name) != Some(mark) {
                // Also before a load that fails: only a change of the files repeats it.
                self.settled.insert(name.clone(), *mark);
                changes.push(FolderChange::Load(name.clone()));
            }
        }
        // In two polls: a model that is being replaced can be absent for a moment.
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
    let mut polls = tokio::time::interval(every);
    // The default, `Burst`, would make up for a slow poll by several at once.
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        polls.tick().await;
        let Some(now) = marks(&engine).await else { continue };
        for change in seen.poll(now) {
            // In a separate task, so that a slow load does not delay the others.
            tokio::spawn(act(engine.clone(), change));
        }
    }
}

async fn act(engine: EngineHandle, change: FolderChange) {
    match change {
        FolderChange::Load(name) => match engine.load_model(&name).await {
            Ok(()) => {
                tracing::info!(model = %escape::line(&name), "loaded from the repository")
            }
            Err(error) => {
                tracing::warn!(model = %escape::line(&name), "failed to load from the repository: {error}")
            }
        },
        FolderChange::Unload(name) => {
            // Waits for a load of this name that is still running.
            let _lock = engine.loads.lock(&name).await;
            forget_kept(&engine, &name).await;
            // Fails if the model was bad or unloaded by the operator, and so is not served.
            if engine.unload_model(&name).await.is_ok() {
                tracing::info!(model = %name, "removed from the repository; no longer served");
            }
        }
    }
}

/// Removes the copies of a model that is not in the repository any more.
async fn forget_kept(engine: &EngineHandle, name: &str) {
    let (library, name) = (engine.store.clone(), name.to_owned());
    let forget = move || library.kept.map(|kept| kept.retain_versions(&name, &[]));
    let _ = tokio::task::spawn_blocking(forget).await;
}

/// `None` if the folder cannot be read at the moment.
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
    fn new_model_is_loaded_once_it_is_stable() {
        let mut seen = SeenFolder::new(marks(&[("old", 1)]));
        assert_eq!(seen.poll(marks(&[("old", 1), ("new", 1)])), []);
        assert_eq!(seen.poll(marks(&[("old", 1), ("new", 2)])), []);
        assert_eq!(seen.poll(marks(&[("old", 1), ("new", 2)])), [load("new")]);
        assert_eq!(seen.poll(marks(&[("old", 1), ("new", 2)])), []);
        assert_eq!(seen.poll(marks(&[("old", 2), ("new", 2)])), []);
        assert_eq!(seen.poll(marks(&[("old", 2), ("new", 2)])), [load("old")]);
    }

    #[test]
    fn model_missing_in_two_polls_is_unloaded() {
        let mut seen = SeenFolder::new(marks(&[("a", 1)]));
        assert_eq!(seen.poll(marks(&[])), []);
        assert_eq!(seen.poll(marks(&[("a", 1)])), []);
        assert_eq!(seen.poll(marks(&[])), []);
        assert_eq!(seen.poll(marks(&[])), [FolderChange::Unload("a".into())]);
        assert_eq!(seen.poll(marks(&[])), []);
        assert_eq!(seen.poll(marks(&[("a", 1)])), []);
        assert_eq!(seen.poll(marks(&[("a", 1)])), [load("a")]);
    }
}
