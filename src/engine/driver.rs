//! The one task that feeds the scheduler and performs its actions.

use super::fleet::Fleet;
use super::handle::{Control, EngineHandle, InferAnswer, Mode, Submitted};
use super::lister;
use super::process::{News, Report, Workshop};
use super::publish::Publisher;
use super::requests::{Memory, Requests};
use super::{Catalogue, EngineConfig};
use crate::adapter::entry::{AdapterEntry, Usability};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::schedule::{
    Action, AdapterId, Batch, BatchId, Event, Failure, ModelId, ModelProfile, Reject, RequestId,
    Scheduler, State, Time, Wish,
};
use crate::tensor::Tensors;
use crate::wire::server::Outgoing;
use crate::wire::{Cause, Down, TensorHeader, Up, tensors_from};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Calls between the API and the driver; the queue proper is the scheduler's.
const CALLS_MAX: usize = 1024;
/// Hang-ups between the API and the driver. One that does not fit costs a needless run.
const CANCELS_MAX: usize = 4096;
const CONTROLS_MAX: usize = 64;
/// Reports between workers and the driver; a full channel makes the workers wait.
const REPORTS_MAX: usize = 1024;

/// What the driver receives.
struct Inboxes {
    reports: mpsc::Receiver<Report>,
    calls: mpsc::Receiver<Submitted>,
    cancels: mpsc::Receiver<RequestId>,
    controls: mpsc::Receiver<Control>,
    listing: oneshot::Receiver<Vec<AdapterEntry>>,
    listed: bool,
}

/// What came of a batch, until the scheduler says what to do with it.
enum Outcome {
    Outputs(Tensors),
    Error(Error),
}

/// Owns the scheduler and everything it only knows by number.
pub(super) struct Driver {
    scheduler: Scheduler,
    catalogue: Catalogue,
    fleet: Fleet,
    requests: Requests,
    outcomes: HashMap<BatchId, Outcome>,
    publisher: Publisher,
    memory: Memory,
    inboxes: Inboxes,
    begin: Instant,
    shutdown_grace: Duration,
    closing: bool,
}

impl Driver {
    pub(super) fn new(config: EngineConfig, catalogue: Catalogue) -> (Driver, EngineHandle) {
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let (calls, submitted) = mpsc::channel(CALLS_MAX);
        let (cancels, cancelled) = mpsc::channel(CANCELS_MAX);
        let (controls, control) = mpsc::channel(CONTROLS_MAX);
        let memory = Memory::new(config.held_bytes_max);
        let (publisher, snapshots) = Publisher::new(&catalogue);
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
        };
        let driver = Driver {
            scheduler: Scheduler::new(config.settings.clone(), profiles(&catalogue)),
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
                listing: list_in_background(&config),
                listed: false,
            },
            begin: clock::now(),
            shutdown_grace: config.shutdown_grace,
            closing: false,
            catalogue,
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
            if self.closing && self.scheduler.is_down() {
                return;
            }
        }
    }

    /// One turn: the event in, the actions out.
    fn turn(&mut self, event: Event) {
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
            entries = &mut inboxes.listing, if !inboxes.listed => {
                inboxes.listed = true;
                Some(self.discover(entries.unwrap_or_default()))
            }
            () = sleep_until(timeout) => Some(Event::Timeout),
            () = sleep_until(Some(publish)) => None,
        }
    }

    fn discover(&mut self, entries: Vec<AdapterEntry>) -> Event {
        let usable = entries.iter().filter(|entry| entry.state == Usability::Usable).count();
        tracing::info!(found = entries.len(), usable, "adapters listed");
        Event::Discovered { adapters: self.fleet.discover(entries) }
    }

    fn admit(&mut self, submitted: Submitted) -> Option<Event> {
        let info = &submitted.call.model;
        let at = self.catalogue.served.iter().position(|served| Arc::ptr_eq(served, info))?;
        let model = ModelId(u32::try_from(at).ok()?);
        let (request, rows) = (submitted.id, u32::try_from(submitted.call.rows).ok()?);
        let time = self.time();
        let shape = self.requests.insert(submitted, model, time);
        Some(Event::Arrived { request, model, shape, rows })
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
                Some(Event::Shutdown { deadline: self.time() + self.shutdown_grace })
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
            Action::Start { adapter, incarnation } => {
                self.fleet.start(adapter, incarnation, &self.catalogue);
            }
            Action::Run { adapter, batch, .. } => self.hand_over(adapter, batch),
            Action::Stop { adapter, .. } => self.fleet.tell(adapter, Down::Stop),
            Action::Kill { adapter, .. } => self.fleet.kill(adapter),
            Action::Answer { adapter, batch } => self.answer(adapter, &batch),
            Action::Discard { batch } => {
                self.outcomes.remove(&batch);
            }
            Action::Reject { request, reason } => self.reject(request, reason),
            Action::Decided(decision) => self.publisher.decided(&decision, &self.fleet),
        }
    }

    fn hand_over(&mut self, adapter: AdapterId, batch: Batch) {
        let time = self.time();
        self.requests.start(&batch, time);
        // Every request of a batch is owed an answer when the batch is formed.
        let Some(inputs) = self.requests.gather(&batch) else {
            tracing::error!(batch = batch.id.0, "a request of a new batch is gone");
            return;
        };
        let mut body = Vec::new();
        let mut tensors = Vec::with_capacity(inputs.len());
        for input in inputs {
            let bytes = input.parts.iter().map(|part| part.len() as u64).sum();
            let (name, datatype, shape) = (input.name, input.datatype, input.shape);
            tensors.push(TensorHeader { name, datatype, shape, bytes });
            body.extend(input.parts);
        }
        let (id, model, rows) = (batch.id.0, batch.model.0, batch.rows());
        let message = Down::Run { batch: id, model, rows, tensors };
        self.fleet.hand(adapter, Outgoing { message, body });
    }

    fn answer(&mut self, adapter: AdapterId, batch: &Batch) {
        let Some(Outcome::Outputs(outputs)) = self.outcomes.remove(&batch.id) else { return };
        self.fleet.count(adapter, batch);
        let time = self.time();
        // The answers share one buffer: it is held until the last of them is sent.
        let held = Arc::new(self.memory.owe(outputs.bytes()));
        let mut row = 0usize;
        for (id, rows) in &batch.requests {
            let (from, rows) = (row, *rows as usize);
            row += rows;
            let Some(pending) = self.requests.remove(*id) else { continue };
            let outputs = outputs.slice_rows(from, rows);
            let answer = outputs.map_err(|error| Error::internal(error.to_string()));
            let answer = answer.map(|outputs| InferAnswer {
                _held: held.clone(),
                outputs,
                adapters: vec![self.fleet.name(adapter)],
                queue_time: pending.started.since(pending.arrived),
                run_time: time.since(pending.started),
            });
            self.publisher.answered(pending.model, answer.is_ok());
            let _ = pending.answer.send(answer);
        }
    }

    fn reject(&mut self, request: RequestId, reason: Reject) {
        let error = match reason {
            Reject::Input { batch } => match self.outcomes.get(&batch) {
                Some(Outcome::Error(error)) => error.clone(),
                Some(Outcome::Outputs(_)) | None => Error::internal("the model failed"),
            },
            other => rejection(other),
        };
        if let Some(pending) = self.requests.remove(request) {
            self.publisher.answered(pending.model, false);
            let _ = pending.answer.send(Err(error));
        }
    }
}

