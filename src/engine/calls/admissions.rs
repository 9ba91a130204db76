//! Admitted requests. They are answered even if the server shuts down or the models that they use
//! are unloaded or replaced.

use crate::Catalogue;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, watch};
use types::clock;

/// The admitted requests of all clients. Clones are cheap and share their counts.
#[derive(Clone, Default)]
pub(crate) struct Admissions {
    shared: Arc<AdmissionsShared>,
}

#[derive(Default)]
struct AdmissionsShared {
    state: Mutex<AdmissionsState>,
    /// Woken when one of the counts becomes 0.
    ended: Notify,
}

#[derive(Default)]
struct AdmissionsState {
    /// True once no further request is admitted.
    is_closed: bool,
    /// The number of open requests per generation of the catalogue; a count is never 0.
    open: BTreeMap<u64, usize>,
}

/// An admitted request, from its head to its answer. It keeps the models that were served when it
/// began.
pub struct Admission {
    shared: Arc<AdmissionsShared>,
    models: Arc<Catalogue>,
}

impl Admissions {
    /// Admits a request with the newest catalogue; `None` once admission is closed.
    pub(crate) fn admit(&self, models: &watch::Receiver<Arc<Catalogue>>) -> Option<Admission> {
        let mut state = self.shared.lock();
        if state.is_closed {
            return None;
        }
        // Read under the lock, because the driver removes models only after it has read the counts.
        let models = models.borrow().clone();
        *state.open.entry(models.generation()).or_default() += 1;
        Some(Admission { shared: self.shared.clone(), models })
    }

    /// Ends admission.
    pub(crate) fn close(&self) {
        self.shared.lock().is_closed = true;
    }

    /// The oldest generation of the catalogue that a request uses.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.shared.lock().open.first_key_value().map(|(generation, _)| *generation)
    }

    /// Waits until no request is open, or until `deadline`.
    pub(crate) async fn all_ended(&self, deadline: Instant) {
        loop {
            // `notify_one` keeps a permit: an end between the check and the wait is not missed.
            let ended = self.shared.ended.notified();
            if self.oldest().is_none() || clock::now() >= deadline {
                return;
            }
            tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }
}

impl AdmissionsShared {
    fn lock(&self) -> MutexGuard<'_, AdmissionsState> {
        // A panic cannot leave the counts inconsistent: none occurs between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// The models that are served to this request.
    pub(crate) fn models(&self) -> &Arc<Catalogue> {
        &self.models
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("generation", &self.models.generation()).finish()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let generation = self.models.generation();
        let Some(count) = state.open.get_mut(&generation) else { return };
        *count -= 1;
        if *count == 0 {
            // `oldest` reads the first key, so that no entry without requests may remain.
            state.open.remove(&generation);
            self.shared.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn generations(count: u64) -> Vec<watch::Receiver<Arc<Catalogue>>> {
        let mut catalogue = Catalogue::default();
        (0..count).map(|_| watch::channel(Arc::new(catalogue.next())).1).collect()
    }

    #[test]
    fn request_keeps_its_generation_until_its_end() {
        let (admissions, models) = (Admissions::default(), generations(2));
        let first = admissions.admit(&models[0]).unwrap();
        let second = admissions.admit(&models[1]).unwrap();
        assert_eq!(admissions.oldest(), Some(first.models().generation()));
        drop(first);
        assert_eq!(admissions.oldest(), Some(second.models().generation()));
        drop(second);
        assert_eq!(admissions.oldest(), None);
    }

    #[test]
    fn no_request_is_admitted_after_close() {
        let (admissions, models) = (Admissions::default(), generations(1));
        let open = admissions.admit(&models[0]);
        admissions.clone().close();
        assert!(admissions.admit(&models[0]).is_none());
        assert!(open.is_some() && admissions.oldest().is_some());
    }

    #[tokio::test]
    async fn wait_ends_with_the_last_request_or_at_the_deadline() {
        let (admissions, models) = (Admissions::default(), generations(1));
        let far = clock::now() + Duration::from_secs(3600);
        admissions.all_ended(far).await;
        let open = admissions.admit(&models[0]).unwrap();
        let (waiting, end) = (admissions.clone(), clock::now());
        waiting.all_ended(end).await;
        assert!(admissions.oldest().is_some());
        let waiter = tokio::spawn(async move { waiting.all_ended(far).await });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(open);
        waiter.await.unwrap();
    }
}
