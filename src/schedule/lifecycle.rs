//! Events of adapters: discovered, started, loaded, failed, exited.

use super::action::Action;
use super::adapter::{Adapter, Drained};
use super::decision::{Change, Reason};
use super::event::{AdapterMode, Fault, LoadRetry};
use super::ids::{AdapterId, Incarnation, ModelId, Time};
use super::learned_profile::LearnedProfile;
use super::outbox::Outbox;
use super::service::{Service, bucket};
use super::settings::AdapterProfile;
use super::state::{Lifecycle, Replica};
use super::world::World;
use super::{estimates, quarantine, reliability, requests};
use std::time::Duration;

pub(super) fn discovered(world: &mut World, adapters: Vec<(AdapterId, AdapterProfile)>) {
    world.discovered = true;
    for adapter in world.adapters.values_mut() {
        adapter.present = false;
    }
    for (id, profile) in adapters {
        let adapter = world.adapters.entry(id).or_insert_with(|| Adapter::new(profile));
        adapter.present = true;
        adapter.profile = profile;
    }
    world.sort();
}

/// Excludes these adapters at the operator's request, and no others.
pub(super) fn exclude(world: &mut World, adapters: &[AdapterId]) {
    for (id, adapter) in &mut world.adapters {
        adapter.excluded = adapters.contains(id);
        adapter.present &= !adapter.excluded;
    }
}

/// Sets the bytes of an adapter's memory that models may use now.
pub(super) fn set_memory_budget(world: &mut World, id: AdapterId, bytes: Option<u64>) {
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.memory_budget = bytes;
    }
}

/// Sets the operator's mode of an adapter.
pub(super) fn set_mode(world: &mut World, id: AdapterId, mode: AdapterMode) {
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.mode = mode;
    }
}

/// Records a heartbeat of the worker.
pub(super) fn heartbeat(world: &mut World, now: Time, (id, incarnation): (AdapterId, Incarnation)) {
    if let Some(adapter) = world.current(id, incarnation) {
        adapter.last_heartbeat = now;
    }
}

/// Records the retried start of a process.
pub(super) fn start_tried(world: &mut World, works: bool) {
    world.starts_blocked = !works;
    world.failed_starts = world.failed_starts.saturating_add(u32::from(!works));
}

/// Handles a fault of the worker.
pub(super) fn faulted(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    fault: Fault,
) {
    if world.current(id, incarnation).is_some() {
        fail_adapter(world, out, now, id, fault);
    }
}

/// Restores the values of an earlier run.
pub(super) fn restore(world: &mut World, now: Time, id: AdapterId, profile: LearnedProfile) {
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    adapter.restore(now, &profile);
    // Values that were learned in this run have precedence over those of the file.
    adapter.cold_start = adapter.cold_start.or(profile.cold_start.map(|d| d.as_secs_f64()));
    for (model, replica) in profile.replicas {
        let known = adapter.known.entry(model).or_default();
        known.load = known.load.or(replica.load.map(|load| load.time.as_secs_f64()));
        known.estimated |= replica.load.is_some_and(|load| load.estimated);
        known.first_load = known.first_load.or(replica.first_load.map(|d| d.as_secs_f64()));
        known.bytes = known.bytes.or(replica.bytes);
        for (size, line) in replica.service_times {
            known.services.entry(size).or_insert_with(|| Service::from_prior(line));
        }
    }
}

pub(super) fn progress(world: &mut World, now: Time, (id, incarnation): (AdapterId, Incarnation)) {
    if let Some(adapter) = world.current(id, incarnation) {
        adapter.progressed(now);
    }
}

pub(super) fn ready(
    world: &mut World,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    speed: u64,
) {
    if world.current(id, incarnation).is_some_and(|adapter| adapter.opened(now, speed)) {
        world.sort();
        world.failed_starts = 0;
    }
}

