//! The worker process: one adapter, one device, one link to the server. No HTTP, no scheduling.
//!
//! Two threads, and one more while the CPU loads a model (`beside.rs`): the link thread answers pings
//! and ends the process the moment the server is gone, even while a kernel compiles; the compute
//! thread owns the device and does everything slow. An adapter is turned off by the end of this
//! process: it tears nothing down, the system takes driver, memory and power state back.

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

/// Models that may be ordered to be loaded or unloaded beside them; each order is small.
const CONTROL_MAX: usize = 256;

/// Runs a worker until it is told to stop or its server is gone. Reads its order from stdin.
pub fn run(registry: Registry) -> ExitCode {
    match serve(registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("worker ends: {error:#}");
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
    let (receiver, sender) = connect(&spec.server_endpoint).context("cannot reach the server")?;
    // Before it gives up the right to make the file.
    let lock = compute::lock(&spec);
    // Before any thread, driver and file of a model.
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
        .context("cannot start the compute thread")?;
    link(receiver, &sender, &inbox, &cancelled)
}

/// Gives up what a worker has no use for, if it is to; says what is enforced.
fn drop_rights(spec: &WorkerSpec) -> String {
    if !spec.options.confine {
        return "nothing: workers.confine is false".to_owned();
    }
    confine::confine(&[&spec.cache_dir])
}

fn read_spec() -> anyhow::Result<WorkerSpec> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the order from stdin")?;
    serde_json::from_str(&line)
        .context("the order on stdin does not parse; workers are started by `concertina serve`")
}

/// Where messages go that are more than a word: to the compute thread, by way of the one that receives
/// the files of models if this worker may not have those of the server.
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
                tracing::error!("no more files of models are received: {error:#}");
            }
        };
        let thread = std::thread::Builder::new().name("files".into()).spawn(serve);
        thread.context("cannot start the thread for files")?;
        Ok(Inbox { jobs, files: Some(messages) })
    }

    fn put(&self, message: ToWorker, body: Bytes) -> anyhow::Result<()> {
        match &self.files {
            // Waits for the disk at most: the server answers what was asked for.
            Some(files) if !matches!(message, ToWorker::Run { .. }) => {
                files.send((message, body)).context("the thread for files takes no more messages")
            }
            // The server never sends more than fits, and a compute thread that is gone has said why.
            _ => {
                let job = ComputeJob::new(message, body);
                self.jobs.try_send(job).context("the compute thread takes no more work")
            }
        }
    }
}

/// The link thread: pongs at once, hands work on, leaves when told to or left alone.
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
