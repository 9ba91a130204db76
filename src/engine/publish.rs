//! Publication of snapshots: soon after each change, but at a limited rate.

use crate::calls::held_memory::Memory;
use crate::models::catalogue::{CatalogueEntry, ServingState};
use crate::statistics::Statistics;
use crate::targets;
use crate::workers::environment::Environment;
use crate::workers::fleet::{Fleet, Member};
use crate::workers::sensors::Sensors;
use crate::{Assumptions, Catalogue};
use model::info::ModelInfo;
use model::repository::BadModel;
use schedule::{
    self, AdapterId, AdapterMode, Decision, ExpectedClient, LearnedProfile, LearnedReplica,
    Lifecycle, ModelId, Power, Scheduler, State, Time,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use telemetry::{
    AdapterView, DecisionNames, DecisionView, ExpectedView, History, ModelState, ModelView,
    PowerView, QueueView, ReplicaView, ServerView, Snapshot, decision_view, expected_text,
};
use tokio::sync::watch;
use types::clock;
use types::error::ErrorKind;

/// Minimum time between two snapshots: short for a viewer, long for the machine.
const INTERVAL: Duration = Duration::from_millis(50);
/// Maximum time between two snapshots: clients read the current time from a snapshot's uptime.
const INTERVAL_IDLE: Duration = Duration::from_secs(1);
/// Maximum number of decisions in a snapshot.
const DECISIONS_MAX: usize = 100;
/// Maximum number of expected clients in a snapshot.
const EXPECTED_MAX: usize = 16;

/// The sources of a snapshot.
pub(crate) struct SnapshotSources<'a> {
    pub(crate) scheduler: &'a Scheduler,
    /// True once no further request is admitted.
    pub(crate) closing: bool,
    pub(crate) fleet: &'a Fleet,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) statistics: &'a Statistics,
    pub(crate) memory: &'a Memory,
    pub(crate) environment: &'a Environment,
    pub(crate) sensors: &'a Sensors,
}

/// Builds and sends snapshots.
pub(crate) struct Publisher {
    sender: watch::Sender<Arc<Snapshot>>,
    dirty: bool,
    published: Instant,
    decisions: VecDeque<DecisionView>,
    decided: u64,
    /// The last decision to turn each adapter on or off.
    last: BTreeMap<String, DecisionView>,
    assumptions: Assumptions,
    history: History,
    /// Models for which the log contains a warning about their latency target.
    warned: BTreeSet<ModelId>,
}