fn rejection(reason: Reject) -> Error {
    let soon = Duration::from_secs(1);
    match reason {
        Reject::QueueFull => {
            Error::new(ErrorKind::QueueFull, "the queue is full").retry_after(soon)
        }
        Reject::NoAdapter { retry_after } => {
            let error = Error::unavailable("no adapter can serve now; GET /api/adapters tells why");
            match retry_after {
                Some(after) => error.retry_after(after.max(soon)),
                None => error,
            }
        }
        Reject::ModelFailed => Error::unavailable(
            "no adapter could load the model; the server's log and GET /api/snapshot tell why",
        ),
        Reject::ModelGone => Error::not_found("the model is no longer served"),
        Reject::RetriesExhausted { fault } => Error::internal(format!(
            "every adapter that tried this request was lost; the last one: {}",
            fault.as_str()
        )),
        Reject::ShuttingDown => Error::unavailable("the server is going down"),
        Reject::Input { .. } => Error::internal("the model failed"),
    }
}

fn profiles(catalogue: &Catalogue) -> BTreeMap<ModelId, ModelProfile> {
    let profile = |(at, info): (usize, &Arc<crate::model::repository::ModelInfo>)| {
        let max_rows = u32::try_from(info.batch.max_rows).unwrap_or(u32::MAX);
        let id = ModelId(u32::try_from(at).unwrap_or(u32::MAX));
        (id, ModelProfile { max_rows, delay: info.batch.delay })
    };
    catalogue.served.iter().enumerate().map(profile).collect()
}

/// Lists adapters beside everything else: requests may arrive meanwhile, and wait.
fn list_in_background(config: &EngineConfig) -> oneshot::Receiver<Vec<AdapterEntry>> {
    let (listed, listing) = oneshot::channel();
    let (executable, args) = (config.executable.clone(), config.lister_args.clone());
    let otherwise = config.entries_without_listing.clone();
    tokio::spawn(async move {
        let entries = lister::list(&executable, &args).await.unwrap_or_else(|error| {
            tracing::warn!("adapters could not be listed, only the CPU is used: {error:#}");
            otherwise
        });
        let _ = listed.send(entries);
    });
    listing
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
