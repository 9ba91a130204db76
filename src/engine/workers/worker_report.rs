//! What a worker and its process report to the driver.

use crate::workers::launch::Exit;
use schedule::{AdapterId, Incarnation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use wire::{CompleteMessage, FromWorker};

/// What a worker, or its process, let us know.
pub(crate) struct WorkerReport {
    pub(crate) adapter: AdapterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) event: WorkerEvent,
}

/// What is reported.
pub(crate) enum WorkerEvent {
    Spawned {
        pid: u32,
    },
    Message(CompleteMessage<FromWorker>),
    /// The process could not be started, or did not connect: the cause lies in the environment of
    /// the server, as the worker has loaded no driver by then. It is gone and reaped.
    NotStarted {
        error: String,
    },
    /// The link is lost, and the process is still there.
    Lost {
        error: String,
    },
    /// The process is gone and reaped.
    Exited(Exit),
}

impl WorkerEvent {
    /// `true` for the end of a process that did not succeed.
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

/// Reports of one worker.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) adapter: AdapterId,
    pub(crate) incarnation: Incarnation,
    pub(crate) name: String,
    pub(crate) reports: mpsc::Sender<WorkerReport>,
    /// True once the worker has reported that its adapter is unfit: it then ends without an error.
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
        // Without a driver nobody is interested any more.
        let _ = self.reports.send(WorkerReport { adapter, incarnation, event }).await;
    }
}
