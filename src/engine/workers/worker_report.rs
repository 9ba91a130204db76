//! Reports about a worker and its process to the driver.

use crate::workers::launch::Exit;
use schedule::{AdapterId, Incarnation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use wire::{CompleteMessage, FromWorker};

/// A report about a worker.
pub(crate) struct WorkerReport {
    pub(crate) adapter: AdapterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) event: WorkerEvent,
}

/// An event of a worker or its process.
pub(crate) enum WorkerEvent {
    Spawned {
        pid: u32,
    },
    Message(CompleteMessage<FromWorker>),
    /// The process could not be started or did not connect. The cause is in the environment of the
    /// server, since the worker has loaded no driver by then. The process has been reaped.
    NotStarted {
        error: String,
    },
    /// The link is lost, but the process still runs.
    Lost {
        error: String,
    },
    /// The process has exited and been reaped.
    Exited(Exit),
}

impl WorkerEvent {
    /// True for a process that could not start or exited with a failure.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            WorkerEvent::NotStarted { .. } => true,
            WorkerEvent::Exited(exit) => exit.has_failed,
            WorkerEvent::Spawned { .. } | WorkerEvent::Message(_) | WorkerEvent::Lost { .. } => {
                false
            }
        }
    }
}

/// Sends reports about one worker.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) adapter: AdapterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) name: String,
    pub(crate) reports: mpsc::Sender<WorkerReport>,
    /// True once the worker has reported that its adapter is unfit; it then exits with success.
    pub(crate) is_unfit: Arc<AtomicBool>,
}

impl Reporter {
    pub(crate) async fn report(&self, event: WorkerEvent) {
        let Reporter { adapter, incarnation, .. } = *self;
        if matches!(
            &event,
            WorkerEvent::Message(CompleteMessage { message: FromWorker::Unfit { .. }, .. })
        ) {
            self.is_unfit.store(true, Ordering::Relaxed);
        }
        // The send fails only if the driver has ended.
        let _ = self.reports.send(WorkerReport { adapter, incarnation, event }).await;
    }
}
