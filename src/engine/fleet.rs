//! Every adapter with its worker: who they are, what they are doing, what they have done.

use super::Catalogue;
use super::process::{Report, Worker, Workshop, start};
use crate::adapter::entry::{AdapterEntry, Class, Probe, Usability};
use crate::clock;
use crate::error::Error;
use crate::model::repository::ModelInfo;
use crate::schedule::{AdapterId, AdapterProfile, Batch, Event, Fault, Incarnation, ModelId};
use crate::wire::server::Outgoing;
use crate::wire::{Cause, Down, LoadOrder, Unfit, Up};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// One adapter that may serve.
pub(super) struct Member {
    pub(super) entry: AdapterEntry,
    pub(super) pid: Option<u32>,
    /// What the worker is doing while it starts.
    pub(super) phase: Option<String>,
    /// The last fault in words.
    pub(super) fault: Option<String>,
    pub(super) requests: u64,
    pub(super) rows: u64,
    pub(super) batches: u64,
    pub(super) starts: u64,
    pub(super) cold_start: Option<Duration>,
    worker: Option<Worker>,
    start: Start,
}

/// How far a start has come.
struct Start {
    incarnation: Incarnation,
    begun: Instant,
    speed: u64,
    /// Models still to load, in order.
    waiting: Vec<ModelId>,
    loaded: Vec<ModelId>,
    failed: Vec<ModelId>,
}

impl Start {
    fn begin(incarnation: Incarnation, waiting: Vec<ModelId>) -> Start {
        let (loaded, failed) = (Vec::new(), Vec::new());
        Start { incarnation, begun: clock::now(), speed: 0, waiting, loaded, failed }
    }
}

/// All adapters of the machine.
pub(super) struct Fleet {
    /// By `AdapterId`.
    members: Vec<Member>,
    /// Listed, but not to be used.
    pub(super) unused: Vec<AdapterEntry>,
    workshop: Workshop,
    reports: mpsc::Sender<Report>,
    /// Why a model could not be loaded, where it could not.
    pub(super) load_errors: Vec<(ModelId, String)>,
}

impl Fleet {
    pub(super) fn new(workshop: Workshop, reports: mpsc::Sender<Report>) -> Fleet {
        let (members, unused, load_errors) = (Vec::new(), Vec::new(), Vec::new());
        Fleet { members, unused, workshop, reports, load_errors }
    }

    /// Takes in what was listed and numbers the usable ones.
    pub(super) fn discover(
        &mut self,
        entries: Vec<AdapterEntry>,
    ) -> Vec<(AdapterId, AdapterProfile)> {
        let (usable, unused): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.state == Usability::Usable);
        self.unused = unused;
        self.members = usable.into_iter().map(Member::new).collect();
        let profile = |(id, member): (AdapterId, &Member)| {
            let (class, fallback) = (member.entry.class, member.entry.fallback);
            (id, AdapterProfile { rank: rank(class), fallback })
        };
        self.members().map(profile).collect()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (AdapterId, &Member)> {
        (0u32..).map(AdapterId).zip(&self.members)
    }

    /// The number of the adapter that a client named.
    pub(super) fn find(&self, name: &str) -> Result<AdapterId, Error> {
        if let Some((id, _)) = self.members().find(|(_, member)| member.entry.id == name) {
            return Ok(id);
        }
        if let Some(entry) = self.unused.iter().find(|entry| entry.id == name) {
            let reason = entry.reason.as_deref().unwrap_or("unused");
            return Err(Error::unprocessable(format!("adapter '{name}' is not used: {reason}")));
        }
        let names: Vec<_> = self.members.iter().map(|member| member.entry.id.as_str()).collect();
        Err(Error::not_found(format!("there is no adapter '{name}'; used: {}", names.join(", "))))
    }

    /// The id that clients know it by.
    pub(super) fn name(&self, id: AdapterId) -> String {
        self.member(id).map(|member| member.entry.id.clone()).unwrap_or_default()
    }

    pub(super) fn member(&self, id: AdapterId) -> Option<&Member> {
        self.members.get(id.0 as usize)
    }

    fn member_mut(&mut self, id: AdapterId) -> Option<&mut Member> {
        self.members.get_mut(id.0 as usize)
    }

    /// Spawns the worker of a new life of the adapter.
    pub(super) fn start(&mut self, id: AdapterId, incarnation: Incarnation, models: &Catalogue) {
        let (workshop, reports) = (self.workshop.clone(), self.reports.clone());
        let waiting = (0u32..).map(ModelId).take(models.served.len()).collect();
        let Some(member) = self.member_mut(id) else { return };
        member.start = Start::begin(incarnation, waiting);
        member.fault = None;
        member.starts += 1;
        member.phase = Some("starting the worker".to_owned());
        member.worker = Some(start(&workshop, &member.entry, (id, incarnation), reports));
    }

    pub(super) fn tell(&self, id: AdapterId, message: Down) {
        if let Some(worker) = self.member(id).and_then(|member| member.worker.as_ref()) {
            worker.tell(message);
        }
    }

    pub(super) fn hand(&self, id: AdapterId, outgoing: Outgoing) {
        if let Some(worker) = self.member(id).and_then(|member| member.worker.as_ref()) {
            worker.hand(outgoing);
        }
    }

    pub(super) fn kill(&self, id: AdapterId) {
        if let Some(worker) = self.member(id).and_then(|member| member.worker.as_ref()) {
            worker.kill();
        }
    }

