//! The one task that feeds the scheduler and performs its actions.

use super::discovery::{Listing, list_in_background, listed};
use super::fleet::Fleet;
use super::handle::{Control, EngineHandle, Mode, Submitted};
use super::process::{News, Report, Workshop};
use super::publish::Publisher;
use super::recollections::Recollections;
use super::rejections::rejection;
use super::requests::{Collected, Memory, Requests};
use super::{Catalogue, EngineConfig};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::schedule::{
    Action, AdapterId, Arrival, Batch, BatchId, Event, Failure, ModelId, ModelProfile, Reject,
    RequestId, Scheduler, State, Time, Wish,
};
use crate::tensor::Tensors;
use crate::wire::server::Outgoing;
use crate::wire::{Cause, Down, TensorHeader, Up, tensors_from};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Calls between the API and the driver; the queue proper is the scheduler's.
const CALLS_MAX: usize = 1024;
/// Hang-ups between the API and the driver. One that does not fit costs a needless run.
const CANCELS_MAX: usize = 4096;
const CONTROLS_MAX: usize = 64;
/// How often what was learned is written to disk, if it changed.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// Reports between workers and the driver; a full channel makes the workers wait.
const REPORTS_MAX: usize = 1024;

/// What the driver receives.
pub(super) struct Inboxes {
    reports: mpsc::Receiver<Report>,
    calls: mpsc::Receiver<Submitted>,
    cancels: mpsc::Receiver<RequestId>,
    controls: mpsc::Receiver<Control>,
    pub(super) listing: Option<Listing>,
}

/// What came of a batch, until the scheduler says what to do with it.
enum Outcome {
    Outputs(Tensors),
    Error(Error),
}

/// Owns the scheduler and everything it only knows by number.
pub(super) struct Driver {
    pub(super) scheduler: Scheduler,
    pub(super) catalogue: Catalogue,
    pub(super) fleet: Fleet,
    requests: Requests,
    outcomes: HashMap<BatchId, Outcome>,
    publisher: Publisher,
    memory: Memory,
    pub(super) inboxes: Inboxes,
    pub(super) recollections: Recollections,
    /// When what was learned was last written, and when adapters were last listed.
    pub(super) saved: Instant,
    pub(super) listed: Instant,
    /// Whether the adapters of the machine are known.
    pub(super) known: bool,
    begin: Instant,
    pub(super) closing: bool,
    pub(super) config: EngineConfig,
}

impl Driver {
    pub(super) fn new(config: EngineConfig, catalogue: Catalogue) -> (Driver, EngineHandle) {
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let (calls, submitted) = mpsc::channel(CALLS_MAX);
        let (cancels, cancelled) = mpsc::channel(CANCELS_MAX);
        let (controls, control) = mpsc::channel(CONTROLS_MAX);
        let memory = Memory::new(config.held_bytes_max);
        let (publisher, snapshots) = Publisher::new(&catalogue, &config.assumptions);
        let handle = EngineHandle {
            calls,
            cancels,
            controls,
            snapshots,
            models: Arc::new(catalogue.served.clone()),
            requests: Arc::default(),
            memory: memory.clone(),
        };
        let workshop = Workshop {
            executable: config.executable.clone(),
            cache_dir: config.cache_dir.clone(),
            runtime_dir: config.runtime_dir.clone(),
            cpu_threads: config.cpu_threads,
            heartbeat: config.settings.bounds.silence / 4,
            slow: config.slow.clone(),
        };
        let driver = Driver {
            scheduler: Scheduler::new(config.settings.clone(), profiles(&catalogue, config.slo)),
            fleet: Fleet::new(workshop, report),
            requests: Requests::default(),
            outcomes: HashMap::new(),
            publisher,
            memory,
            inboxes: Inboxes {
                reports,
                calls: submitted,
                cancels: cancelled,
                controls: control,
                listing: Some(list_in_background(&config)),
            },
            recollections: Recollections::read(&config.cache_dir),
            saved: clock::now(),
            listed: clock::now(),
            known: false,
            begin: clock::now(),
            closing: false,
            catalogue,
            config,
        };
        (driver, handle)
    }

