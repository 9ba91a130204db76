//! Adapters and their workers: identity, state and counters.

mod loads;

use crate::Catalogue;
use crate::calls::rejections::LoadError;
use crate::learned_profiles::{InputShapes, elements};
use crate::workers::assumptions::Assumptions;
use crate::workers::launch::WorkerTemplate;
use crate::workers::process::{Worker, start};
use crate::workers::sent_batches::SentBatches;
use crate::workers::worker_report::WorkerReport;
use adapter::entry::{AdapterEntry, Api, Probe, Usability};
use adapter::sensors::Reading;
use model::files::ModelSource;
use model::info::ModelInfo;
use schedule::{AdapterId, AdapterProfile, Batch, BatchId, Event, Incarnation, ModelId, Time};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use telemetry::{Done, Recent};
use tokio::sync::mpsc;
use types::clock;
use types::error::Error;
use wire::server::Outgoing;
use wire::{Cause, FromWorker, LoadRequest, ToWorker, Unfit};

/// Hint that is appended to the error of a driver that fails before its device is open.
const CONFINED: &str =
    "; if its driver does not work in confined workers, set workers.confine = false";

/// Maximum number of input elements of a warm-up batch with the shapes of a client.
const WARM_UP_ELEMENTS_MAX: usize = 1 << 26;

/// One adapter that may serve.
pub(crate) struct Member {
    pub(crate) entry: AdapterEntry,
    pub(crate) pid: Option<u32>,
    /// The current step of a start or load.
    pub(crate) phase: Option<String>,
    /// The text of the last fault.
    pub(crate) fault: Option<String>,
    pub(crate) requests: u64,
    pub(crate) rows: u64,
    pub(crate) batches: u64,
    pub(crate) starts: u64,
    /// Time from spawning the worker until its first model was ready.
    pub(crate) cold_start: Option<Duration>,
    /// Statistics of the last seconds.
    pub(crate) recent: Recent,
    /// The last reading of the card, and the memory of its tensors, as reported by the worker.
    pub(crate) reading: Option<Reading>,
    pub(crate) in_use: Option<u64>,
    /// Device memory that its worker has reserved for tensors, used or not.
    pub(crate) reserved: Option<u64>,
    /// The enforced restrictions of its worker; known once the device is open.
    pub(crate) confinement: Option<String>,
    worker: Option<Worker>,
    incarnation: Incarnation,
    /// Start time of the worker, until its first model is ready.
    starting: Option<Instant>,
    /// The source of the model in the last load request.
    reads: Option<ModelSource>,
    /// The model that is being loaded.
    loading: Option<ModelId>,
    /// The error of a folder that the worker could not use, which is not a fault of the adapter.
    unusable_folder: Option<String>,
    sent_batches: SentBatches,
    /// Start time of the current process, and the total time of earlier ones.
    on_since: Option<Instant>,
    on_before: Duration,
    /// The exit time of its last process; the start of the server before the first one.
    pub(crate) off_since: Time,
}

/// All adapters of the machine.
pub(crate) struct Fleet {
    /// By `AdapterId`.
    members: Vec<Member>,
    /// Adapters that are listed but not used.
    pub(crate) unused: Vec<AdapterEntry>,
    template: WorkerTemplate,
    reports: mpsc::Sender<WorkerReport>,
    /// Errors of models that could not be loaded.
    load_errors: HashMap<ModelId, LoadError>,
    /// Remarks of workers on models that they loaded.
    notes: HashMap<ModelId, String>,
    /// Models that an adapter has loaded, so that their golden samples are right.
    proven: HashSet<ModelId>,
}

impl Fleet {
    pub(crate) fn new(template: WorkerTemplate, reports: mpsc::Sender<WorkerReport>) -> Fleet {
        Fleet {
            members: Vec::new(),
            unused: Vec::new(),
            template,
            reports,
            load_errors: HashMap::new(),
            notes: HashMap::new(),
            proven: HashSet::new(),
        }
    }

    /// The settings that all workers have in common.
    pub(crate) fn template(&self) -> &WorkerTemplate {
        &self.template
    }

    /// Replaces the settings of workers that are started from now on.
    pub(crate) fn set_template(&mut self, template: WorkerTemplate) {
        self.template = template;
    }

    /// Adapters of the fleet that the listing marks as unused.
    pub(crate) fn excluded(&self, listed: &[AdapterEntry]) -> Vec<AdapterId> {
        let excluded = |member: &Member| {
            let mut entries = listed.iter().filter(|entry| entry.id == member.entry.id);
            entries.any(|entry| entry.state != Usability::Usable)
        };
        let members = self.members().filter(|(_, member)| excluded(member));
        members.map(|(id, _)| id).collect()
    }

