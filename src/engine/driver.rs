//! The one task that feeds the scheduler and performs its actions.

use super::admissions::Admissions;
use super::discovery::{Listing, list_in_background, listed};
use super::environment::{Environment, tried};
use super::fleet::Fleet;
use super::handle::EngineHandle;
use super::hotplug::Hotplug;
use super::kept::{Keeper, Looked};
use super::library::Library;
use super::memory::Memory;
use super::messages::{Asked, Control, InferCall, Mode, Submitted};
use super::models::profiles;
use super::modes::Modes;
use super::process::{Report, Workshop};
use super::publish::{Publisher, Scene};
use super::recollections::{self, Recollections};
use super::rejections::rejection;
use super::requests::Requests;
use super::room::Rooms;
use super::sensors::Sensors;
use super::shadows::Shadows;
use super::statistics::Statistics;
use super::turns::Turns;
use super::validation::Validator;
use super::{Catalogue, EngineConfig};
use crate::clock;
use crate::error::Error;
use crate::schedule::{
    Action, AdapterId, Arrival, Batch, BatchId, ClientId, Event, Reject, RequestId, Role,
    Scheduler, Time, Wish,
};
use crate::telemetry::{Arrivals, Compute, History};
use crate::tensor::Tensors;
use crate::wire::server::Outgoing;
use crate::wire::{Down, TensorHeader};
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};

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
    looked: mpsc::Receiver<Looked>,
    pub(super) listing: Option<Listing>,
    hotplug: Hotplug,
}

/// What came of a batch, until the scheduler says what to do with it.
pub(super) enum Outcome {
    Outputs(Tensors, Compute),
    Error(Error),
}

/// The way down of the server.
#[derive(Default)]
pub(super) struct Shutdown {
    /// True once nothing more is admitted.
    pub(super) has_begun: bool,
    /// Until when admitted requests may end, before the scheduler is told to shut down.
    deadline: Option<Instant>,
    /// Requests that were turned away because the server goes down.
    pub(super) cut: u64,
}

/// Owns the scheduler and everything it only knows by number.
pub(super) struct Driver {
    pub(super) scheduler: Scheduler,
    pub(super) catalogue: Catalogue,
    /// Where clients look models up.
    pub(super) catalogues: watch::Sender<Arc<Catalogue>>,
    pub(super) fleet: Fleet,
    pub(super) requests: Requests,
    pub(super) outcomes: HashMap<BatchId, Outcome>,
    pub(super) shadows: Shadows,
    pub(super) statistics: Statistics,
    pub(super) publisher: Publisher,
    pub(super) memory: Memory,
    pub(super) sensors: Sensors,
    pub(super) rooms: Rooms,
    pub(super) inboxes: Inboxes,
    pub(super) recollections: Recollections,
    pub(super) modes: Modes,
    pub(super) environment: Environment,
    pub(super) keeper: Keeper,
    /// When what was learned was last written, and when adapters were last listed.
    pub(super) saved: Instant,
    arrivals: Arrivals,
    pub(super) listed: Instant,
    /// When adapters are listed again, if they are.
    pub(super) list_at: Option<Instant>,
    /// Whether the adapters of the machine are known.
    pub(super) known: bool,
    /// Adapters that the settings name, as they were last compared with those that are there.
    pub(super) compared: Option<Vec<String>>,
    begin: Instant,
    pub(super) admissions: Admissions,
    pub(super) shutdown: Shutdown,
    pub(super) config: EngineConfig,
}

