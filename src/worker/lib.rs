//! The worker process: one adapter, one device, one link to the server. No HTTP, no scheduling.
//!
//! It has two threads, and one more while the CPU loads a model (`background_load.rs`). The link
//! thread answers pings and ends the process as soon as the link closes, even while a kernel
//! compiles. The compute thread owns the device and performs all slow operations. An adapter is
//! turned off by the exit of this process: the system then releases driver, memory and power state.

mod background_load;
pub mod caches;
mod cancelled;
mod compare;
mod compute;
mod confine;
mod faults;
mod guard;
mod load;
mod loaded;
mod model_files;
mod nvml;
mod process;
mod self_checks;
mod slice;
#[cfg(test)]
mod slice_tests;
#[cfg(test)]
mod tests;
pub mod tuning;
mod warm_up;

use self::cancelled::Cancelled;
use self::compute::ComputeJob;
use self::model_files::ModelFiles;
use anyhow::Context;
use bytes::Bytes;
use kinds::Registry;
use std::io::BufRead;
use std::process::ExitCode;
use std::sync::mpsc;
use wire::client::{WorkerReceiver, WorkerSender, connect};
use wire::{BATCHES_MAX, FromWorker, ToWorker, VERSION, WireError, WorkerSpec};

/// Capacity for control messages, such as loads, in addition to batches; each message is small.
const CONTROL_MAX: usize = 256;

/// Runs a worker until it receives `Stop` or its link closes. Reads its spec from stdin.
pub fn run(registry: Registry) -> ExitCode {
    match serve(registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("worker failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(registry: Registry) -> anyhow::Result<()> {
    let spec = read_spec()?;
    process::exit_with_parent(spec.server);
    process::raise_oom_score();
    if let Some(bytes_max) = spec.validation {
        process::limit_resources(bytes_max);
    }
    let (receiver, sender) =
        connect(&spec.server_endpoint).context("failed to connect to the server")?;
    // Before the process drops the right to create the lock file.
    let lock = compute::lock(&spec);
    // Before any thread is started, and any driver or model file is read.
    let confinement = drop_rights(&spec);
    sender.send(FromWorker::Hello { version: VERSION.to_owned(), token: spec.token.clone() })?;
    // All that the server may send fits, so that the link thread never waits for this channel.
    let (jobs, work) = mpsc::sync_channel(BATCHES_MAX + CONTROL_MAX);
    let cancelled = Cancelled::default();
    let inbox = Inbox::new(&spec, &sender, jobs)?;
    let (compute_sender, seen) = (sender.clone(), cancelled.clone());
    nvml::follow(&spec.adapter, sender.clone());
    std::thread::Builder::new()
        .name("compute".into())
        .spawn(move || {
            compute::run((spec, lock, confinement), registry, (work, seen), compute_sender)
        })
        .context("failed to start the compute thread")?;
    link(receiver, &sender, &inbox, &cancelled)
}

/// Drops rights that a worker does not need, if configured; returns a text about the restrictions.
fn drop_rights(spec: &WorkerSpec) -> String {
    if !spec.options.confine {
        return "nothing: workers.confine is false".to_owned();
    }
    confine::confine(&[&spec.cache_dir])
}

fn read_spec() -> anyhow::Result<WorkerSpec> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("failed to read the spec of the worker from stdin")?;
    serde_json::from_str(&line)
        .context("failed to parse the spec of the worker from stdin; workers are started by `concertina serve`")
}

/// Destination of messages that the link thread does not handle itself: the compute thread, or
/// first the thread that receives model files if this worker cannot read those of the server.
struct Inbox {
    jobs: mpsc::SyncSender<ComputeJob>,
    files: Option<mpsc::SyncSender<(ToWorker, Bytes)>>,
}

impl Inbox {
    fn new(
        spec: &WorkerSpec,
        sender: &WorkerSender,
        jobs: mpsc::SyncSender<ComputeJob>,
    ) -> anyhow::Result<Inbox> {
        if !spec.server_endpoint.may_be_elsewhere() {
            return Ok(Inbox { jobs, files: None });
        }
        let files = ModelFiles::new(spec, sender.clone(), jobs.clone());
        let (messages, received) = mpsc::sync_channel(CONTROL_MAX);
        let serve = move || {
            if let Err(error) = files.serve(&received) {
                tracing::error!("the thread for model files ended: {error:#}");
            }
        };
        let thread = std::thread::Builder::new().name("files".into()).spawn(serve);
        thread.context("failed to start the thread for model files")?;
        Ok(Inbox { jobs, files: Some(messages) })
    }

    fn put(&self, message: ToWorker, body: Bytes) -> anyhow::Result<()> {
        match &self.files {
            // Blocks only for the disk: the server sends only the files that were requested.
            Some(files) if !matches!(message, ToWorker::Run { .. }) => files
                .send((message, body))
                .context("the thread for model files ended or its channel is full"),
            // The server never sends more than fits, and the compute thread reports why it ends.
            _ => {
                let job = ComputeJob::new(message, body);
                self.jobs.try_send(job).context("the compute thread ended or its channel is full")
            }
        }
    }
}

/// The link thread: answers pings, forwards other messages, and returns on `Stop` or when the link
/// closes.
fn link(
    mut receiver: WorkerReceiver,
    sender: &WorkerSender,
    inbox: &Inbox,
    cancelled: &Cancelled,
) -> anyhow::Result<()> {
    loop {
        let whole = match receiver.receive() {
            Ok(whole) => whole,
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match whole.message {
            ToWorker::Ping { number } => sender.send(FromWorker::Pong { number })?,
            ToWorker::Stop => return Ok(()),
            ToWorker::Cancel { batch, row } => cancelled.note(batch, row),
            message @ (ToWorker::Load(_)
            | ToWorker::Unload { .. }
            | ToWorker::Files(_)
            | ToWorker::Run { .. }) => {
                inbox.put(message, whole.body)?;
            }
        }
    }
}