pub(super) fn loaded(
    world: &mut World,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    model: ModelId,
    (bytes, tuning): (u64, Option<Duration>),
    measured: &[(u32, Duration)],
) {
    let ended = world.current(id, incarnation).and_then(|adapter| adapter.end_load(now, model));
    let Some(since) = ended else { return };
    let bytes = if bytes == 0 { estimates::bytes_of(world, id, model) } else { bytes };
    let (served, max_rows) =
        (world.models.contains_key(&model), estimates::rows_limit(world, id, model));
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    adapter.replicas.insert(model, Replica { bytes, used: now, loaded: now });
    // The model was withdrawn during its load: `prepare.rs` unloads it, and nothing is learned.
    if !served {
        return;
    }
    let known = adapter.known.entry(model).or_default();
    known.learn_load(now.since(since), tuning);
    known.bytes = Some(bytes);
    known.measured_rows_max = measured.iter().map(|(rows, _)| *rows).max();
    // The sizes of rows of clients are not known yet: 0 stands for any.
    let service = known.services.entry(0).or_default();
    for (rows, took) in measured {
        service.observe(bucket(*rows, max_rows), *took);
    }
}

pub(super) fn load_failed(
    world: &mut World,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    (model, retry): (ModelId, LoadRetry),
) {
    // A disk may recover; wrong files stay wrong until they are replaced.
    let until = now + world.settings.backoff_max;
    let until = if retry == LoadRetry::Never { Time::NEVER } else { until };
    if let Some(adapter) = world.current(id, incarnation)
        && adapter.end_load(now, model).is_some()
        && retry != LoadRetry::Now
    {
        adapter.refused_until.insert(model, until);
    }
}

/// Takes a start back after the process failed to start: no fault of the adapter.
pub(super) fn not_started(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
) {
    let Some(adapter) = world.current(id, incarnation) else { return };
    if !adapter.cancel_start() {
        return exited(world, out, now, (id, incarnation));
    }
    world.starts_blocked = true;
    world.failed_starts = world.failed_starts.saturating_add(1);
    out.decide(now, id, Change::Drain, Reason::Environment);
}

/// Takes back the work of a worker that the kernel killed for lack of memory. The adapter works:
/// the model that was being loaded, or the rows of the one that ran, need too much memory.
pub(super) fn out_of_memory(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
    model: Option<ModelId>,
) {
    let again = now + world.settings.backoff_max;
    let Some(adapter) = world.current(id, incarnation) else { return };
    let Some(batches) = adapter.killed_for_memory() else {
        return exited(world, out, now, (id, incarnation));
    };
    // The worker ran the first one.
    let running = batches.first().map(|batch| (batch.model, batch.rows()));
    let single = running.filter(|(_, rows)| *rows == 1).map(|(model, _)| model);
    if let Some(model) = model.or(single) {
        adapter.no_memory_until.insert(model, again);
    } else if let Some(running) = running {
        limit_rows(world, now, id, running);
    }
    for batch in batches.iter().filter(|batch| batch.repeats.is_none()) {
        requests::retry(world, out, batch, Fault::Memory);
    }
    out.decide(now, id, Change::Drain, Reason::OutOfMemory);
}

pub(super) fn exited(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    (id, incarnation): (AdapterId, Incarnation),
) {
    let Some(adapter) = world.current(id, incarnation) else { return };
    match adapter.state().lifecycle {
        Lifecycle::Off | Lifecycle::Quarantined { .. } => {}
        Lifecycle::Stopping { fault: None, .. } => adapter.turn_off(),
        Lifecycle::Stopping { fault: Some(_), .. } | Lifecycle::Unreaped { .. } => {
            quarantine::begin(world, now, id);
        }
        Lifecycle::Starting { .. } | Lifecycle::On | Lifecycle::Draining => {
            record_fault(world, out, now, id, Fault::Crashed);
            quarantine::begin(world, now, id);
        }
    }
}

