//! The compute thread: opens the device, checks it, loads models, warms them up, runs batches.

use super::background_load::{BackgroundLoad, OwnedTools, POLL_INTERVAL};
use super::caches;
use super::cancelled::Cancelled;
use super::faults::Faults;
use super::guard::{cause, guarded, guarded_model, micros, shortened};
use super::load::{OngoingLoad, in_use, usage};
use super::loaded::{Loaded, Tools};
use super::self_checks::SelfChecks;
use super::slice::Slice;
use adapter::entry::{AdapterEntry, Api, Probe};
use adapter::lock::{AdapterLock, LockError};
use burn::tensor::Device;
use bytes::Bytes;
use device::{check, open, probe};
use kinds::Registry;
use model::ModelError;
use model::transfer::VersionInUse;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use types::clock;
use types::tensor::Tensors;
use wire::client::WorkerSender;
use wire::{
    Cause, FromWorker, LoadRequest, Slow, TensorHeader, TimeSlice, Timings, ToWorker, Unfit,
    WireError, WorkerSpec, tensor_headers, tensors_from,
};

/// Minimum time between two readings of the memory in use while batches run.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A message for the compute thread, with the time of its complete reception.
pub(super) struct ComputeJob {
    message: ToWorker,
    body: Bytes,
    received: Instant,
    /// The received files of the model to load.
    files: Option<VersionInUse>,
}

impl ComputeJob {
    pub(super) fn new(message: ToWorker, body: Bytes) -> ComputeJob {
        ComputeJob { message, body, received: clock::now(), files: None }
    }

    /// Loads a model from received files.
    pub(super) fn load(request: LoadRequest, files: VersionInUse) -> ComputeJob {
        let job = ComputeJob::new(ToWorker::Load(Box::new(request)), Bytes::new());
        ComputeJob { files: Some(files), ..job }
    }
}

/// The fields of `ToWorker::Run`, except the tensors.
struct Work {
    batch: u64,
    model: u32,
    rows: u64,
    slices: Vec<TimeSlice>,
}

/// The reason why an adapter cannot serve.
struct UnfitError {
    why: Unfit,
    error: String,
}

impl UnfitError {
    fn device(error: impl std::fmt::Display) -> UnfitError {
        UnfitError { why: Unfit::Device, error: shortened(&error) }
    }
}

impl From<ModelError> for UnfitError {
    fn from(error: ModelError) -> UnfitError {
        UnfitError::device(error)
    }
}

/// The state of the compute thread.
pub(super) struct ComputeThread {
    device: Device,
    registry: Arc<Registry>,
    sender: WorkerSender,
    slow: Option<Slow>,
    faults: Faults,
    models: BTreeMap<u32, Loaded>,
    /// True if models are loaded in a separate thread; `background` is the current load there.
    pub(super) loads_in_background: bool,
    background: Option<BackgroundLoad>,
    /// Pending loads; the first one is in progress.
    loads: VecDeque<OngoingLoad>,
    /// The last report of memory in use and reserved, and its time.
    reported: (Option<(u64, u64)>, Instant),
    /// True if the memory may have changed since.
    stale: bool,
    pub(super) checks: SelfChecks,
    pub(super) cancelled: Cancelled,
    /// The folder of the adapter's caches.
    pub(super) caches: PathBuf,
}

/// Serves until the link ends. If the adapter is unfit, reports that and returns.
pub(super) fn run(
    (spec, lock, confinement): (WorkerSpec, Locked, String),
    registry: Registry,
    (work, cancelled): (mpsc::Receiver<ComputeJob>, Cancelled),
    sender: WorkerSender,
) {
    let worker = (spec.adapter.id.as_str(), spec.incarnation);
    let mut faults = Faults::new(&spec.faults, worker, sender.clone());
    let opened = guarded(|| {
        let open = || Ok(open_device(&spec, lock, confinement, &sender));
        faults.step(open).unwrap_or_else(|error| Err(error.into()))
    });
    let opened = opened.unwrap_or_else(|panic| Err(UnfitError::device(panic)));
    let (device, lock) = match opened {
        Ok(opened) => opened,
        Err(UnfitError { why, error }) => {
            let _ = sender.send(FromWorker::Unfit { why, error });
            // The server stops this process after it has read the message; if the link is closed,
            // the link thread ends the process.
            return;
        }
    };
    // Held until the process exits.
    let _lock = lock;
    let mut compute = ComputeThread::new(device, registry, sender, spec.slow, faults);
    compute.checks.interval = spec.options.check;
    compute.cancelled = cancelled;
    compute.caches = spec.cache_dir;
    // A device has one queue, and its kernels are compiled by the thread that runs them.
    compute.loads_in_background = spec.adapter.api == Api::Cpu;
    if let Err(error) = compute.serve(&work) {
        tracing::error!("the link failed: {error}");
        std::process::exit(1);
    }
}

