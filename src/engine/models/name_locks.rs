//! Locks by model name: loads of one model run one after the other, those of different models at
//! the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

/// A queue for each name that is locked or waited for. Clones are cheap and share the queues.
#[derive(Clone, Default)]
pub(crate) struct NameLocks {
    queues: Arc<Mutex<BTreeMap<String, Arc<Queue<()>>>>>,
}

/// The lock of one name, held until dropped.
pub(crate) struct NameLock {
    locks: NameLocks,
    name: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl NameLocks {
    /// Waits for the lock of a name. Locks are granted in the order of the calls.
    pub(crate) async fn lock(&self, name: &str) -> NameLock {
        let queue = self.all().entry(name.to_owned()).or_default().clone();
        let mut lock = NameLock { locks: self.clone(), name: name.to_owned(), held: None };
        lock.held = Some(queue.lock_owned().await);
        lock
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Queue<()>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // Released first, since the guard is one of the counted references.
        self.held = None;
        let mut queues = self.locks.all();
        // No other task can get the queue while the map is locked.
        if queues.get(&self.name).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lock_excludes_only_the_same_name_and_is_removed_at_the_end() {
        let locks = NameLocks::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").await;
        let waiter = locks.clone();
        let second = tokio::spawn(async move { drop(waiter.lock("a").await) });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap();
        drop(other);
        assert!(locks.all().is_empty());
    }
}
