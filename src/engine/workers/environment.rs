//! Faults of the server's own environment: no descriptors, no process, no folder. No adapter is to
//! blame for them, so that none has a fault counted; the server tries again by itself.

use crate::workers::launch::{WorkerTemplate, try_start};
use adapter::entry::AdapterEntry;
use schedule::Event;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use types::clock;

/// Time between a failed start and a trial; doubles with every further failure in a row.
const TRY_FIRST: Duration = Duration::from_secs(1);
const TRY_MAX: Duration = Duration::from_secs(10);
/// Time between two lines of the log about a fault that lasts.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The last fault of the environment, and the trials to start a process since.
#[derive(Default)]
pub(crate) struct Environment {
    /// The fault, as long as it lasts.
    fault: Option<String>,
    /// Failures in a row.
    failures: u32,
    logged: Option<Instant>,
    /// The adapter that the failed start was for.
    adapter: Option<AdapterEntry>,
    pub(crate) try_at: Option<Instant>,
    pub(crate) trial: Option<Trial>,
}

/// A trial that is under way.
pub(crate) type Trial = oneshot::Receiver<Result<(), String>>;

impl Environment {
    /// The fault as operators and clients see it.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(|fault| format!("failed to start workers: {fault}"))
    }

    /// A worker could not be started for an adapter.
    pub(crate) fn not_started(&mut self, adapter: Option<AdapterEntry>, error: String) {
        self.adapter = adapter;
        self.failed(error);
    }

    fn failed(&mut self, error: String) {
        let wait = TRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(TRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.try_at = Some(clock::now() + wait);
        if self.fault.is_none() || self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged = Some(clock::now());
            tracing::error!("failed to start workers: {error}; no adapter is at fault");
        }
        self.fault = Some(error);
    }

    /// A worker is ready.
    pub(crate) fn works(&mut self) {
        self.failures = 0;
    }

    /// Starts a process that ends at once.
    pub(crate) fn try_now(&mut self, template: &WorkerTemplate) {
        self.try_at = None;
        let (done, trial) = oneshot::channel();
        let (template, adapter) = (template.clone(), self.adapter.clone());
        tokio::spawn(async move {
            let tried = try_start(&template, adapter.as_ref()).await;
            let _ = done.send(tried.map_err(|error| format!("{error:#}")));
        });
        self.trial = Some(trial);
    }

    /// Takes in the end of a trial.
    pub(crate) fn tried(&mut self, tried: Result<(), String>) -> Event {
        self.trial = None;
        let works = tried.is_ok();
        match tried {
            Ok(()) => {
                self.fault = None;
                tracing::info!("workers can be started again");
            }
            Err(error) => self.failed(error),
        }
        Event::StartTried { works }
    }
}

/// Waits for the end of a trial; never returns without one.
pub(crate) async fn tried(trial: &mut Option<Trial>) -> Result<(), String> {
    match trial {
        Some(trial) => trial.await.unwrap_or_else(|_| Err("the trial was dropped".to_owned())),
        None => std::future::pending().await,
    }
}
