//! The task that feeds the scheduler and performs its actions.

use crate::calls::admissions::Admissions;
use crate::calls::handle::EngineHandle;
use crate::calls::held_memory::Memory;
use crate::calls::messages::{Control, Mode, WhatifInputs};
use crate::calls::next_slices::NextSlices;
use crate::calls::rejections::rejection;
use crate::calls::requests::Requests;
use crate::calls::shadows::Shadows;
use crate::calls::submitted::Submitted;
use crate::core::{Core, Shutdown};
use crate::learned_profiles::LearnedProfiles;
use crate::models::file_keeper::{FileKeeper, LookupResult};
use crate::models::library::Library;
use crate::models::name_locks::NameLocks;
use crate::models::serving::profiles;
use crate::models::validation::Validator;
use crate::models::{changes, last_good_files, serving};
use crate::modes::Modes;
use crate::publish::Publisher;
use crate::statistics::Statistics;
use crate::workers::environment::{Environment, tried};
use crate::workers::fleet::Fleet;
use crate::workers::hotplug::Hotplug;
use crate::workers::launch::WorkerTemplate;
use crate::workers::listings::Listings;
use crate::workers::memory_budget::MemoryBudgets;
use crate::workers::sensors::Sensors;
use crate::workers::worker_report::WorkerReport;
use crate::workers::{discovery, memory_watch};
use crate::{Catalogue, EngineConfig};
use crate::{mode_changes, reports, settings};
use schedule::{AdapterMode, Arrival, ClientId, Event, Reject, RequestId, Role, Scheduler, Time};
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::{Arrivals, History};
use tokio::sync::{Semaphore, mpsc, watch};
use types::clock;
use types::error::Error;

/// Capacity of the channel from the API to the driver. Requests queue in the scheduler, not here.
const CALLS_MAX: usize = 1024;
/// Capacity of the channel for cancellations. One that does not fit costs a needless run.
const CANCELS_MAX: usize = 4096;
const CONTROLS_MAX: usize = 64;
/// Interval at which learned values are written to disk, if they changed.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// Capacity of the channel for reports of workers; a full channel makes the workers wait.
const REPORTS_MAX: usize = 1024;

/// The receiving halves of the driver's channels.
pub(crate) struct Inboxes {
    reports: mpsc::Receiver<WorkerReport>,
    calls: mpsc::Receiver<Submitted>,
    cancels: mpsc::Receiver<RequestId>,
    /// Requests to resume: their readers have space for another time slice.
    resumed: mpsc::Receiver<RequestId>,
    controls: mpsc::Receiver<Control>,
    lookups: mpsc::Receiver<LookupResult>,
    hotplug: Hotplug,
}

/// The driver's task: its state and its channels.
pub(crate) struct Driver {
    core: Core,
    inboxes: Inboxes,
}