/// The lock of the worker's adapter, or the error. The CPU has no lock, since it is always shared.
pub(super) type Locked = Result<Option<AdapterLock>, LockError>;

/// Locks the adapter of a worker.
pub(super) fn lock(spec: &WorkerSpec) -> Locked {
    match spec.adapter.api {
        Api::Cpu => Ok(None),
        _ => AdapterLock::take(&spec.lock_dir, &spec.adapter.id).map(Some),
    }
}

/// Opens, checks and probes the locked adapter.
fn open_device(
    spec: &WorkerSpec,
    lock: Locked,
    confinement: String,
    sender: &WorkerSender,
) -> Result<(Device, Option<AdapterLock>), UnfitError> {
    let begin = clock::now();
    let entry = &spec.adapter;
    caches::set_up(&spec.cache_dir, entry);
    // The lock was taken before the rights were dropped. Its error is reported only here, since
    // the first message must be `Hello`.
    let lock = lock.map_err(unfit_lock)?;
    let (device, probe) = if entry.api == Api::Cpu {
        // The CPU needs no check.
        (Device::flex(), None)
    } else {
        let (device, probe) = open_gpu(entry, sender)?;
        (device, Some(probe))
    };
    let open_ms = millis(begin);
    sender.send(FromWorker::Opened { probe, open_ms, confinement }).map_err(UnfitError::device)?;
    Ok((device, lock))
}

fn unfit_lock(error: LockError) -> UnfitError {
    let why = match error {
        LockError::Held(_) | LockError::Unusable(..) => Unfit::InUse,
        LockError::Io(..) => Unfit::Environment,
    };
    UnfitError { why, error: error.to_string() }
}

fn open_gpu(entry: &AdapterEntry, sender: &WorkerSender) -> Result<(Device, Probe), UnfitError> {
    let report_progress =
        |doing: &str| sender.send(FromWorker::Progress { doing: doing.to_owned() });
    report_progress("opening the device").map_err(UnfitError::device)?;
    let opened = open::open(entry).map_err(UnfitError::device)?;
    report_progress("checking the device").map_err(UnfitError::device)?;
    // Check and probe use wgpu alone, so that burn never uses a device that computes wrongly.
    check::check(&opened.device, &opened.queue).map_err(|error| {
        let why = match error {
            check::CheckError::Wrong { .. } => Unfit::WrongAnswer,
            check::CheckError::Failed { .. } => Unfit::Device,
        };
        UnfitError { why, error: error.to_string() }
    })?;
    let probe = probe::probe(&opened.device, &opened.queue).map_err(UnfitError::device)?;
    let device = open::register(opened).map_err(UnfitError::device)?;
    Ok((device, probe))
}

impl ComputeThread {
    pub(super) fn new(
        device: Device,
        registry: Registry,
        sender: WorkerSender,
        slow: Option<Slow>,
        faults: Faults,
    ) -> ComputeThread {
        let (models, loads) = (BTreeMap::new(), VecDeque::new());
        let (reported, stale) = ((None, clock::now()), false);
        let checks = SelfChecks::default();
        let caches = PathBuf::new();
        ComputeThread {
            device,
            registry: Arc::new(registry),
            sender,
            slow,
            faults,
            models,
            loads_in_background: false,
            background: None,
            loads,
            reported,
            stale,
            checks,
            cancelled: Cancelled::default(),
            caches,
        }
    }