/// Kills the worker of an adapter with a fault; its work runs elsewhere.
pub(super) fn fail_adapter(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    fault: Fault,
) {
    let works = world.adapters.get(&id).filter(|adapter| adapter.state().has_worker());
    let Some(incarnation) = works.map(|adapter| adapter.incarnation) else { return };
    record_fault(world, out, now, id, fault);
    out.push(Action::Kill { adapter: id, incarnation });
}

/// Counts a fault, publishes it, and takes the work back.
fn record_fault(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId, fault: Fault) {
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    let batches = adapter.fail(now, fault);
    let consecutive_faults = adapter.consecutive_faults;
    for batch in batches.iter().filter(|batch| batch.repeats.is_none()) {
        requests::retry(world, out, batch, fault);
    }
    world.failed_again |=
        world.adapters.get(&id).is_some_and(|a| !reliability::is_reliable(world, a));
    let backoff = quarantine::backoff(world, consecutive_faults);
    let reason = Reason::Fault { fault, consecutive_faults, backoff };
    out.decide(now, id, Change::Quarantine, reason);
}

/// Stops a worker that is idle or draining.
pub(super) fn stop_worker(world: &mut World, out: &mut Outbox, now: Time, id: AdapterId) {
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.stop(now);
        out.push(Action::Stop { adapter: id, incarnation: adapter.incarnation });
    }
}

/// Resumes the adapter if it drains, or starts it if it is off. Returns true if it did.
pub(super) fn turn_on(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    draining: bool,
    reason: Reason,
) -> bool {
    let Some(adapter) = world.adapters.get_mut(&id) else { return false };
    let change = if draining {
        if !adapter.resume() {
            return false;
        }
        Change::Resume
    } else {
        if !adapter.state().is_off() || world.starts_blocked {
            return false;
        }
        let incarnation = adapter.start(now, is_waited_for(reason));
        out.push(Action::Start { adapter: id, incarnation });
        Change::Start
    };
    out.decide(now, id, change, reason);
    true
}

/// Returns true if requests wait for an adapter that is turned on for this reason.
fn is_waited_for(reason: Reason) -> bool {
    matches!(reason, Reason::LatencyTarget { .. } | Reason::Demand { .. } | Reason::Backlog { .. })
}

/// Turns an adapter off after its batches.
pub(super) fn begin_draining(
    world: &mut World,
    out: &mut Outbox,
    now: Time,
    id: AdapterId,
    reason: Reason,
) {
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    let incarnation = adapter.incarnation;
    match adapter.drain(now) {
        Some(Drained::Batches(None)) => {}
        Some(Drained::Batches(Some(model))) => {
            out.push(Action::Unload { adapter: id, incarnation, model });
        }
        Some(Drained::Stop) => out.push(Action::Stop { adapter: id, incarnation }),
        None => return,
    }
    out.decide(now, id, Change::Drain, reason);
}

/// Limits the rows of a model on an adapter to half of those without memory.
pub(super) fn limit_rows(
    world: &mut World,
    now: Time,
    id: AdapterId,
    (model, rows): (ModelId, u32),
) {
    let bucket = bucket(rows, estimates::max_rows(world, id, model));
    let consecutive_faults =
        world.adapters.get(&id).map_or(0, |adapter| adapter.consecutive_faults);
    // Other programs may free memory soon, or not for long.
    let soon = now + quarantine::backoff(world, consecutive_faults.saturating_add(1));
    // Longer than until the next try, which would otherwise be for as many rows as this one.
    let until = soon + world.settings.backoff_max;
    if let Some(adapter) = world.adapters.get_mut(&id) {
        if rows == 0 || bucket <= 1 {
            adapter.no_memory_until.insert(model, soon);
        } else {
            let half = bucket.div_ceil(2).next_power_of_two().min(bucket - 1).max(1);
            adapter.known.entry(model).or_default().rows_max = Some((half, until));
        }
    }
}