impl Driver {
    pub(crate) fn new(
        config: EngineConfig,
        catalogue: Catalogue,
        library: Library,
    ) -> (Driver, EngineHandle) {
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let (calls, submitted) = mpsc::channel(CALLS_MAX);
        let (cancels, cancelled) = mpsc::channel(CANCELS_MAX);
        let (controls, control) = mpsc::channel(CONTROLS_MAX);
        let (slices, resumed) = NextSlices::new();
        let (begin, history) = (clock::now(), History::default());
        let (publisher, snapshots) = Publisher::new(&config.live.assumptions, history.clone());
        let (catalogues, models) = watch::channel(Arc::new(catalogue.clone()));
        let statistics = Statistics::new(&catalogue);
        let (keeper, lookups) = FileKeeper::new(library.clone());
        let handle = EngineHandle {
            calls,
            cancels,
            controls,
            snapshots,
            models,
            requests: Arc::default(),
            configured: Arc::default(),
            admissions: Admissions::default(),
            memory: Memory::new(config.held_bytes_max),
            host_permits: Arc::new(Semaphore::new(host_steps_max())),
            metrics: statistics.metrics.clone(),
            history,
            begin,
            store: library,
            loads: NameLocks::default(),
            validator: Validator::new(&config),
        };
        let core = Core {
            scheduler: Scheduler::new(
                config.live.settings.clone(),
                profiles(&catalogue, config.live.slo),
            ),
            fleet: Fleet::new(WorkerTemplate::of(&config), report),
            requests: Requests::default(),
            slices,
            outcomes: HashMap::new(),
            shadows: Shadows::default(),
            statistics,
            publisher,
            memory: handle.memory.clone(),
            sensors: Sensors::start(),
            memory_budgets: MemoryBudgets::default(),
            learned_profiles: LearnedProfiles::read(&config.cache_dir),
            modes: Modes::read(&config.cache_dir),
            environment: Environment::default(),
            keeper,
            listings: Listings::begin(&config),
            saved: begin,
            arrivals: Arrivals::default(),
            begin,
            admissions: handle.admissions.clone(),
            shutdown: Shutdown::default(),
            catalogue,
            catalogues,
            config,
        };
        let hotplug = Hotplug::listen(core.config.all_uevents);
        let (calls, cancels, controls) = (submitted, cancelled, control);
        let inboxes = Inboxes { reports, calls, cancels, resumed, controls, lookups, hotplug };
        (Driver { core, inboxes }, handle)
    }