    pub(super) fn spawned(&mut self, id: AdapterId, pid: u32) {
        if let Some(member) = self.member_mut(id) {
            member.pid = Some(pid);
        }
    }

    /// Notes a fault in words, for the operator.
    pub(super) fn fault(&mut self, id: AdapterId, error: &str) {
        if let Some(member) = self.member_mut(id) {
            member.fault = Some(error.to_owned());
        }
    }

    pub(super) fn exited(&mut self, id: AdapterId, how: &str) {
        let Some(member) = self.member_mut(id) else { return };
        tracing::debug!(adapter = %member.entry.id, %how, "worker gone");
        member.pid = None;
        member.phase = None;
        member.worker = None;
    }

    /// Counts a batch that was answered.
    pub(super) fn count(&mut self, id: AdapterId, batch: &Batch) {
        let Some(member) = self.member_mut(id) else { return };
        member.requests += batch.requests.len() as u64;
        member.rows += batch.rows();
        member.batches += 1;
    }

    /// Brings a start forward by what the worker said.
    pub(super) fn starting(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        message: Up,
        models: &Catalogue,
    ) -> Option<Event> {
        let member = self.member_mut(adapter)?;
        if member.start.incarnation != incarnation {
            return None;
        }
        match message {
            Up::Progress { doing } => {
                member.phase = Some(doing);
                Some(Event::Progress { adapter, incarnation })
            }
            Up::Opened { probe, .. } => {
                member.start.speed = speed(probe);
                member.entry.probe = probe.or(member.entry.probe);
                self.load_next(adapter, incarnation, models)
            }
            Up::Unfit { why, error } => {
                tracing::warn!(adapter = %member.entry.id, "cannot serve: {error}");
                member.fault = Some(error);
                let fault = match why {
                    Unfit::InUse => Fault::InUse,
                    Unfit::Device => Fault::Device,
                    Unfit::WrongAnswer => Fault::WrongAnswer,
                };
                Some(Event::Faulted { adapter, incarnation, fault })
            }
            Up::Loaded { model, .. } => {
                let model = ModelId(model);
                member.start.loaded.push(model);
                self.load_errors.retain(|(failed, _)| *failed != model);
                self.load_next(adapter, incarnation, models)
            }
            Up::LoadFailed { model, cause, error } => {
                self.load_failed(adapter, incarnation, (ModelId(model), cause, error), models)
            }
            Up::Hello { .. } | Up::Done { .. } | Up::Failed { .. } | Up::Pong { .. } => None,
        }
    }

    fn load_failed(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        (model, cause, error): (ModelId, Cause, String),
        models: &Catalogue,
    ) -> Option<Event> {
        let name = models.served.get(model.0 as usize).map(|info| info.name.clone());
        let name = name.unwrap_or_default();
        let member = self.member_mut(adapter)?;
        tracing::warn!(adapter = %member.entry.id, model = %name, "cannot load: {error}");
        let fault = match cause {
            Cause::Device => Fault::Device,
            Cause::WrongAnswer => Fault::WrongAnswer,
            Cause::Input | Cause::Model => {
                member.start.failed.push(model);
                self.load_errors.retain(|(failed, _)| *failed != model);
                self.load_errors.push((model, error));
                return self.load_next(adapter, incarnation, models);
            }
        };
        member.fault = Some(format!("model '{name}': {error}"));
        Some(Event::Faulted { adapter, incarnation, fault })
    }

    /// Orders the next model, or says that the start is over.
    fn load_next(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        models: &Catalogue,
    ) -> Option<Event> {
        let member = self.member_mut(adapter)?;
        if member.start.waiting.is_empty() {
            return Some(member.ready(adapter, incarnation));
        }
        let model = member.start.waiting.remove(0);
        let info = models.served.get(model.0 as usize)?;
        // Labels are for clients; a worker has no use for them, and a header has a bound.
        let info = ModelInfo { labels: Vec::new(), ..info.as_ref().clone() };
        let order = LoadOrder { model: model.0, info };
        self.tell(adapter, Down::Load(order));
        Some(Event::Progress { adapter, incarnation })
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
            worker: None,
            start: Start::begin(Incarnation(0), Vec::new()),
        }
    }

    fn ready(&mut self, adapter: AdapterId, incarnation: Incarnation) -> Event {
        let took = clock::now().duration_since(self.start.begun);
        self.cold_start = Some(took);
        self.phase = None;
        tracing::info!(adapter = %self.entry.id, ?took, "ready");
        let loaded = std::mem::take(&mut self.start.loaded);
        let failed = std::mem::take(&mut self.start.failed);
        Event::Ready { adapter, incarnation, loaded, failed, speed: self.start.speed }
    }
}

/// Order among classes, best first. Measured speed decides among equals.
fn rank(class: Class) -> u32 {
    match class {
        Class::Discrete => 0,
        Class::Integrated => 1,
        Class::Virtual => 2,
        Class::Other => 3,
        Class::Cpu => 4,
        Class::Software => 5,
    }
}

/// Multiply-add rate in million operations per second: enough to order adapters of one class.
fn speed(probe: Option<Probe>) -> u64 {
    let gflops = probe.map_or(0.0, |probe| probe.gflops);
    // A probe cannot be negative or this large; the cast saturates either way.
    (gflops * 1000.0) as u64
}