impl Publisher {
    pub(crate) fn new(
        assumptions: &Assumptions,
        history: History,
    ) -> (Publisher, watch::Receiver<Arc<Snapshot>>) {
        let server = ServerView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reason: Some("listing adapters".to_owned()),
            ..ServerView::default()
        };
        let first = Snapshot { server, ..Snapshot::default() };
        let (sender, receiver) = watch::channel(Arc::new(first));
        let publisher = Publisher {
            sender,
            dirty: true,
            published: clock::now(),
            decisions: VecDeque::new(),
            decided: 0,
            last: BTreeMap::new(),
            assumptions: assumptions.clone(),
            history,
            warned: BTreeSet::new(),
        };
        (publisher, receiver)
    }

    /// Records that the state changed.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Replaces the operator's assumptions about adapters.
    pub(crate) fn assume(&mut self, assumptions: &Assumptions) {
        self.assumptions = assumptions.clone();
    }

    /// The time at which the next snapshot is due.
    pub(crate) fn due_at(&self) -> Instant {
        self.published + if self.dirty { INTERVAL } else { INTERVAL_IDLE }
    }

    /// True if a snapshot is due. A change of readiness is published without delay.
    pub(crate) fn is_due(&self, ready: bool) -> bool {
        self.due_at() <= clock::now() || self.sender.borrow().server.ready != ready
    }

    /// Logs and keeps a decision.
    pub(crate) fn decided(&mut self, decision: &Decision, fleet: &Fleet, models: &Catalogue) {
        self.decided += 1;
        let member = fleet.member(decision.adapter);
        let adapter = member.map_or_else(String::new, |member| member.entry.id.clone());
        let fault = member.and_then(|member| member.fault.as_deref());
        let model = |id| models.get(id).map(|info| info.name.clone()).unwrap_or_default();
        let view =
            decision_view(self.decided, decision, DecisionNames { adapter, fault, model: &model });
        let what = view.model.as_deref().map(|model| format!("{model} on ")).unwrap_or_default();
        let (change, adapter) = (view.change.as_str(), &view.adapter);
        tracing::info!(reason = %view.reason.as_str(), "{change} {what}{adapter}: {}", view.text);
        if self.decisions.len() == DECISIONS_MAX {
            self.decisions.pop_front();
        }
        if view.model.is_none() {
            // Decisions that name a model are loads and unloads.
            self.last.insert(view.adapter.clone(), view.clone());
        }
        self.decisions.push_back(view);
    }

    pub(crate) fn publish(&mut self, time: Time, sources: &SnapshotSources<'_>) {
        self.dirty = false;
        self.published = clock::now();
        let (queue, adapters) = (queue(time, sources), self.adapters(time, sources));
        self.history.look(millis(time), &queue, &adapters);
        self.warn_of_targets(sources);
        let snapshot = Snapshot {
            server: server(time, sources),
            sample: self.history.newest(),
            models: models(time, sources),
            expected: expected(sources),
            queue,
            adapters,
            decisions: self.decisions.iter().cloned().collect(),
            catalogue: sources.catalogue.generation(),
        };
        self.sender.send_replace(Arc::new(snapshot));
    }

    /// Logs a warning once for each model with a latency target that cannot be met.
    fn warn_of_targets(&mut self, sources: &SnapshotSources<'_>) {
        // Numbers are never reused, so that entries of removed models would accumulate.
        self.warned.retain(|id| sources.catalogue.get(*id).is_some());
        for (id, CatalogueEntry { info, .. }) in sources.catalogue.all() {
            if let Some(text) = targets::unmet(sources.scheduler, id)
                && self.warned.insert(id)
            {
                tracing::warn!(model = %info.name, "latency target: {text}");
            }
        }
    }

    fn adapters(&self, time: Time, sources: &SnapshotSources<'_>) -> Vec<AdapterView> {
        let (scheduler, fleet, models) = (sources.scheduler, sources.fleet, sources.catalogue);
        let states: HashMap<AdapterId, _> = scheduler.adapters().collect();
        let used = fleet.members().filter_map(|(id, member)| {
            let adapter = states.get(&id)?;
            let memory = scheduler.learned_profile(time, id).unwrap_or_default();
            let is_configured = self.assumptions.knows_power(&member.entry.id);
            let sensors = member.reading.clone().or_else(|| sources.sensors.of(&member.entry.id));
            Some(AdapterView {
                power: Some(power(adapter.profile.power, is_configured)),
                replicas: replicas(adapter, &memory, models),
                memory_used_bytes: adapter.bytes,
                memory_budget_bytes: adapter.budget,
                sensors,
                last_decision: self.last.get(&member.entry.id).cloned(),
                trial: adapter.shadow_batches,
                starts_last_hour: memory.starts.iter().filter(|left| !left.is_zero()).count()
                    as u64,
                open_ms: memory.cold_start.map(|took| millis(Time(took))),
                ..used_view(member, adapter.state, adapter.mode)
            })
        });
        let unused = fleet.unused.iter().map(|entry| AdapterView {
            sensors: sources.sensors.of(&entry.id),
            ..AdapterView::from(entry.clone())
        });
        used.chain(unused).collect()
    }
}

/// All models, each version once: a served model hides its successor in validation and its retiring
/// predecessor.
fn models(time: Time, sources: &SnapshotSources<'_>) -> Vec<ModelView> {
    let order = |serving_state| match serving_state {
        ServingState::Served => 0,
        ServingState::Validating => 1,
        ServingState::Retiring { .. } => 2,
    };
    let mut entries: Vec<_> = sources.catalogue.all().collect();
    entries.sort_by_key(|(id, entry)| {
        (&entry.info.name, &entry.info.version, order(entry.serving_state), *id)
    });
    entries.dedup_by_key(|(_, entry)| (entry.info.name.clone(), entry.info.version.clone()));
    let good = entries.iter().map(|(id, entry)| model(time, sources, *id, entry));
    // The error of a model in `entries` is part of its own view.
    let hidden = |bad: &&BadModel| entries.iter().any(|(_, entry)| concerns(bad, &entry.info));
    let broken = sources.catalogue.broken().iter().filter(|bad| !hidden(bad)).map(broken);
    good.chain(broken).collect()
}