    /// Runs until the server has been shut down and every worker has exited.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(event) = self.next_event().await {
                self.core.turn(event);
            }
            serving::remove_left(&mut self.core);
            // The kernel sends no message after a suspend, so that each turn compares two clocks.
            if self.inboxes.hotplug.was_suspended() {
                self.core.listings.request("the machine was suspended");
            }
            memory_watch::watch_memory(&mut self.core);
            let time = self.core.time();
            if self
                .core
                .publisher
                .is_due(!self.core.shutdown.has_begun && self.core.scheduler.is_ready(time))
            {
                self.core.publish();
            }
            if self.core.saved.elapsed() >= SAVE_INTERVAL {
                let _ = discovery::save(&mut self.core);
            }
            if self.core.scheduler.is_closing() && self.core.scheduler.is_down() {
                if let Some(written) = discovery::save(&mut self.core) {
                    // A runtime that shuts down drops tasks that have not begun: without this wait
                    // 4 of 48 restarts under load had lost the last values.
                    let _ = written.await;
                }
                // The final snapshot, for requests of the API that are still open.
                self.core.publish();
                if self.core.shutdown.rejected > 0 {
                    tracing::warn!(
                        "{} requests were rejected during the shutdown",
                        self.core.shutdown.rejected
                    );
                }
                return;
            }
        }
    }

    /// Waits for the next input; `None` if it does not concern the scheduler.
    async fn next_event(&mut self) -> Option<Event> {
        let (core, inboxes) = (&mut self.core, &mut self.inboxes);
        let timeout = core.scheduler.next_timeout().and_then(|at| core.begin.checked_add(at.0));
        let (publish, list_at) = (core.publisher.due_at(), core.listings.due);
        // Reports have precedence because they free adapters.
        tokio::select! { biased;
            Some(report) = inboxes.reports.recv() => reports::handle(core, report),
            Some(submitted) = inboxes.calls.recv() => self.admit(submitted),
            Some(id) = inboxes.cancels.recv() => self.cancel(id),
            Some(id) = inboxes.resumed.recv() => core.resume(id),
            Some(control) = inboxes.controls.recv() => self.handle_control(control),
            Some(lookups) = inboxes.lookups.recv() => last_good_files::use_lookup(core, lookups),
            entries = core.listings.ended() => discovery::discover(core, entries),
            why = inboxes.hotplug.changed() => {
                core.listings.request(&why);
                None
            }
            () = ended(&core.admissions, core.shutdown.deadline) => self.shut_down(),
            tried = tried(&mut core.environment.trial) => Some(core.environment.tried(tried)),
            () = sleep_until(core.environment.try_at) => {
                core.environment.try_now(core.fleet.template());
                None
            }
            () = sleep_until(list_at) => {
                discovery::list_now(core);
                None
            }
            () = sleep_until(timeout) => Some(Event::Timeout),
            () = sleep_until(Some(publish)) => None,
        }
    }

    fn admit(&mut self, submitted: Submitted) -> Option<Event> {
        // Requests of clients have an admission; they are answered within the grace period.
        if self.core.shutdown.has_begun && submitted.call.admission.is_none() {
            submitted.reply.fail(rejection(Reject::ShuttingDown));
            return None;
        }
        let Some(model) = self.core.catalogue.number(&submitted.call.model) else {
            // The model was unloaded while the call was in the channel.
            submitted.reply.fail(rejection(Reject::ModelGone));
            return None;
        };
        let (time, called) = (self.core.time(), submitted.call.model.clone());
        let arrival = self.core.requests.insert(submitted, model, time);
        let Arrival { rows, client, .. } = arrival;
        self.core.arrivals.note(time.0, (rows, client.0), &called.name);
        if let Some(recorder) = &self.core.config.recorder {
            recorder.arrived(time.0, rows, &called.name);
        }
        Some(Event::Arrived(arrival))
    }

    /// The recorded arrivals and the settings of the scheduler.
    fn whatif_inputs(&self) -> WhatifInputs {
        let roles = self.core.scheduler.adapters().map(|(_, adapter)| adapter.profile.role);
        WhatifInputs {
            arrivals: self.core.arrivals.clone(),
            now: self.core.time().0,
            policy: self.core.config.live.settings.policy,
            ahead: self.core.config.live.settings.early_starts,
            min: self.core.config.live.settings.min,
            slo: self.core.config.live.slo,
            cpu: roles.max_by_key(|role| *role != Role::Regular).unwrap_or(Role::Regular),
        }
    }

    /// Shuts the scheduler down once the admitted requests have ended or their time is over.
    fn shut_down(&mut self) -> Option<Event> {
        let deadline = self.core.shutdown.deadline.take()?;
        Some(Event::Shutdown { deadline: Time(deadline.duration_since(self.core.begin)) })
    }

    fn cancel(&mut self, request: RequestId) -> Option<Event> {
        self.core.cancel_slice(request);
        self.core.requests.remove(request).map(|_| Event::Cancelled { request })
    }

    fn handle_control(&mut self, control: Control) -> Option<Event> {
        match control {
            Control::SetMode { adapter, mode, done } => {
                let found = self.core.fleet.find(&adapter);
                let _ = done.send(found.as_ref().map(|_| ()).map_err(Error::clone));
                let adapter_mode = match mode {
                    Mode::Auto => AdapterMode::Auto,
                    Mode::On => AdapterMode::On,
                    Mode::Off => AdapterMode::Off,
                };
                let adapter = found.ok()?;
                mode_changes::keep_mode(&mut self.core, adapter, mode);
                Some(Event::ModeSet { adapter, mode: adapter_mode })
            }
            Control::Announce { model, client, within } => {
                changes::announced(&mut self.core, &model, ClientId(client), within);
                None
            }
            Control::Arrivals { done } => {
                let _ = done.send(self.whatif_inputs());
                None
            }
            Control::Configure(config) => Some(settings::reconfigure(&mut self.core, *config)),
            Control::ModelCommand(command) => {
                changes::perform_command(&mut self.core, command);
                None
            }
            Control::EnsembleResult(result) => {
                changes::count_ensemble(&mut self.core, &result);
                None
            }
            Control::Statistics { models, done } => {
                let statistics =
                    models.iter().filter_map(|info| changes::statistics_of(&self.core, info));
                let _ = done.send(statistics.collect());
                None
            }
            Control::Shutdown => {
                self.core.shutdown.has_begun = true;
                let now = clock::now();
                self.core.shutdown.deadline =
                    Some(now.checked_add(self.core.config.shutdown_grace).unwrap_or(now));
                None
            }
        }
    }
}

/// The number of steps of the host that may run at the same time.
fn host_steps_max() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Waits for the end of the admitted requests or for the deadline; forever without a deadline.
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
