//! Turns by name: of two loads of one model the later counts, and models do not wait for others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

/// A queue for each name that somebody has, or waits for. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct NameQueues {
    queues: Arc<Mutex<BTreeMap<String, Arc<Queue<()>>>>>,
}

/// The turn of one name, until it is dropped.
pub(crate) struct Turn {
    turns: NameQueues,
    name: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl NameQueues {
    /// Waits for the turn of a name; turns come in the order of the calls.
    pub(crate) async fn take(&self, name: &str) -> Turn {
        let queue = self.lock().entry(name.to_owned()).or_default().clone();
        let mut turn = Turn { turns: self.clone(), name: name.to_owned(), held: None };
        turn.held = Some(queue.lock_owned().await);
        turn
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Queue<()>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut queues = self.turns.lock();
        // Nobody else can get at the queue while the map is locked.
        if queues.get(&self.name).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_waits_for_itself_only_and_is_forgotten() {
        let turns = NameQueues::default();
        let first = turns.take("a").await;
        let other = turns.take("b").await;
        let waiter = turns.clone();
        let second = tokio::spawn(async move { drop(waiter.take("a").await) });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
        drop(other);
        assert!(turns.lock().is_empty());
    }
}