    /// Applies a listing and numbers the usable adapters. Known adapters keep their numbers; absent
    /// ones are not returned.
    pub(crate) fn discover(
        &mut self,
        entries: Vec<AdapterEntry>,
        config: &Assumptions,
    ) -> Vec<(AdapterId, AdapterProfile)> {
        self.note_presence(&entries);
        let (usable, unused): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.state == Usability::Usable);
        // An adapter of the fleet is shown only there, with the reason why it is unused.
        let known = |entry: &AdapterEntry| self.members.iter().any(|m| m.entry.id == entry.id);
        self.unused = unused.into_iter().filter(|entry| !known(entry)).collect();
        let mut found = Vec::new();
        for entry in usable {
            let profile = config.profile(&entry);
            let known = self.members.iter().position(|member| member.entry.id == entry.id);
            let at = known.unwrap_or(self.members.len());
            match self.members.get_mut(at) {
                Some(member) => member.entry.adopt(entry),
                None => self.members.push(Member::new(entry)),
            }
            found.push((AdapterId(u32::try_from(at).unwrap_or(u32::MAX)), profile));
        }
        found
    }

    /// Logs and records which adapters of the fleet are lost or available again.
    fn note_presence(&mut self, listed: &[AdapterEntry]) {
        for member in &mut self.members {
            let id = &member.entry.id;
            let reason = match listed.iter().find(|entry| entry.id == *id) {
                Some(entry) if entry.state == Usability::Usable => None,
                Some(entry) => Some(entry.reason.clone().unwrap_or_else(|| "not usable".into())),
                None => Some("it is not in the machine any more".to_owned()),
            };
            match (&member.entry.reason, &reason) {
                (None, Some(reason)) => tracing::warn!("adapter {id} cannot be used: {reason}"),
                (Some(_), None) => tracing::info!("adapter {id} is available again"),
                _ => {}
            }
            member.entry.reason = reason;
        }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (AdapterId, &Member)> {
        (0u32..).map(AdapterId).zip(&self.members)
    }

    /// The number of the adapter that a client named.
    pub(crate) fn find(&self, name: &str) -> Result<AdapterId, Error> {
        if let Some((id, _)) = self.members().find(|(_, member)| member.entry.id == name) {
            return Ok(id);
        }
        if let Some(entry) = self.unused.iter().find(|entry| entry.id == name) {
            let reason = entry.reason.as_deref().unwrap_or("unused");
            return Err(Error::unprocessable(format!("adapter '{name}' is not used: {reason}")));
        }
        let names: Vec<_> = self.members.iter().map(|member| member.entry.id.as_str()).collect();
        Err(Error::not_found(format!("adapter '{name}' not found; used: {}", names.join(", "))))
    }

    /// The id of the adapter in the API.
    pub(crate) fn name(&self, id: AdapterId) -> String {
        self.member(id).map(|member| member.entry.id.clone()).unwrap_or_default()
    }

    pub(crate) fn member(&self, id: AdapterId) -> Option<&Member> {
        self.members.get(id.0 as usize)
    }

    fn member_mut(&mut self, id: AdapterId) -> Option<&mut Member> {
        self.members.get_mut(id.0 as usize)
    }

    /// Spawns the worker of a new incarnation of the adapter.
    pub(crate) fn start(&mut self, id: AdapterId, incarnation: Incarnation) {
        let (template, reports) = (self.template.clone(), self.reports.clone());
        let Some(member) = self.member_mut(id) else { return };
        member.incarnation = incarnation;
        member.starting = Some(clock::now());
        member.fault = None;
        member.starts += 1;
        member.phase = Some("starting the worker".to_owned());
        member.worker = Some(start(&template, &member.entry, (id, incarnation), reports));
    }

    /// Sends the request to load a model and to warm it up with these shapes, if there are any.
    pub(crate) fn load(
        &mut self,
        id: AdapterId,
        model: ModelId,
        (whole, max_rows): (&ModelInfo, u32),
        shapes: Option<&InputShapes>,
    ) {
        if let Some(member) = self.member_mut(id) {
            member.reads = Some(whole.source.clone());
            member.loading = Some(model);
        }
        // Labels and the steps around a graph are not needed by a worker, and the size of a header
        // is limited.
        let mut info = ModelInfo { labels: Vec::new(), pipeline: None, ..whole.clone() };
        info.graph.beside = Vec::new();
        info.batch.max_rows = info.batch.max_rows.min(max_rows as usize);
        let rows = info.batch.first_rows();
        let is_small = |shapes: &&InputShapes| elements(shapes, rows) <= WARM_UP_ELEMENTS_MAX;
        if let Some(shapes) = shapes.filter(is_small) {
            info.signature.warm_up_with(shapes);
        }
        if let Some(worker) = self.member(id).and_then(|member| member.worker.as_ref()) {
            worker.load(whole, LoadRequest { model: model.0, info });
        }
    }

    pub(crate) fn send_control(&self, id: AdapterId, message: ToWorker) {
        if let Some(worker) = self.member(id).and_then(|member| member.worker.as_ref()) {
            worker.send_control(message);
        }
    }

    /// Sends a batch to the worker.
    pub(crate) fn send_batch(&mut self, id: AdapterId, batch: BatchId, outgoing: Outgoing) {
        let Some(member) = self.member_mut(id) else { return };
        member.sent_batches.note(batch);
        if let Some(worker) = &member.worker {
            worker.send_batch(outgoing);
        }
    }

    /// The time since this batch was sent to the worker; `None` for older batches.
    pub(crate) fn time_since_sent(&self, id: AdapterId, batch: BatchId) -> Option<Duration> {
        self.member(id)?.sent_batches.ago(batch)
    }

    pub(crate) fn kill(&self, id: AdapterId) {
        if let Some(worker) = self.member(id).and_then(|member| member.worker.as_ref()) {
            worker.kill();
        }
    }

    pub(crate) fn spawned(&mut self, id: AdapterId, pid: u32) {
        if let Some(member) = self.member_mut(id) {
            member.pid = Some(pid);
            member.on_since = Some(clock::now());
        }
    }

    /// Records the text of a fault for the operator.
    pub(crate) fn fault(&mut self, id: AdapterId, error: &str) {
        let confined = self.template.options.confine;
        if let Some(member) = self.member_mut(id) {
            member.fault = Some(format!("{error}{}", member.hint(confined)));
        }
    }

    /// Takes the error of a folder that a worker could not use.
    pub(crate) fn unusable_folder(&mut self, id: AdapterId) -> Option<String> {
        self.member_mut(id)?.unusable_folder.take()
    }

    /// Removes a worker after the exit of its process.
    pub(crate) fn exited(&mut self, id: AdapterId, now: Time, how: &str) {
        let Some(member) = self.member_mut(id) else { return };
        tracing::debug!(adapter = %member.entry.id, %how, "worker exited");
        // Before `on_since` is cleared, from which `on` is computed.
        member.on_before = member.on();
        member.on_since = None;
        member.off_since = now;
        member.pid = None;
        member.phase = None;
        member.worker = None;
        member.reading = None;
        member.in_use = None;
        member.reserved = None;
        member.confinement = None;
        member.loading = None;
    }

    /// Counts the queue times of requests that are sent now.
    pub(crate) fn queued(&mut self, id: AdapterId, now: Time, waits: Vec<Duration>) {
        let Some(member) = self.member_mut(id) else { return };
        waits.into_iter().for_each(|wait| member.recent.queued(now.0, wait));
    }

    /// Counts a batch that was answered.
    pub(crate) fn count(&mut self, id: AdapterId, now: Time, batch: &Batch) {
        let Some(member) = self.member_mut(id) else { return };
        let run = member.sent_batches.answered(batch.id);
        let (requests, rows) = (batch.parts.len() as u64, u64::from(batch.rows()));
        member.requests += requests;
        member.rows += rows;
        member.batches += 1;
        member.recent.done(now.0, Done { requests, rows, batches: 1, run });
    }

    /// Updates the statistics of the last seconds.
    pub(crate) fn refresh(&mut self, now: Time) {
        self.members.iter_mut().for_each(|member| member.recent.refresh(now.0));
    }

    /// Stores a worker's report about its card or memory.
    pub(crate) fn update_usage(
        &mut self,
        id: AdapterId,
        incarnation: Incarnation,
        message: FromWorker,
    ) {
        let Some(member) = self.member_mut(id).filter(|m| m.incarnation == incarnation) else {
            return;
        };
        match message {
            FromWorker::Reading(reading) => member.reading = Some(reading),
            FromWorker::InUse { memory_bytes, reserved_bytes } => {
                member.in_use = Some(memory_bytes);
                member.reserved = Some(reserved_bytes);
            }
            _ => {}
        }
    }

    /// Advances a start or a load according to a message of the worker.
    pub(crate) fn advance_start(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        message: FromWorker,
        models: &Catalogue,
    ) -> Option<Event> {
        let confined = self.template.options.confine;
        let member = self.member_mut(adapter).filter(|m| m.incarnation == incarnation)?;
        match message {
            FromWorker::Progress { doing } => {
                member.phase = Some(doing);
                Some(Event::Progress { adapter, incarnation })
            }
            FromWorker::Opened { probe, confinement, .. } => {
                tracing::debug!(adapter = %member.entry.id, "opened; confined: {confinement}");
                member.confinement = Some(confinement);
                member.phase = None;
                member.entry.probe = probe.or(member.entry.probe);
                Some(Event::Ready { adapter, incarnation, speed: speed(probe) })
            }
            FromWorker::Unfit { why: Unfit::Environment, error } => {
                // The worker exits now, which is reported to the scheduler.
                member.unusable_folder = Some(error);
                None
            }
            FromWorker::Unfit { why, error } => {
                let hint = if why == Unfit::Device { member.hint(confined) } else { "" };
                tracing::warn!(adapter = %member.entry.id, "adapter cannot serve: {error}{hint}");
                member.fault = Some(error + hint);
                Some(Event::Faulted { adapter, incarnation, fault: loads::unfit(why) })
            }
            FromWorker::Loaded { model, memory_bytes, measured, note, tuning_ms, .. } => {
                member.loaded();
                let model = ModelId(model);
                self.load_errors.remove(&model);
                match note {
                    Some(note) => self.notes.insert(model, note),
                    None => self.notes.remove(&model),
                };
                self.proven.insert(model);
                let micros = |(rows, us): &(u32, u64)| (*rows, Duration::from_micros(*us));
                let measured = measured.iter().map(micros).collect();
                let (bytes, tuning) = (memory_bytes, tuning_ms.map(Duration::from_millis));
                Some(Event::Loaded { adapter, incarnation, model, bytes, measured, tuning })
            }
            FromWorker::LoadFailed { model, rows, cause: cause @ Cause::Memory, error } => {
                let model = ModelId(model);
                tracing::warn!(adapter = %member.entry.id, rows, "failed to load: {error}");
                member.fault = Some(error.clone());
                self.load_errors.insert(model, LoadError { cause, error });
                Some(Event::NoMemory { adapter, incarnation, model, rows })
            }
            FromWorker::LoadFailed { model, cause, error, .. } => {
                Some(self.load_failed(adapter, incarnation, (ModelId(model), cause, error), models))
            }
            FromWorker::Unloaded { .. }
            | FromWorker::Hello { .. }
            | FromWorker::Done { .. }
            | FromWorker::Partial { .. }
            | FromWorker::Failed { .. }
            | FromWorker::Pong { .. }
            | FromWorker::Files(_)
            | FromWorker::Reading(_)
            | FromWorker::InUse { .. } => None,
        }
    }
}

