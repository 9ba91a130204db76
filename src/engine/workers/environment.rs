//! Faults of the server's own environment, such as a lack of descriptors, processes or folders.
//! They are not counted as faults of an adapter; the server retries by itself.

use crate::workers::launch::{WorkerTemplate, try_start};
use adapter::entry::AdapterEntry;
use schedule::Event;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use types::clock;

/// Delay between a failed start and a trial start; doubles with every consecutive failure.
const TRY_FIRST: Duration = Duration::from_secs(1);
const TRY_MAX: Duration = Duration::from_secs(10);
/// Interval of log lines about a lasting fault.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The last fault of the environment, and the trial starts since.
#[derive(Default)]
pub(crate) struct Environment {
    /// The current fault.
    fault: Option<String>,
    /// Number of consecutive failures.
    failures: u32,
    logged: Option<Instant>,
    /// The adapter of the failed start.
    adapter: Option<AdapterEntry>,
    pub(crate) try_at: Option<Instant>,
    pub(crate) trial: Option<Trial>,
}

/// The result of a running trial start.
pub(crate) type Trial = oneshot::Receiver<Result<(), String>>;

impl Environment {
    /// The text of the fault for operators and clients.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(|fault| format!("failed to start workers: {fault}"))
    }

    /// Records that a worker could not be started for an adapter.
    pub(crate) fn not_started(&mut self, adapter: Option<AdapterEntry>, error: String) {
        self.adapter = adapter;
        self.failed(error);
    }

    fn failed(&mut self, error: String) {
        // `min(10)` keeps the shift in range; `TRY_MAX` applies from the fifth failure on.
        let wait = TRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(TRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.try_at = Some(clock::now() + wait);
        if self.fault.is_none() || self.logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(clock::now());
            tracing::error!("failed to start workers because of the server's environment: {error}");
        }
        self.fault = Some(error);
    }

    /// Records that a worker is ready.
    pub(crate) fn works(&mut self) {
        self.failures = 0;
    }

    /// Begins a trial start: a process that exits at once.
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

    /// Handles the end of a trial start.
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

/// Waits for the end of the trial start; never returns if there is none.
pub(crate) async fn tried(trial: &mut Option<Trial>) -> Result<(), String> {
    match trial {
        Some(trial) => {
            trial.await.unwrap_or_else(|_| Err("the trial start was dropped".to_owned()))
        }
        None => std::future::pending().await,
    }
}