/// Expected clients, unless their model or adapter has been removed.
fn expected(sources: &SnapshotSources<'_>) -> Vec<ExpectedView> {
    let view = |it: ExpectedClient| {
        let (model, adapter) =
            (sources.catalogue.get(it.model)?, sources.fleet.member(it.adapter)?);
        Some(ExpectedView {
            text: expected_text(&model.name, it.is_one, it.announced),
            model: model.name.clone(),
            adapter: adapter.entry.id.clone(),
            start_at_ms: it.start_at.map(millis),
            from_ms: millis(it.from),
            until_ms: millis(it.until),
            announced: it.announced,
        })
    };
    let mut all: Vec<_> = sources.scheduler.expected().filter_map(view).collect();
    all.sort_by_key(|it| it.from_ms);
    all.truncate(EXPECTED_MAX);
    all
}

fn concerns(bad: &BadModel, info: &ModelInfo) -> bool {
    bad.name == info.name && bad.version.as_ref().is_none_or(|version| *version == info.version)
}

fn model(
    time: Time,
    sources: &SnapshotSources<'_>,
    id: ModelId,
    entry: &CatalogueEntry,
) -> ModelView {
    let CatalogueEntry { info, serving_state } = entry;
    let state = match serving_state {
        ServingState::Served if !sources.closing && is_ready(time, sources, id, info) => {
            ModelState::Ready
        }
        ServingState::Served => ModelState::Unavailable,
        ServingState::Validating => ModelState::Loading,
        ServingState::Retiring { .. } => ModelState::Unloading,
    };
    let broken = sources.catalogue.broken().iter().find(|bad| concerns(bad, info));
    let failed = sources
        .fleet
        .load_error(id)
        .map(|failed| (failed.error.clone(), Some(failed.is_of_files())));
    let broken = broken.map(|bad| (bad.error.clone(), None));
    let error = failed.or(broken).or_else(|| ensemble_error(sources, info));
    let (reason, failed) = error.map_or((None, None), |(reason, failed)| (Some(reason), failed));
    let adapters = sources.scheduler.adapters();
    let holders = adapters.filter(|(_, adapter)| adapter.replicas.contains_key(&id));
    let counted = sources.statistics.get(id);
    let counts = counted.map(|counted| counted.stats.inference_stats).unwrap_or_default();
    ModelView {
        name: info.name.clone(),
        version: info.version.clone(),
        state,
        reason,
        failed,
        adapters: holders.map(|(adapter, _)| sources.fleet.name(adapter)).collect(),
        requests: counts.success.count + counts.fail.count,
        errors: counts.fail.count,
        kind: info.kind.clone(),
        max_rows: info.batch.max_rows as u64,
        rows: rows(info),
        note: note(sources, id),
        slo_ms: sources.scheduler.target(id).or(info.slo).map(|target| millis(Time(target))),
        last_error: counted.and_then(|counted| counted.last_error.clone()),
        recent: counted.and_then(|counted| counted.recent.latency()),
    }
}

/// Remarks on a model.
fn note(sources: &SnapshotSources<'_>, id: ModelId) -> Option<String> {
    let target = targets::unmet(sources.scheduler, id);
    let notes: Vec<String> =
        sources.fleet.note(id).map(str::to_owned).into_iter().chain(target).collect();
    (!notes.is_empty()).then(|| notes.join(". "))
}

/// The row mode of a model and its reason, if the graph or `model.toml` determines it.
fn rows(info: &ModelInfo) -> Option<String> {
    let reason = Some(&info.rows_reason).filter(|reason| !reason.is_empty())?;
    Some(format!("{}: {reason}", info.signature.rows.as_str()))
}

/// True if the model is ready. An ensemble is ready when all of its members are.
fn is_ready(time: Time, sources: &SnapshotSources<'_>, id: ModelId, info: &ModelInfo) -> bool {
    let Some(ensemble) = info.ensemble() else { return sources.scheduler.is_model_ready(time, id) };
    let ready =
        |name| member(sources, name).is_some_and(|id| sources.scheduler.is_model_ready(time, id));
    sources.catalogue.missing(info).is_none() && ensemble.models().all(ready)
}

/// The number of a member of an ensemble.
fn member(sources: &SnapshotSources<'_>, name: &str) -> Option<ModelId> {
    sources.catalogue.number(sources.catalogue.resolve(name, None)?)
}