impl Member {
    fn new(entry: AdapterEntry) -> Member {
        Member {
            entry,
            pid: None,
            phase: None,
            fault: None,
            requests: 0,
            rows: 0,
            batches: 0,
            starts: 0,
            cold_start: None,
            recent: Recent::default(),
            reading: None,
            in_use: None,
            reserved: None,
            confinement: None,
            worker: None,
            incarnation: Incarnation(0),
            starting: None,
            reads: None,
            loading: None,
            unusable_folder: None,
            sent_batches: SentBatches::default(),
            on_since: None,
            on_before: Duration::ZERO,
            off_since: Time::default(),
        }
    }

    /// Total time with a worker process.
    pub(crate) fn on(&self) -> Duration {
        let now = self.on_since.map(|since| clock::now().duration_since(since));
        self.on_before.saturating_add(now.unwrap_or_default())
    }

    /// The model that its worker is loading.
    pub(crate) fn loading(&self) -> Option<ModelId> {
        self.loading
    }

    /// A hint at a possible other cause if its worker fails now.
    fn hint(&self, confined: bool) -> &'static str {
        let opening = self.pid.is_some() && self.confinement.is_none();
        let possible = confined && cfg!(target_os = "linux") && self.entry.api != Api::Cpu;
        if opening && possible { CONFINED } else { "" }
    }

    /// Records that a model is ready.
    fn loaded(&mut self) {
        self.phase = None;
        self.loading = None;
        if let Some(begun) = self.starting.take() {
            let took = clock::now().duration_since(begun);
            self.cold_start = Some(took);
            tracing::info!(adapter = %self.entry.id, ?took, "ready");
        }
    }
}

/// Multiply-add rate in million operations per second; it orders adapters of one class.
fn speed(probe: Option<Probe>) -> u64 {
    let gflops = probe.map_or(0.0, |probe| probe.gflops);
    // A probe cannot be negative or this large; the cast saturates either way.
    (gflops * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::AdapterView;

    #[test]
    fn failure_before_the_device_is_open_hints_at_confinement() {
        let mut member = Member::new(AdapterView::example("a", None).entry);
        assert_eq!(member.hint(true), "", "no process has loaded a driver");
        member.pid = Some(1);
        assert_eq!(member.hint(true).is_empty(), cfg!(not(target_os = "linux")));
        assert_eq!(member.hint(false), "");
        member.confinement = Some("files (landlock), system calls (seccomp)".to_owned());
        assert_eq!(member.hint(true), "");
    }
}
