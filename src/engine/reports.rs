//! Conversion of workers' reports into events for the scheduler.

use crate::core::{BatchOutcome, Core};
use crate::models::file_keeper::FailedLoad;
use crate::models::last_good_files;
use crate::workers::launch::{Exit, OUT_OF_MEMORY};
use crate::workers::memory_watch;
use crate::workers::worker_report::{WorkerEvent, WorkerReport};
use schedule::{AdapterId, AdapterView, BatchId, Event, Failure, Fault, Incarnation, ModelId};
use std::time::Duration;
use telemetry::Compute;
use types::error::{Error, ErrorKind};
use wire::{Cause, FromWorker, TensorHeader, Timings, tensors_from};

/// Converts a report into an event; payloads and details are stored in the driver.
pub(crate) fn handle(core: &mut Core, report: WorkerReport) -> Option<Event> {
    let WorkerReport { adapter, incarnation, event } = report;
    match event {
        WorkerEvent::Spawned { pid } => {
            core.fleet.spawned(adapter, pid);
            None
        }
        WorkerEvent::Message(whole) => {
            handle_message(core, adapter, incarnation, whole.message, whole.body)
        }
        WorkerEvent::Lost { error } => {
            // The end of a worker that was stopped, or has reported why it is unfit, is not a
            // fault.
            if is_current(core, adapter, incarnation) {
                core.fleet.fault(adapter, &error);
            }
            let fault = Fault::Crashed;
            Some(Event::Faulted { adapter, incarnation, fault })
        }
        WorkerEvent::NotStarted { error } => Some(not_started(core, adapter, incarnation, error)),
        WorkerEvent::Exited(exit) => Some(exited(core, adapter, incarnation, exit)),
    }
}

/// True if the adapter is in this incarnation and the scheduler still counts on its worker.
fn is_current(core: &Core, adapter: AdapterId, incarnation: Incarnation) -> bool {
    let current = |(id, view): (AdapterId, AdapterView<'_>)| {
        let works = view.state.has_worker();
        id == adapter && view.incarnation == incarnation && works
    };
    core.scheduler.adapters().any(current)
}

fn handle_message(
    core: &mut Core,
    adapter: AdapterId,
    incarnation: Incarnation,
    message: FromWorker,
    body: bytes::Bytes,
) -> Option<Event> {
    match message {
        FromWorker::Done { batch, tensors, timings } => {
            let batch = BatchId(batch);
            let compute = compute(core, adapter, batch, timings);
            let kept = keep(core, (adapter, batch), (tensors, body), compute);
            Some(match kept {
                Ok(()) => Event::Done { adapter, incarnation, batch },
                Err((fault, error)) => {
                    core.fleet.fault(adapter, &error);
                    Event::Faulted { adapter, incarnation, fault }
                }
            })
        }
        FromWorker::Partial { batch, row, last, tensors } => {
            let batch = (BatchId(batch), row, last);
            let passed = core.partial((adapter, incarnation), batch, (tensors, body));
            passed.err().map(|error| {
                core.fleet.fault(adapter, &error.to_string());
                Event::Faulted { adapter, incarnation, fault: Fault::Protocol }
            })
        }
        FromWorker::Failed { batch, cause, error } => {
            let batch = BatchId(batch);
            let failure = failed(core, adapter, batch, (cause, error));
            Some(Event::Failed { adapter, incarnation, batch, failure })
        }
        FromWorker::Pong { .. } => Some(Event::Heartbeat { adapter, incarnation }),
        message @ (FromWorker::Reading(_) | FromWorker::InUse { .. }) => {
            let changed = matches!(message, FromWorker::InUse { .. });
            core.fleet.update_usage(adapter, incarnation, message);
            if changed {
                memory_watch::report_more(core, adapter);
            }
            None
        }
        FromWorker::LoadFailed { model, rows, cause, error } => last_good_files::load_failed(
            core,
            (adapter, incarnation),
            FailedLoad { model, rows, cause, error },
        ),
        FromWorker::Opened { .. } => {
            core.environment.works();
            core.fleet.advance_start(adapter, incarnation, message, &core.catalogue)
        }
        FromWorker::Loaded { model, .. } => {
            last_good_files::keep_loaded_files(core, adapter, incarnation, ModelId(model));
            core.fleet.advance_start(adapter, incarnation, message, &core.catalogue)
        }
        other => core.fleet.advance_start(adapter, incarnation, other, &core.catalogue),
    }
}