/// The reason why an ensemble cannot be served, with `true` if files are the cause, `false` if the
/// machine is, and `None` if neither is.
fn ensemble_error(
    sources: &SnapshotSources<'_>,
    info: &ModelInfo,
) -> Option<(String, Option<bool>)> {
    if let Some(missing) = sources.catalogue.missing(info) {
        let failed = match missing.kind {
            ErrorKind::Unprocessable => Some(true),
            ErrorKind::Internal => Some(false),
            _ => None,
        };
        return Some((missing.text, failed));
    }
    info.ensemble()?.models().find_map(|name| {
        let failed = sources.fleet.load_error(member(sources, name)?)?;
        Some((format!("model '{name}': {}", failed.error), Some(failed.is_of_files())))
    })
}

fn broken(bad: &BadModel) -> ModelView {
    ModelView {
        name: bad.name.clone(),
        version: bad.version.clone().unwrap_or_default(),
        state: ModelState::Unavailable,
        reason: Some(bad.error.clone()),
        ..ModelView::default()
    }
}

fn server(time: Time, sources: &SnapshotSources<'_>) -> ServerView {
    let SnapshotSources { scheduler, fleet, closing, .. } = *sources;
    let ready = !closing && scheduler.is_ready(time);
    let known = fleet.members().next().is_some() || !fleet.unused.is_empty();
    let reason = match (ready, closing, known) {
        (true, ..) => None,
        (_, true, _) => Some("the server is shutting down"),
        (_, _, false) => Some("listing adapters"),
        (_, _, true) => Some("no adapter can serve: see /api/adapters"),
    };
    // Despite this fault the adapters that are on serve, but no other one can start.
    let fault = sources.environment.fault().filter(|_| !closing);
    ServerView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: millis(time),
        ready,
        reason: fault.or(reason.map(str::to_owned)),
        shutting_down: closing,
    }
}

fn power(power: Power, is_configured: bool) -> PowerView {
    let watts = |mw: u64| mw as f64 / 1000.0;
    PowerView {
        idle_watts: watts(power.idle_mw),
        active_watts: watts(power.active_mw),
        start_watts: watts(power.start_mw),
        assumed: !is_configured,
    }
}

/// Learned values of each model on an adapter, loaded or not.
fn replicas(
    adapter: &schedule::AdapterView<'_>,
    memory: &LearnedProfile,
    models: &Catalogue,
) -> Vec<ReplicaView> {
    let replica = |(id, known): &(ModelId, LearnedReplica)| {
        let info = models.get(*id)?;
        // The line of the largest rows: rows of requests give better estimates than those of the
        // warm-up.
        let line = known.service_times.last().map(|(_, line)| *line);
        Some(ReplicaView {
            model: info.name.clone(),
            version: info.version.clone(),
            loaded: adapter.replicas.contains_key(id),
            bytes: known.bytes,
            load_ms: known.load.map(|took| millis(Time(took.time))),
            batch_ms: line.map(|line| line.alpha_ns as f64 / 1e6),
            row_ms: line.map(|line| line.beta_ns as f64 / 1e6),
            spread: line.map(|line| f64::from(line.spread_permille) / 1e3),
        })
    };
    memory.replicas.iter().filter_map(replica).collect()
}

fn used_view(member: &Member, state: &State, mode: AdapterMode) -> AdapterView {
    let retry_at_ms = match state.lifecycle {
        Lifecycle::Quarantined { until, .. } => Some(millis(until)),
        _ => None,
    };
    AdapterView {
        activity: Some(state.activity()),
        mode,
        since_ms: millis(state.since().unwrap_or(member.off_since)),
        phase: member.phase.clone().filter(|_| state.warms_up()),
        retry_at_ms,
        fault: member.fault.clone(),
        pid: member.pid,
        requests: member.requests,
        rows: member.rows,
        batches: member.batches,
        starts: member.starts,
        on_ms: millis(Time(member.on())),
        cold_start_ms: member.cold_start.map(|took| millis(Time(took))),
        memory_in_use_bytes: member.in_use,
        confinement: member.confinement.clone(),
        recent: member.recent.view(),
        ..AdapterView::from(member.entry.clone())
    }
}

fn queue(time: Time, sources: &SnapshotSources<'_>) -> QueueView {
    let (scheduler, memory) = (sources.scheduler, sources.memory);
    let owed = scheduler.outstanding();
    QueueView {
        queued_requests: owed.queued.requests,
        queued_rows: owed.queued.rows,
        in_flight_requests: owed.in_flight.requests,
        in_flight_rows: owed.in_flight.rows,
        drain_ms: millis(Time(scheduler.drain(time))),
        held_bytes: memory.used() as u64,
        held_bytes_max: memory.max() as u64,
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)
}
