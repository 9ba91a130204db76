//! The compute thread: opens the device, checks it, loads models, warms them up, runs batches.

use super::caches;
use super::lock::{AdapterLock, LockError};
use crate::adapter::entry::{AdapterEntry, Api, Probe};
use crate::adapter::{check, open, probe};
use crate::clock;
use crate::model::{
    LoadContext, Model, ModelError, Registry, buckets, golden, run_batch, warm_up_inputs,
};
use crate::tensor::Tensors;
use crate::wire::client::Sender;
use crate::wire::{
    Cause, Down, LoadOrder, Order, TensorHeader, Timings, Unfit, Up, WireError, tensor_headers,
    tensors_from,
};
use burn::tensor::Device;
use bytes::Bytes;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Instant;

/// A message for the compute thread, and when it was whole.
pub(super) struct Job {
    message: Down,
    body: Bytes,
    received: Instant,
}

impl Job {
    pub(super) fn new(message: Down, body: Bytes) -> Job {
        Job { message, body, received: clock::now() }
    }
}

/// Why a worker gives its adapter up.
struct Refusal {
    why: Unfit,
    error: String,
}

impl Refusal {
    fn device(error: impl std::fmt::Display) -> Refusal {
        Refusal { why: Unfit::Device, error: shortened(&error) }
    }
}

/// A loaded model with the limit that it was warmed up for.
struct Loaded {
    model: Box<dyn Model>,
    max_rows: usize,
}

/// What the compute thread owns.
struct Compute {
    device: Device,
    registry: Registry,
    models: BTreeMap<u32, Loaded>,
    sender: Sender,
    _lock: Option<AdapterLock>,
}

/// Serves until the link ends; ends the process when the adapter proves unfit.
pub(super) fn run(order: Order, registry: Registry, work: mpsc::Receiver<Job>, sender: Sender) {
    let opened = guarded(|| open_device(&order, &sender));
    let opened = opened.unwrap_or_else(|panic| Err(Refusal::device(panic)));
    let (device, lock) = match opened {
        Ok(opened) => opened,
        Err(Refusal { why, error }) => {
            let _ = sender.send(Up::Unfit { why, error });
            // The server reads it, then lets us go; if it is gone the link thread ends us.
            return;
        }
    };
    let models = BTreeMap::new();
    let mut compute = Compute { device, registry, models, sender, _lock: lock };
    while let Ok(job) = work.recv() {
        if let Err(error) = compute.perform(job) {
            tracing::error!("the link broke: {error}");
            std::process::exit(1);
        }
    }
}

/// Locks, opens, checks and probes the adapter.
fn open_device(order: &Order, sender: &Sender) -> Result<(Device, Option<AdapterLock>), Refusal> {
    let begin = clock::now();
    let entry = &order.adapter;
    caches::set_up(&order.cache_dir, entry);
    let (device, lock, probe) = if entry.api == Api::Cpu {
        // The CPU is shared by nature: no lock, and nothing to check that a panic would not tell.
        (Device::flex(), None, None)
    } else {
        let lock = AdapterLock::take(&order.lock_dir, &entry.id).map_err(lock_refusal)?;
        let (device, probe) = open_gpu(entry, sender)?;
        (device, Some(lock), Some(probe))
    };
    let open_ms = millis(begin);
    sender.send(Up::Opened { probe, open_ms }).map_err(Refusal::device)?;
    Ok((device, lock))
}

fn lock_refusal(error: LockError) -> Refusal {
    let why = match error {
        LockError::Held(_) => Unfit::InUse,
        LockError::Io(..) => Unfit::Device,
    };
    Refusal { why, error: error.to_string() }
}

fn open_gpu(entry: &AdapterEntry, sender: &Sender) -> Result<(Device, Probe), Refusal> {
    let say = |doing: &str| sender.send(Up::Progress { doing: doing.to_owned() });
    say("opening the device").map_err(Refusal::device)?;
    let opened = open::open(entry).map_err(Refusal::device)?;
    say("checking the device").map_err(Refusal::device)?;
    check::check(&opened.device, &opened.queue).map_err(|error| {
        let why = match error {
            check::CheckError::Wrong { .. } => Unfit::WrongAnswer,
            check::CheckError::Failed { .. } => Unfit::Device,
        };
        Refusal { why, error: error.to_string() }
    })?;
    let probe = probe::probe(&opened.device, &opened.queue).map_err(Refusal::device)?;
    let device = open::register(opened).map_err(Refusal::device)?;
    Ok((device, probe))
}

impl Compute {
    fn perform(&mut self, job: Job) -> Result<(), WireError> {
        match job.message {
            Down::Load(order) => self.load(order),
            Down::Run { batch, model, rows, tensors } => {
                let wait_us = micros(job.received);
                self.batch(batch, model, rows, (tensors, job.body), wait_us)
            }
            Down::Ping { .. } | Down::Stop => Ok(()),
        }
    }