    /// Runs until the server was shut down and every worker is gone.
    pub(super) async fn run(mut self) {
        loop {
            if let Some(event) = self.next_event().await {
                self.turn(event);
            }
            let time = self.time();
            if self.publisher.is_due(self.scheduler.is_ready(time)) {
                self.publisher.publish(time, &self.scheduler, &self.fleet, &self.memory);
            }
            if self.saved.elapsed() >= SAVE_EVERY {
                self.save();
            }
            if self.closing && self.scheduler.is_down() {
                self.save();
                return;
            }
        }
    }

    /// One turn: the event in, the actions out.
    pub(super) fn turn(&mut self, event: Event) {
        self.scheduler.handle(self.time(), event);
        while let Some(action) = self.scheduler.poll_action() {
            self.perform(action);
        }
        // A failed batch's error is only of use to the rejections of its own turn.
        self.outcomes.retain(|_, outcome| matches!(outcome, Outcome::Outputs(_)));
        self.publisher.touch();
    }

    fn time(&self) -> Time {
        Time(clock::now().duration_since(self.begin))
    }

    /// Waits for the next thing that concerns the scheduler; `None` if it was something else.
    async fn next_event(&mut self) -> Option<Event> {
        let timeout = self.scheduler.next_timeout().and_then(|at| self.begin.checked_add(at.0));
        let publish = self.publisher.due_at();
        let inboxes = &mut self.inboxes;
        // Reports come first: they free adapters.
        tokio::select! { biased;
            Some(report) = inboxes.reports.recv() => self.hear(report),
            Some(submitted) = inboxes.calls.recv() => self.admit(submitted),
            Some(id) = inboxes.cancels.recv() => self.forget(id),
            Some(control) = inboxes.controls.recv() => self.obey(control),
            entries = listed(&mut inboxes.listing) => {
                self.inboxes.listing = None;
                self.discover(entries)
            }
            () = sleep_until(timeout) => Some(Event::Timeout),
            () = sleep_until(Some(publish)) => None,
        }
    }

    fn admit(&mut self, submitted: Submitted) -> Option<Event> {
        let info = &submitted.call.model;
        let at = self.catalogue.served.iter().position(|served| Arc::ptr_eq(served, info))?;
        let model = ModelId(u32::try_from(at).ok()?);
        let (request, rows) = (submitted.id, u32::try_from(submitted.call.rows).ok()?);
        let (priority, timeout) = (submitted.call.priority, submitted.call.timeout);
        let time = self.time();
        let deadline = timeout.map(|timeout| time + timeout);
        let shape = self.requests.insert(submitted, model, time);
        Some(Event::Arrived(Arrival { request, model, shape, rows, priority, deadline }))
    }

    fn forget(&mut self, request: RequestId) -> Option<Event> {
        self.requests.remove(request).map(|_| Event::Cancelled { request })
    }

    fn obey(&mut self, control: Control) -> Option<Event> {
        match control {
            Control::SetMode { adapter, mode, done } => {
                let found = self.fleet.find(&adapter);
                let _ = done.send(found.as_ref().map(|_| ()).map_err(Error::clone));
                let wish = match mode {
                    Mode::Auto => Wish::Auto,
                    Mode::On => Wish::On,
                    Mode::Off => Wish::Off,
                };
                found.ok().map(|adapter| Event::Wished { adapter, wish })
            }
            Control::Shutdown => {
                self.closing = true;
                Some(Event::Shutdown { deadline: self.time() + self.config.shutdown_grace })
            }
        }
    }

