//! One worker process, from its launch to its reaping.

use crate::workers::launch::{Exit, Launched, OUT_OF_MEMORY, WorkerTemplate, launch, supervise};
use crate::workers::link::Link;
use crate::workers::model_files::OfferedFiles;
use crate::workers::stderr::WorkerStderr;
use crate::workers::worker_report::{Reporter, WorkerEvent, WorkerReport};
use adapter::entry::AdapterEntry;
use model::info::ModelInfo;
use schedule::{AdapterId, Incarnation};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::server::Outgoing;
use wire::{BATCHES_MAX, LoadRequest, ToWorker};

/// Capacity of the channel for control messages.
const CONTROL_MAX: usize = 64;
/// Time to read the last messages of a worker after its exit.
const LAST_MESSAGES: Duration = Duration::from_millis(200);
/// Time for a worker to exit after the loss of its link.
const EXIT_AFTER_LINK: Duration = Duration::from_millis(500);

/// The engine's handle to one worker.
pub(crate) struct Worker {
    control: mpsc::Sender<ToWorker>,
    batches: mpsc::Sender<Outgoing>,
    kill: CancellationToken,
    /// `None` for a local worker, which reads the repository.
    files: Option<OfferedFiles>,
}

impl Worker {
    /// Sends the request to load a model, and offers its files to the worker.
    pub(crate) fn load(&self, info: &ModelInfo, request: LoadRequest) {
        if let Some(files) = &self.files {
            files.offer(request.model, info);
        }
        self.send_control(ToWorker::Load(Box::new(request)));
    }

    /// Sends a control message without waiting. If the channel is full the message is dropped: the
    /// link is stuck, and the scheduler's timeouts end the worker. Cancellations leave half of the
    /// capacity to other messages, since cancelled rows also end without them.
    pub(crate) fn send_control(&self, message: ToWorker) {
        let is_optional = matches!(message, ToWorker::Cancel { .. });
        if !is_optional || self.control.capacity() > CONTROL_MAX / 2 {
            let _ = self.control.try_send(message);
        }
    }

    /// Sends a batch. The loss of a link is reported by the link itself.
    pub(crate) fn send_batch(&self, outgoing: Outgoing) {
        let _ = self.batches.try_send(outgoing);
    }

    /// Kills the process.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }
}

/// Starts a worker for this adapter. All results, including errors, are sent as reports.
pub(crate) fn start(
    template: &WorkerTemplate,
    entry: &AdapterEntry,
    (adapter, incarnation): (AdapterId, Incarnation),
    reports: mpsc::Sender<WorkerReport>,
) -> Worker {
    let (control, control_queue) = mpsc::channel(CONTROL_MAX);
    let (batches, batch_queue) = mpsc::channel(BATCHES_MAX);
    let kill = CancellationToken::new();
    let reporter = Reporter {
        adapter,
        incarnation,
        name: entry.id.clone(),
        reports,
        is_unfit: Arc::default(),
    };
    let files = OfferedFiles::default();
    // A local worker requests no files, so that its offers would never be taken.
    let offered = template.link.map(|_| files.clone());
    let worker = Worker { control: control.clone(), batches, kill: kill.clone(), files: offered };
    let (template, entry) = (template.clone(), entry.clone());
    tokio::spawn(async move {
        let launched = launch(&template, &entry, incarnation).await;
        let Launched { mut child, own: _own, listener, token } = match launched {
            Ok(launched) => launched,
            Err(error) => {
                return reporter
                    .report(WorkerEvent::NotStarted { error: format!("{error:#}") })
                    .await;
            }
        };
        let pid = child.id().unwrap_or_default();
        let stderr = child.stderr.take().map(|stderr| WorkerStderr::follow(stderr, &reporter.name));
        reporter.report(WorkerEvent::Spawned { pid }).await;
        let link = Link { listener, token, pid, heartbeat: template.heartbeat, control, files };
        let event = attend(child, link, &kill, &reporter, (control_queue, batch_queue)).await;
        // Before the report, so that the log has the last lines of the driver before the fault.
        if let Some(stderr) = stderr {
            stderr.end(event.is_failure() || reporter.is_unfit.load(Ordering::Relaxed)).await;
        }
        reporter.report(event).await;
    });
    worker
}

/// Follows a process and its link to their end; returns the final event.
async fn attend(
    child: Child,
    connection: Link,
    kill: &CancellationToken,
    reporter: &Reporter,
    (control, batches): (mpsc::Receiver<ToWorker>, mpsc::Receiver<Outgoing>),
) -> WorkerEvent {
    let mut exit = pin!(supervise(child, kill, &reporter.name));
    let opened = tokio::select! {
        opened = connection.open() => opened,
        exit = &mut exit => return not_started("it exited before it connected", &exit),
    };
    let (receiver, sender) = match opened {
        Ok(halves) => halves,
        Err(error) => {
            kill.cancel();
            return not_started(&format!("{error:#}"), &exit.await);
        }
    };
    let serve = connection.serve(reporter.clone(), (receiver, sender), (control, batches));
    let mut link = tokio::spawn(serve);
    let lost = tokio::select! {
        exit = &mut exit => {
            // Waits for messages that the worker sent before its exit.
            let _ = tokio::time::timeout(LAST_MESSAGES, &mut link).await;
            link.abort();
            return WorkerEvent::Exited(exit);
        }
        lost = &mut link => lost.unwrap_or_else(|error| error.to_string()),
    };
    // The exit status is more informative than the loss of the link, which usually occurs just
    // before.
    if let Ok(exit) = tokio::time::timeout(EXIT_AFTER_LINK, &mut exit).await {
        return WorkerEvent::Exited(exit);
    }
    reporter.report(WorkerEvent::Lost { error: lost }).await;
    WorkerEvent::Exited(exit.await)
}

fn not_started(error: &str, exit: &Exit) -> WorkerEvent {
    let how = if exit.out_of_memory { OUT_OF_MEMORY } else { &exit.how };
    WorkerEvent::NotStarted {
        error: format!("the worker process did not connect: {error} ({how})"),
    }
}