    fn load(&mut self, order: LoadOrder) -> Result<(), WireError> {
        let begin = clock::now();
        let (model, name) = (order.model, order.info.name.clone());
        self.sender.send(Up::Progress { doing: format!("loading {name}") })?;
        let loaded = guarded(|| load_model(&self.registry, &order, &self.device));
        let mut loaded = match flatten(loaded) {
            Ok(loaded) => loaded,
            Err(error) => return self.load_failed(model, &error),
        };
        let load_ms = millis(begin);
        let begin = clock::now();
        let warm = guarded(|| warm_up(&mut loaded, &order, &self.sender));
        match flatten(warm) {
            Ok(()) => {}
            Err(error) => return self.load_failed(model, &error),
        }
        self.models.insert(model, loaded);
        self.sender.send(Up::Loaded { model, load_ms, warm_up_ms: millis(begin) })
    }

    fn load_failed(&self, model: u32, error: &ModelError) -> Result<(), WireError> {
        let (cause, error) = (cause(error), shortened(error));
        self.sender.send(Up::LoadFailed { model, cause, error })
    }

    fn batch(
        &mut self,
        batch: u64,
        model: u32,
        rows: u64,
        (headers, body): (Vec<TensorHeader>, Bytes),
        wait_us: u64,
    ) -> Result<(), WireError> {
        let begin = clock::now();
        let outputs = flatten(guarded(|| self.forward(model, rows, headers, body)));
        let timings = Timings { wait_us, run_us: micros(begin) };
        match outputs {
            Ok(outputs) => {
                let tensors = tensor_headers(&outputs);
                self.sender.send_with(Up::Done { batch, tensors, timings }, &outputs)
            }
            Err(error) => {
                let (cause, error) = (cause(&error), shortened(&error));
                self.sender.send(Up::Failed { batch, cause, error })
            }
        }
    }

    fn forward(
        &mut self,
        model: u32,
        rows: u64,
        headers: Vec<TensorHeader>,
        body: Bytes,
    ) -> Result<Tensors, ModelError> {
        let missing = || ModelError::Broken(format!("model {model} is not loaded here"));
        let loaded = self.models.get_mut(&model).ok_or_else(missing)?;
        let inputs = tensors_from(headers, body);
        let inputs = inputs.map_err(|error| ModelError::Input(error.to_string()))?;
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        run_batch(loaded.model.as_mut(), loaded.max_rows, &inputs, rows)
    }
}

fn load_model(
    registry: &Registry,
    order: &LoadOrder,
    device: &Device,
) -> Result<Loaded, ModelError> {
    let info = &order.info;
    let files = info.files()?;
    let mut model = registry.load(&LoadContext { info, files: &files, device })?;
    golden::check(&files, info, model.as_mut())?;
    Ok(Loaded { model, max_rows: info.batch.max_rows })
}

/// Runs every bucket of every datatype once, so that no client waits for a compiler.
fn warm_up(loaded: &mut Loaded, order: &LoadOrder, sender: &Sender) -> Result<(), ModelError> {
    let sizes = buckets(loaded.max_rows);
    for (at, rows) in sizes.iter().enumerate() {
        let doing = format!("warming up {} ({} of {})", order.info.name, at + 1, sizes.len());
        let told = sender.send(Up::Progress { doing });
        told.map_err(|error| ModelError::Device(error.to_string()))?;
        for inputs in warm_up_inputs(loaded.model.signature(), *rows) {
            run_batch(loaded.model.as_mut(), loaded.max_rows, &inputs, *rows)?;
        }
    }
    Ok(())
}

fn cause(error: &ModelError) -> Cause {
    match error {
        ModelError::Input(_) => Cause::Input,
        ModelError::Broken(_) => Cause::Model,
        ModelError::Device(_) => Cause::Device,
        ModelError::Golden(_) => Cause::WrongAnswer,
    }
}

/// Runs what may panic inside burn or a driver; a panic is the device's fault.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_message(panic.as_ref()))
}

/// A message header has a bound; what a compiler or a driver has to say does not.
fn shortened(error: &impl std::fmt::Display) -> String {
    const CHARS_MAX: usize = 4096;
    error.to_string().chars().take(CHARS_MAX).collect()
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "no message".to_owned()))
}

fn flatten<T>(guarded: Result<Result<T, ModelError>, String>) -> Result<T, ModelError> {
    guarded.unwrap_or_else(|panic| Err(ModelError::Device(panic)))
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn millis(since: Instant) -> u64 {
    micros(since) / 1000
}