    /// Turns a report into an event, keeping payloads and facts on this side.
    fn hear(&mut self, report: Report) -> Option<Event> {
        let Report { adapter, incarnation, news } = report;
        match news {
            News::Spawned { pid } => {
                self.fleet.spawned(adapter, pid);
                None
            }
            News::Said(whole) => self.said(adapter, incarnation, whole.message, whole.body),
            News::Lost { error } => {
                // The end of a worker that was told to go, or has said why it gives up, is none.
                if self.is_trusted(adapter, incarnation) {
                    self.fleet.fault(adapter, &error);
                }
                let fault = crate::schedule::Fault::Crashed;
                Some(Event::Faulted { adapter, incarnation, fault })
            }
            News::Exited { how } => {
                if self.fleet.member(adapter).is_some_and(|member| member.fault.is_some()) {
                    self.list_again();
                }
                self.fleet.exited(adapter, &how);
                Some(Event::Exited { adapter, incarnation })
            }
        }
    }

    /// Whether the adapter is in this life, and nobody has given it up yet.
    fn is_trusted(&self, adapter: AdapterId, incarnation: crate::schedule::Incarnation) -> bool {
        let current = |(id, view): (AdapterId, crate::schedule::AdapterView<'_>)| {
            let gone = matches!(
                view.state,
                State::Off
                    | State::Stopping { .. }
                    | State::Quarantined { .. }
                    | State::Unreaped { .. }
            );
            id == adapter && view.incarnation == incarnation && !gone
        };
        self.scheduler.adapters().any(current)
    }

    fn said(
        &mut self,
        adapter: AdapterId,
        incarnation: crate::schedule::Incarnation,
        message: Up,
        body: bytes::Bytes,
    ) -> Option<Event> {
        match message {
            Up::Done { batch, tensors, .. } => {
                let batch = BatchId(batch);
                Some(match self.keep(batch, tensors, body) {
                    Ok(()) => Event::Done { adapter, incarnation, batch },
                    Err(error) => {
                        self.fleet.fault(adapter, &error);
                        let fault = crate::schedule::Fault::Protocol;
                        Event::Faulted { adapter, incarnation, fault }
                    }
                })
            }
            Up::Failed { batch, cause, error } => {
                let batch = BatchId(batch);
                let failure = match cause {
                    Cause::Input | Cause::Model => Failure::Input,
                    Cause::Device | Cause::WrongAnswer => Failure::Device,
                };
                if failure == Failure::Device {
                    self.fleet.fault(adapter, &error);
                }
                let kind = match cause {
                    Cause::Input => ErrorKind::Unprocessable,
                    Cause::Model | Cause::Device | Cause::WrongAnswer => ErrorKind::Internal,
                };
                self.outcomes.insert(batch, Outcome::Error(Error::new(kind, error)));
                Some(Event::Failed { adapter, incarnation, batch, failure })
            }
            Up::Pong { .. } => Some(Event::Alive { adapter, incarnation }),
            other => self.fleet.starting(adapter, incarnation, other, &self.catalogue),
        }
    }