    /// Performs jobs until the link ends. While a model loads, its steps alternate with other jobs,
    /// so that neither waits for all of the other.
    ///
    /// # Errors
    /// If the link failed.
    pub(super) fn serve(&mut self, work: &mpsc::Receiver<ComputeJob>) -> Result<(), WireError> {
        loop {
            self.end_background_load()?;
            if self.loads.is_empty() || self.background.is_some() {
                match work.recv_timeout(self.due_in()) {
                    Ok(job) => self.perform(job)?,
                    Err(RecvTimeoutError::Timeout) if self.stale => self.report_memory()?,
                    Err(RecvTimeoutError::Timeout) if self.passes_self_check() => {}
                    // The check has failed and `Unfit` was sent; the server ends the process.
                    Err(RecvTimeoutError::Timeout) => return Ok(()),
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
                continue;
            }
            match work.try_recv() {
                Ok(job) => self.perform(job)?,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            self.load_step()?;
        }
    }

    /// Time until the next task without a job: a check, a memory report, or the end of a background
    /// load.
    fn due_in(&self) -> Duration {
        let checks = self.checks.due_in();
        let due = if self.stale { REPORT_INTERVAL.min(checks) } else { checks };
        if self.background.is_some() { POLL_INTERVAL.min(due) } else { due }
    }

    /// Runs the golden sample of one model if a check is due. If the result is wrong, reports the
    /// adapter as unfit and returns false.
    fn passes_self_check(&mut self) -> bool {
        let Some(model) = self.checks.next(&self.models) else { return true };
        let ComputeThread { models, faults, checks, .. } = self;
        let Some(loaded) = models.get_mut(&model) else { return true };
        let checked = guarded_model(|| faults.step(|| loaded.check()));
        let Err(error) = checked else {
            checks.batches = 0;
            return true;
        };
        let why = match cause(&error) {
            Cause::WrongAnswer => Unfit::WrongAnswer,
            _ => Unfit::Device,
        };
        let (name, batches) = (&loaded.name, checks.batches);
        let error = format!(
            "self-check of {name} failed: {error}; {batches} batches have run since the last good check"
        );
        // An error means that the link has failed, which the link thread handles.
        let _ = self.sender.send(FromWorker::Unfit { why, error: shortened(&error) });
        false
    }

    fn perform(&mut self, job: ComputeJob) -> Result<(), WireError> {
        match job.message {
            ToWorker::Load(request) => {
                self.loads.push_back(OngoingLoad::new(*request, job.files));
                Ok(())
            }
            ToWorker::Unload { model } => self.unload(model),
            ToWorker::Run { batch, model, rows, slices, tensors } => {
                let wait_us = micros(job.received);
                let work = Work { batch, model, rows, slices };
                self.batch(&work, (tensors, job.body), wait_us)
            }
            ToWorker::Files(_)
            | ToWorker::Cancel { .. }
            | ToWorker::Ping { .. }
            | ToWorker::Stop => Ok(()),
        }
    }

    fn load_step(&mut self) -> Result<(), WireError> {
        let Some(mut loading) = self.loads.pop_front() else { return Ok(()) };
        // Injected faults occur at steps that are counted in one thread.
        if self.loads_in_background && self.faults.are_none() {
            return self.load_in_background(loading);
        }
        let ComputeThread { registry, device, sender, slow, faults, caches, .. } = self;
        let corruption = faults.corruption();
        let tools =
            Tools { registry, device, sender, slow: *slow, corruption: &corruption, caches };
        match guarded_model(|| faults.step(|| loading.step(&tools))) {
            Ok(false) => {
                self.loads.push_front(loading);
                self.report_memory_if_due()
            }
            Ok(true) => self.loaded(loading),
            Err(error) => self.load_failed(loading, &error),
        }
    }

    fn load_in_background(&mut self, loading: OngoingLoad) -> Result<(), WireError> {
        let model = loading.model();
        let tools = OwnedTools {
            registry: self.registry.clone(),
            device: self.device.clone(),
            sender: self.sender.clone(),
            slow: self.slow,
            corruption: self.faults.corruption(),
            caches: self.caches.clone(),
        };
        match BackgroundLoad::begin(loading, tools) {
            Ok(load) => self.background = Some(load),
            Err(error) => return self.send_load_failed((model, 0), &error),
        }
        Ok(())
    }

    /// Takes the result of a background load that has ended.
    fn end_background_load(&mut self) -> Result<(), WireError> {
        let Some(load) = self.background.take_if(|load| load.has_ended()) else { return Ok(()) };
        let model = load.model;
        match load.end() {
            Some((loading, Ok(()))) => self.loaded(loading),
            Some((loading, Err(error))) => self.load_failed(loading, &error),
            None => {
                let error = ModelError::Device("the thread of the load ended".to_owned());
                self.send_load_failed((model, 0), &error)
            }
        }
    }

    fn load_failed(&mut self, loading: OngoingLoad, error: &ModelError) -> Result<(), WireError> {
        let (model, rows) = (loading.model(), loading.rows());
        self.free(loading);
        self.send_load_failed((model, rows), error)
    }

    fn send_load_failed(
        &self,
        (model, rows): (u32, u32),
        error: &ModelError,
    ) -> Result<(), WireError> {
        let (cause, error) = (cause(error), shortened(error));
        self.sender.send(FromWorker::LoadFailed { model, rows, cause, error })
    }

    /// Serves a warm model from now on, in place of an earlier one of its number.
    fn loaded(&mut self, loading: OngoingLoad) -> Result<(), WireError> {
        let model = loading.model();
        let Some((loaded, message)) = loading.finish() else { return Ok(()) };
        if let Some(old) = self.models.insert(model, loaded) {
            self.free(old);
        }
        self.checks.loaded();
        // The memory is reported first; otherwise it would count as memory of other programs.
        self.report_memory()?;
        self.sender.send(message)
    }

    fn unload(&mut self, model: u32) -> Result<(), WireError> {
        let before = self.in_use();
        if let Some(load) = self.background.take_if(|load| load.model == model) {
            load.abort();
        }
        let (aborted, loads) = self.loads.drain(..).partition(|load| load.model() == model);
        self.loads = loads;
        let (aborted, loaded): (VecDeque<OngoingLoad>, _) = (aborted, self.models.remove(&model));
        let reported = loaded.as_ref().map_or(0, |loaded| loaded.memory_bytes);
        self.free((aborted, loaded));
        let fell = before.zip(self.in_use()).map(|(before, after)| before.saturating_sub(after));
        self.sender.send(FromWorker::Unloaded { model, memory_bytes: fell.unwrap_or(reported) })?;
        self.report_memory()
    }

    /// Drops an owner of device memory and returns the memory to the driver.
    fn free<T>(&self, holder: T) {
        let freed = guarded(|| {
            drop(holder);
            // Dropped tensors stay reserved in cubecl's memory pools until this call.
            self.device.memory_cleanup();
        });
        if let Err(panic) = freed {
            tracing::warn!("failed to release device memory: {panic}");
        }
    }

    fn in_use(&self) -> Option<u64> {
        guarded(|| in_use(&self.device)).ok().flatten()
    }

    fn batch(
        &mut self,
        work: &Work,
        (headers, body): (Vec<TensorHeader>, Bytes),
        wait_us: u64,
    ) -> Result<(), WireError> {
        let (begin, batch) = (clock::now(), work.batch);
        let outputs = guarded_model(|| self.forward(work, (headers, body), begin));
        let timings = Timings { wait_us, run_us: micros(begin) };
        self.checks.batches += 1;
        match outputs {
            Ok(outputs) => {
                let tensors = tensor_headers(&outputs);
                self.sender.send_with(FromWorker::Done { batch, tensors, timings }, &outputs)?;
            }
            Err(error) => {
                let (cause, error) = (cause(&error), shortened(&error));
                self.sender.send(FromWorker::Failed { batch, cause, error })?;
            }
        }
        self.report_memory_if_due()
    }

    /// Reports the memory at a limited rate between batches and load steps, since reading it takes
    /// time.
    fn report_memory_if_due(&mut self) -> Result<(), WireError> {
        self.stale = self.reported.1.elapsed() < REPORT_INTERVAL;
        if self.stale { Ok(()) } else { self.report_memory() }
    }

    /// Reports the memory that tensors use and the memory that is reserved for them, if either
    /// changed.
    fn report_memory(&mut self) -> Result<(), WireError> {
        self.stale = false;
        let usage = guarded(|| usage(&self.device)).ok().flatten();
        let (before, _) = std::mem::replace(&mut self.reported, (usage, clock::now()));
        match usage.filter(|_| usage != before) {
            Some((memory_bytes, reserved_bytes)) => {
                self.sender.send(FromWorker::InUse { memory_bytes, reserved_bytes })
            }
            None => Ok(()),
        }
    }

    fn forward(
        &mut self,
        work: &Work,
        (headers, body): (Vec<TensorHeader>, Bytes),
        begin: Instant,
    ) -> Result<Tensors, ModelError> {
        let Work { batch, model, rows, slices } = work;
        let missing = || ModelError::Broken(format!("model {model} is not loaded here"));
        let ComputeThread { models, faults, slow, sender, cancelled, .. } = self;
        let loaded = models.get_mut(model).ok_or_else(missing)?;
        let inputs = tensors_from(headers, body);
        let inputs = inputs.map_err(|error| ModelError::Input(error.to_string()))?;
        // A number that does not fit exceeds `max_rows`, and is rejected as such.
        let rows = usize::try_from(*rows).unwrap_or(usize::MAX);
        if slices.is_empty() {
            return faults.step(|| loaded.run(&inputs, rows, *slow, begin));
        }
        let mut slice = Slice { batch: *batch, sender, cancelled, faults, slow: *slow };
        slice.run(loaded.model.as_mut(), loaded.max_rows, &inputs, slices)?;
        Ok(Tensors::default())
    }
}

fn millis(since: Instant) -> u64 {
    micros(since) / 1000
}
