//! Host memory of waiting requests and unsent answers: one bound for all, and room in it for
//! everybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Beyond this share of the bound, in quarters, only those get memory who hold little of it.
const COMMON_QUARTERS: usize = 3;
/// They hold less than one of so many parts.
const LITTLE: usize = 8;

/// The one bound on host memory for queued inputs and unsent answers.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    used: Arc<Mutex<Used>>,
    max: usize,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    /// By those whose requests wait.
    clients: HashMap<u64, usize>,
}

impl Memory {
    pub(super) fn new(max: usize) -> Memory {
        Memory { used: Arc::default(), max }
    }

    /// Takes room for a new request, if there is enough; the last of it is for those who hold
    /// little, so that one client cannot keep the others out.
    pub(super) fn admit(&self, client: u64, bytes: usize) -> Option<Held> {
        let mut used = lock(&self.used);
        let sum = used.bytes.checked_add(bytes).filter(|sum| *sum <= self.max)?;
        let own = used.clients.get(&client).copied().unwrap_or_default() + bytes;
        let common = self.max / 4 * COMMON_QUARTERS;
        if sum > common && own > self.max / LITTLE && used.bytes > 0 {
            return None;
        }
        used.bytes = sum;
        used.clients.insert(client, own);
        Some(Held { used: self.used.clone(), bytes, client: Some(client) })
    }

    /// Counts memory that is owed whatever the bound says: an answer is never refused.
    pub(super) fn owe(&self, bytes: usize) -> Held {
        lock(&self.used).bytes += bytes;
        Held { used: self.used.clone(), bytes, client: None }
    }

    pub(super) fn used(&self) -> usize {
        lock(&self.used).bytes
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }
}

/// No panic leaves it half changed.
fn lock(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counted memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    used: Arc<Mutex<Used>>,
    bytes: usize,
    client: Option<u64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        used.bytes = used.bytes.saturating_sub(self.bytes);
        let Some(client) = self.client else { return };
        if let Some(own) = used.clients.get_mut(&client) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                used.clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_keeps_the_others_out() {
        let memory = Memory::new(800);
        let much: Vec<_> = (0..100).map_while(|_| memory.admit(1, 50)).collect();
        assert_eq!((much.len(), memory.used()), (12, 600));
        let little = memory.admit(2, 100);
        assert!(little.is_some() && memory.admit(2, 1).is_none());
        assert!(memory.admit(3, 101).is_none() && memory.admit(3, 100).is_some());
        drop((much, little));
        assert_eq!(memory.used(), 0);
        assert!(lock(&memory.used).clients.is_empty());
    }

    #[test]
    fn the_bound_holds_for_all_and_one_may_have_it_alone() {
        let memory = Memory::new(800);
        assert!(memory.admit(1, 801).is_none() && memory.admit(1, usize::MAX).is_none());
        let all = memory.admit(1, 800);
        assert!(all.is_some() && memory.admit(2, 1).is_none());
        let owed = memory.owe(10);
        assert_eq!(memory.used(), 810);
        drop((all, owed));
        assert_eq!(memory.used(), 0);
    }
}