    /// Holds a batch's outputs until the scheduler says whose they are.
    fn keep(
        &mut self,
        batch: BatchId,
        headers: Vec<TensorHeader>,
        body: bytes::Bytes,
    ) -> Result<(), String> {
        let outputs = tensors_from(headers, body).map_err(|error| error.to_string())?;
        self.outcomes.insert(batch, Outcome::Outputs(outputs));
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start { adapter, incarnation } => self.fleet.start(adapter, incarnation),
            Action::Load { adapter, model, .. } => {
                if let Some(info) = self.catalogue.get(model) {
                    self.fleet.load(adapter, model, info);
                }
            }
            Action::Unload { adapter, model, .. } => {
                self.fleet.tell(adapter, Down::Unload { model: model.0 });
            }
            Action::Run { adapter, batch, .. } => self.hand_over(adapter, batch),
            Action::Stop { adapter, .. } => self.fleet.tell(adapter, Down::Stop),
            Action::Kill { adapter, .. } => self.fleet.kill(adapter),
            Action::Collect { adapter, batch } => self.collect(adapter, &batch),
            Action::Answer { request } => self.answer(request),
            Action::Discard { batch } => {
                self.outcomes.remove(&batch);
            }
            Action::Reject { request, reason } => self.reject(request, reason),
            Action::Decided(decision) => {
                self.publisher.decided(&decision, &self.fleet, &self.catalogue);
            }
        }
    }

    fn hand_over(&mut self, adapter: AdapterId, batch: Batch) {
        let time = self.time();
        self.requests.start(&batch, time);
        let inputs = match self.requests.gather(&batch) {
            Ok(inputs) => inputs,
            Err(error) => {
                // Every request of a batch is owed an answer when the batch is formed.
                tracing::error!(batch = batch.id.0, "a batch cannot be put together: {error}");
                return;
            }
        };
        let mut body = Vec::new();
        let mut tensors = Vec::with_capacity(inputs.len());
        for input in inputs {
            let bytes = input.parts.iter().map(|part| part.len() as u64).sum();
            let (name, datatype, shape) = (input.name, input.datatype, input.shape);
            tensors.push(TensorHeader { name, datatype, shape, bytes });
            body.extend(input.parts);
        }
        let (id, model, rows) = (batch.id.0, batch.model.0, u64::from(batch.rows()));
        let message = Down::Run { batch: id, model, rows, tensors };
        self.fleet.hand(adapter, Outgoing { message, body });
    }

    /// Shares the outputs of a batch out to its requests.
    fn collect(&mut self, adapter: AdapterId, batch: &Batch) {
        let Some(Outcome::Outputs(outputs)) = self.outcomes.remove(&batch.id) else { return };
        self.fleet.count(adapter, batch);
        // The slices share one buffer: it is held until the last of them is sent.
        let held = Arc::new(self.memory.owe(outputs.bytes()));
        let mut row = 0usize;
        for part in &batch.parts {
            let (from, rows) = (row, part.rows as usize);
            row += rows;
            match outputs.slice_rows(from, rows) {
                Ok(outputs) => {
                    let (adapter, held) = (self.fleet.name(adapter), held.clone());
                    let collected = Collected { first: part.first, outputs, adapter, held };
                    self.requests.collect(part.request, collected);
                }
                Err(error) => self.refuse(part.request, Error::internal(error.to_string())),
            }
        }
    }

    fn answer(&mut self, request: RequestId) {
        let Some(pending) = self.requests.remove(request) else { return };
        let model = pending.model;
        let good = pending.finish(&self.memory, self.time());
        self.publisher.answered(model, good);
    }

    fn reject(&mut self, request: RequestId, reason: Reject) {
        let error = match reason {
            Reject::Input { batch } => match self.outcomes.get(&batch) {
                Some(Outcome::Error(error)) => error.clone(),
                Some(Outcome::Outputs(_)) | None => Error::internal("the model failed"),
            },
            Reject::Deadline => self.too_late(request),
            other => rejection(other),
        };
        self.refuse(request, error);
    }

    fn too_late(&self, request: RequestId) -> Error {
        let timeout = self.requests.timeout(request).unwrap_or_default();
        let message =
            format!("the request's own timeout of {timeout:?} has passed, or cannot be met");
        Error::new(ErrorKind::DeadlineExceeded, message)
    }

    fn refuse(&mut self, request: RequestId, error: Error) {
        if let Some(pending) = self.requests.remove(request) {
            self.publisher.answered(pending.model, false);
            let _ = pending.answer.send(Err(error));
        }
    }
}

fn profiles(catalogue: &Catalogue, slo: Duration) -> BTreeMap<ModelId, ModelProfile> {
    let profile = |(at, info): (usize, &Arc<crate::model::repository::ModelInfo>)| {
        let max_rows = u32::try_from(info.batch.max_rows).unwrap_or(u32::MAX);
        let id = ModelId(u32::try_from(at).unwrap_or(u32::MAX));
        let slo = info.slo.unwrap_or(slo);
        (id, ModelProfile { max_rows, delay: info.batch.delay, slo, bytes: info.files_bytes })
    };
    catalogue.served.iter().enumerate().map(profile).collect()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