/// Stores the error of a failed batch for the rejections of its requests.
fn failed(
    core: &mut Core,
    adapter: AdapterId,
    batch: BatchId,
    (cause, error): (Cause, String),
) -> Failure {
    let failure = match cause {
        // The scheduler halves the batch until it finds the request that fails alone.
        Cause::Input | Cause::Model | Cause::Rows | Cause::Machine => Failure::Input,
        Cause::Device | Cause::WrongAnswer => Failure::Device,
        Cause::Memory => Failure::Memory,
    };
    if failure != Failure::Input {
        core.fleet.fault(adapter, &error);
    }
    let kind = match cause {
        // The only error that the client can correct (422); all others are 500.
        Cause::Input => ErrorKind::Unprocessable,
        Cause::Model
        | Cause::Device
        | Cause::Memory
        | Cause::Rows
        | Cause::Machine
        | Cause::WrongAnswer => ErrorKind::Internal,
    };
    core.outcomes.insert(batch, BatchOutcome::Error(Error::new(kind, error)));
    failure
}

/// Stores a batch's outputs until the scheduler collects them. If the batch repeats another one,
/// the outputs must be equal.
fn keep(
    core: &mut Core,
    (adapter, batch): (AdapterId, BatchId),
    (headers, body): (Vec<TensorHeader>, bytes::Bytes),
    compute: Compute,
) -> Result<(), (Fault, String)> {
    let outputs = tensors_from(headers, body);
    let outputs = outputs.map_err(|error| (Fault::Protocol, error.to_string()))?;
    core.shadows.check(adapter, batch, &outputs).map_err(|difference| {
        let error = format!("its answer differs from that of another adapter: {difference}");
        (Fault::WrongAnswer, error)
    })?;
    core.outcomes.insert(batch, BatchOutcome::Outputs(outputs, compute));
    Ok(())
}

/// The times of a batch. Time that the worker did not measure is the transfer in both directions.
fn compute(core: &Core, adapter: AdapterId, batch: BatchId, timings: Timings) -> Compute {
    let input = Duration::from_micros(timings.wait_us);
    let infer = Duration::from_micros(timings.run_us);
    let whole = core.fleet.time_since_sent(adapter, batch).unwrap_or_default();
    Compute { input, infer, output: whole.saturating_sub(input).saturating_sub(infer) }
}

/// Handles a start that failed before the worker had loaded a driver.
fn not_started(
    core: &mut Core,
    adapter: AdapterId,
    incarnation: Incarnation,
    error: String,
) -> Event {
    let now = core.time();
    core.fleet.exited(adapter, now, &error);
    core.fleet.fault(adapter, &error);
    let entry = core.fleet.member(adapter).map(|member| member.entry.clone());
    core.environment.not_started(entry, error);
    Event::NotStarted { adapter, incarnation }
}

/// Handles the exit of a worker. If the reason is not known yet, the exit status is shown as the
/// fault.
fn exited(core: &mut Core, adapter: AdapterId, incarnation: Incarnation, exit: Exit) -> Event {
    if let Some(error) = core.fleet.unusable_folder(adapter) {
        return not_started(core, adapter, incarnation, error);
    }
    let is_unexpected = is_current(core, adapter, incarnation);
    let Exit { how, out_of_memory, .. } = exit;
    let loading = core.fleet.member(adapter).and_then(|member| member.loading());
    if is_unexpected {
        let how = if out_of_memory { OUT_OF_MEMORY } else { &how };
        core.fleet.fault(adapter, &format!("process ended: {how}"));
    }
    if core.fleet.member(adapter).is_some_and(|member| member.fault.is_some()) {
        core.listings.request("a worker died");
    }
    let now = core.time();
    core.fleet.exited(adapter, now, &how);
    // The shapes of the warm-up may have caused the exit.
    if let Some(info) = loading.and_then(|model| core.catalogue.get(model)) {
        core.learned_profiles.forget_shapes(&crate::learned_profiles::key(info));
    }
    if !(is_unexpected && out_of_memory) {
        return Event::Exited { adapter, incarnation };
    }
    if let Some(model) = loading {
        core.fleet.killed_loading(model);
    }
    // Not a fault of the adapter: the kernel chose this process because memory ran out.
    Event::OutOfMemory { adapter, incarnation, model: loading }
}