impl Driver {
    pub(super) fn new(
        config: EngineConfig,
        catalogue: Catalogue,
        library: Library,
    ) -> (Driver, EngineHandle) {
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let (calls, submitted) = mpsc::channel(CALLS_MAX);
        let (cancels, cancelled) = mpsc::channel(CANCELS_MAX);
        let (controls, control) = mpsc::channel(CONTROLS_MAX);
        let (begin, history) = (clock::now(), History::default());
        let (publisher, snapshots) = Publisher::new(&config.assumptions, history.clone());
        let (catalogues, models) = watch::channel(Arc::new(catalogue.clone()));
        let statistics = Statistics::new(&catalogue);
        let (keeper, looked) = Keeper::new(library.clone());
        let handle = EngineHandle {
            calls,
            cancels,
            controls,
            snapshots,
            models,
            requests: Arc::default(),
            admissions: Admissions::default(),
            memory: Memory::new(config.held_bytes_max),
            hands: Arc::new(Semaphore::new(hands())),
            metrics: statistics.metrics.clone(),
            history,
            begin,
            store: library,
            loads: Turns::default(),
            validator: Validator::new(&config),
        };
        let driver = Driver {
            scheduler: Scheduler::new(config.settings.clone(), profiles(&catalogue, config.slo)),
            fleet: Fleet::new(Workshop::of(&config), report),
            requests: Requests::default(),
            outcomes: HashMap::new(),
            shadows: Shadows::default(),
            statistics,
            publisher,
            memory: handle.memory.clone(),
            sensors: Sensors::start(),
            rooms: Rooms::default(),
            inboxes: Inboxes {
                reports,
                calls: submitted,
                cancels: cancelled,
                controls: control,
                looked,
                listing: Some(list_in_background(&config)),
                hotplug: Hotplug::listen(config.all_uevents),
            },
            recollections: Recollections::read(&config.cache_dir),
            modes: Modes::read(&config.cache_dir),
            environment: Environment::default(),
            keeper,
            saved: begin,
            arrivals: Arrivals::default(),
            listed: begin,
            list_at: None,
            known: false,
            compared: None,
            begin,
            admissions: handle.admissions.clone(),
            shutdown: Shutdown::default(),
            catalogue,
            catalogues,
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
            self.remove_left();
            if self.inboxes.hotplug.has_slept() {
                self.list_again("the machine has slept");
            }
            self.look_at_memory();
            let time = self.time();
            if self.publisher.is_due(!self.shutdown.has_begun && self.scheduler.is_ready(time)) {
                self.publish();
            }
            if self.saved.elapsed() >= SAVE_EVERY {
                self.save();
            }
            if self.scheduler.is_closing() && self.scheduler.is_down() {
                self.save();
                // The last word, for whoever looks when all is over.
                self.publish();
                if self.shutdown.cut > 0 {
                    tracing::warn!(
                        "{} requests were turned away on the way down",
                        self.shutdown.cut
                    );
                }
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
        self.outcomes.retain(|_, outcome| matches!(outcome, Outcome::Outputs(..)));
        self.publisher.touch();
    }

    /// Shows what there is now.
    pub(super) fn publish(&mut self) {
        let time = self.time();
        self.fleet.refresh(time);
        self.statistics.refresh(time);
        let scene = Scene {
            scheduler: &self.scheduler,
            closing: self.shutdown.has_begun,
            fleet: &self.fleet,
            catalogue: &self.catalogue,
            statistics: &self.statistics,
            memory: &self.memory,
            environment: &self.environment,
            sensors: &self.sensors,
        };
        self.publisher.publish(time, &scene);
    }

    pub(super) fn time(&self) -> Time {
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
            Some(looked) = inboxes.looked.recv() => self.looked(looked),
            entries = listed(&mut inboxes.listing) => {
                self.inboxes.listing = None;
                self.discover(entries)
            }
            why = inboxes.hotplug.changed() => {
                self.list_again(&why);
                None
            }
            () = ended(&self.admissions, self.shutdown.deadline) => self.shut_down(),
            tried = tried(&mut self.environment.trial) => Some(self.environment.tried(tried)),
            () = sleep_until(self.environment.try_at) => {
                self.environment.try_now(self.fleet.workshop());
                None
            }
            () = sleep_until(self.list_at) => {
                self.list_now();
                None
            }
            () = sleep_until(timeout) => Some(Event::Timeout),
            () = sleep_until(Some(publish)) => None,
        }
    }

    fn admit(&mut self, submitted: Submitted) -> Option<Event> {
        if self.shutdown.has_begun && submitted.call.admission.is_none() {
            let _ = submitted.answer.send(Err(rejection(Reject::ShuttingDown)));
            return None;
        }
        let Some(model) = self.catalogue.number(&submitted.call.model) else {
            // It was unloaded while the call was on its way.
            let _ = submitted.answer.send(Err(rejection(Reject::ModelGone)));
            return None;
        };
        let request = submitted.id;
        // More rows than this have no place in memory.
        let rows = u32::try_from(submitted.call.rows).unwrap_or(u32::MAX);
        let InferCall { priority, timeout, client, .. } = submitted.call;
        let time = self.time();
        let (client, deadline) = (ClientId(client), timeout.map(|timeout| time + timeout));
        self.arrivals.note(time.0, (rows, client.0), &submitted.call.model.name);
        if let Some(recorder) = &self.config.recorder {
            recorder.arrived(time.0, rows, &submitted.call.model.name);
        }
        let shape = self.requests.insert(submitted, model, time);
        Some(Event::Arrived(Arrival { request, model, client, shape, rows, priority, deadline }))
    }

    /// What was asked for, and under which settings.
    fn asked(&self) -> Asked {
        let roles = self.scheduler.adapters().map(|(_, adapter)| adapter.profile.role);
        Asked {
            arrivals: self.arrivals.clone(),
            now: self.time().0,
            policy: self.config.settings.policy,
            ahead: self.config.settings.ahead,
            slo: self.config.slo,
            cpu: roles.max_by_key(|role| *role != Role::Regular).unwrap_or(Role::Regular),
        }
    }

    /// The admitted requests have ended, or their time has.
    fn shut_down(&mut self) -> Option<Event> {
        let deadline = self.shutdown.deadline.take()?;
        Some(Event::Shutdown { deadline: Time(deadline.duration_since(self.begin)) })
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
                let adapter = found.ok()?;
                self.keep_mode(adapter, mode);
                Some(Event::Wished { adapter, wish })
            }
            Control::Announce { model, client, within } => {
                self.announced(&model, ClientId(client), within);
                None
            }
            Control::Arrivals { done } => {
                let _ = done.send(self.asked());
                None
            }
            Control::Configure(config) => Some(self.reconfigure(*config)),
            Control::Order(order) => {
                self.perform_order(order);
                None
            }
            Control::Chained(chained) => {
                self.count_chained(&chained);
                None
            }
            Control::Statistics { models, done } => {
                let statistics = models.iter().filter_map(|info| self.statistics_of(info));
                let _ = done.send(statistics.collect());
                None
            }
            Control::Shutdown => {
                self.shutdown.has_begun = true;
                let now = clock::now();
                self.shutdown.deadline =
                    Some(now.checked_add(self.config.shutdown_grace).unwrap_or(now));
                None
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start { adapter, incarnation } => self.fleet.start(adapter, incarnation),
            Action::Load { adapter, model, max_rows, .. } => {
                self.recollections.enter_shapes(&self.catalogue);
                if let Some(info) = self.catalogue.get(model) {
                    let shapes = self.recollections.shapes(&recollections::key(info));
                    self.fleet.load(adapter, model, (info, max_rows), shapes);
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
                let metrics = &self.statistics.metrics;
                metrics.decided(decision.change.as_str(), decision.reason.as_str());
                self.publisher.decided(&decision, &self.fleet, &self.catalogue);
            }
        }
    }

    fn hand_over(&mut self, adapter: AdapterId, batch: Batch) {
        if let Some(other) = batch.repeats {
            self.expect(adapter, batch.id, other);
        } else {
            let time = self.time();
            let waits = self.requests.start(&batch, time);
            self.fleet.queued(adapter, time, waits);
        }
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
        self.fleet.hand(adapter, batch.id, Outgoing { message, body });
    }
}

/// Steps of the host that run at once.
fn hands() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Waits for the end of the admitted requests, or for the deadline; forever where there is none.
async fn ended(admissions: &Admissions, deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => admissions.all_ended(deadline).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
