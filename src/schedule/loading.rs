//! Loads models on demand and ahead, and drops what is served no more; which of them make room is in
//! `places.rs`. And what is known, or guessed, of times and sizes.

use super::action::Action;
use super::batch::Batch;
use super::decision::{Change, Reason};
use super::event::Wish;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::scheduler::Scheduler;
use super::service::{Line, Service, bucket};
use super::state::{Adapter, State};
use std::time::Duration;

/// Seconds without work, at most, before an adapter loads a model that nobody waits for.
const LULL_MAX: f64 = 3600.0;
/// Guess for a model that was never loaded: so many seconds, and so many bytes per second.
const LOAD_GUESS: f64 = 0.3;
const LOAD_BYTES_PER_SECOND: f64 = 1e9;
/// Guess for a model that never ran, on an adapter of speed 1000.
const BATCH_GUESS: Line = Line { alpha_ns: 1_000_000, beta_ns: 500_000, spread_permille: 500 };
/// A step of a load takes about this share of it: so long a batch waits for its turn.
const STEP: f64 = 0.1;
/// What takes longer than predicted is taken to be this share of its time so far from its end.
const OVERDUE: f64 = 0.25;

/// What it takes to have a model: seconds until there is room, seconds of loading, and whether
/// another that is in use would have to go.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    wait: f64,
    load: f64,
    displaces: bool,
    /// Seconds of loading per second that it would cost to be without what has to go.
    loss: f64,
}

impl Scheduler {
    /// What the adapters that are on offer to rows of this model and size.
    pub(super) fn slots(&self, now: Time, model: ModelId, size: u8) -> Vec<Slot> {
        let on = |(id, adapter): &(&AdapterId, &Adapter)| {
            let takes = adapter.state.is_on() && self.takes(adapter, model);
            takes && !self.is_on_trial(**id, adapter, model)
        };
        let on = self.adapters.iter().filter(on);
        on.map(|(id, adapter)| self.slot(now, *id, adapter, model, size)).collect()
    }

    pub(super) fn slot(
        &self,
        now: Time,
        id: AdapterId,
        adapter: &Adapter,
        model: ModelId,
        size: u8,
    ) -> Slot {
        let loaded = adapter.replicas.contains_key(&model);
        let service = self.service(id, model, size);
        let comes =
            matches!(adapter.state, State::Loading { model: coming, .. } if coming == model);
        let needs = Some((id, adapter)).filter(|_| !loaded && !comes);
        let room = needs.map_or(Room::default(), |needs| self.room(now, needs, model));
        let turn = self.turn(now, id, adapter).filter(|_| loaded);
        let free = turn.unwrap_or_else(|| self.remaining(now, id, adapter));
        let takes_turns = turn.is_some() && adapter.takes_batches();
        Slot {
            adapter: id,
            free: free.max(room.wait) + room.load,
            alpha: service.alpha(),
            beta: service.beta(),
            caution: service.caution(),
            max_rows: self.max_rows(id, model),
            idle: (adapter.is_idle() && room.wait <= 0.0) || takes_turns,
            loaded,
            displaces: room.displaces,
            loss: room.loss,
            measured: service.is_measured(),
        }
    }

    /// What it takes to load a model: with loading again what makes room for it, if that is in use.
    fn room(&self, now: Time, (id, adapter): (AdapterId, &Adapter), model: ModelId) -> Room {
        let load = self.load_time(id, model);
        if let Some(victims) = self.victims(now, id, model) {
            let missed = victims.iter().filter(|victim| self.is_missed(now, id, adapter, **victim));
            let again: f64 = missed.map(|victim| self.load_time(id, *victim)).sum();
            let loss = self.loss(now, id, &victims);
            return Room { wait: 0.0, load: load + again, displaces: again > 0.0, loss };
        }
        let stay = adapter.replicas.iter().map(|(other, replica)| self.stays(id, *other, replica));
        let wait = stay.filter(|at| *at > now).min().map_or(0.0, |at| at.since(now).as_secs_f64());
        Room { wait, load, displaces: true, loss: 0.0 }
    }

    /// Seconds until an adapter that loads another model can run a batch of one that it has.
    fn turn(&self, now: Time, id: AdapterId, adapter: &Adapter) -> Option<f64> {
        let State::Loading { model, batch, .. } = &adapter.state else { return None };
        let step = self.load_time(id, *model) * STEP;
        let running = batch.as_ref().map_or(0.0, |(since, batch)| {
            (step + self.batch_time(id, batch) - now.since(*since).as_secs_f64()).max(0.0)
        });
        Some(running + step)
    }

    /// Seconds that a batch takes, as far as is known.
    fn batch_time(&self, id: AdapterId, batch: &Batch) -> f64 {
        let service = self.service(id, batch.model, batch.size);
        service.batch(bucket(batch.rows(), self.max_rows(id, batch.model)))
    }

    /// Seconds until the adapter can begin something new.
    fn remaining(&self, now: Time, id: AdapterId, adapter: &Adapter) -> f64 {
        let (since, predicted) = match &adapter.state {
            State::Idle { .. } => return 0.0,
            State::Busy { since, batch } => (*since, self.batch_time(id, batch)),
            State::Loading { since, model, .. } => (*since, self.load_time(id, *model)),
            State::Starting { since, .. } => (*since, adapter.cold_start()),
            State::Off
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => return f64::INFINITY,
        };
        let elapsed = now.since(since).as_secs_f64();
        (predicted - elapsed).max(if elapsed > predicted { elapsed * OVERDUE } else { 0.0 })
    }

    /// The service model: learned here, else scaled from another adapter, else guessed.
    pub(super) fn service(&self, id: AdapterId, model: ModelId, size: u8) -> Service {
        let known = |adapter: &Adapter| {
            let services = &adapter.known.get(&model)?.services;
            let near = services.range(..=size).next_back().or_else(|| services.iter().next());
            let near = near.map(|(_, service)| *service)?;
            // What an earlier run remembers may be of a bad day. The warm-up of this run knows
            // better: believed too slow, an adapter would never be asked to show it.
            let warm = services.get(&0).filter(|warm| warm.is_tried() && !near.is_tried());
            Some(warm.filter(|warm| warm.batch(1) < near.batch(1)).copied().unwrap_or(near))
        };
        let Some(adapter) = self.adapters.get(&id) else { return Service::told(BATCH_GUESS) };
        if let Some(service) = known(adapter) {
            return service;
        }
        let other = self.adapters.values().find_map(|other| Some((other, known(other)?)));
        match other {
            Some((other, service)) => service.slower(times_slower(adapter, other)),
            None => {
                let times = 1000.0 / adapter.profile.speed.max(1) as f64;
                Service::told(BATCH_GUESS).slower(times)
            }
        }
    }

    /// Seconds to load and warm up a model.
    pub(super) fn load_time(&self, id: AdapterId, model: ModelId) -> f64 {
        let known = |adapter: &Adapter| adapter.known.get(&model)?.load;
        // After an update of its driver an adapter tunes again.
        let tuned = |adapter: &Adapter| {
            let known = adapter.known.get(&model)?;
            known.load.or(known.first_load)
        };
        let own = self.adapters.get(&id).and_then(tuned);
        own.or_else(|| self.adapters.values().find_map(known)).unwrap_or_else(|| {
            let bytes = self.models.get(&model).map_or(0, |model| model.bytes);
            LOAD_GUESS + bytes as f64 / LOAD_BYTES_PER_SECOND
        })
    }

    /// Rows of the largest batch of a model that an adapter runs.
    pub(super) fn max_rows(&self, id: AdapterId, model: ModelId) -> u32 {
        let known = self.adapters.get(&id).and_then(|adapter| adapter.known.get(&model));
        let grown = known.and_then(|known| known.grown_rows).unwrap_or(0);
        let first = self.models.get(&model).map_or(0, |model| model.first_rows);
        self.rows_limit(id, model).min(grown.max(first)).max(1)
    }

    /// The same if every size that the model allows had been measured.
    pub(super) fn rows_limit(&self, id: AdapterId, model: ModelId) -> u32 {
        let known = self.adapters.get(&id).and_then(|adapter| adapter.known.get(&model));
        let limit = known.and_then(|known| known.rows_max).map_or(u32::MAX, |(rows, _)| rows);
        self.models.get(&model).map_or(1, |model| model.max_rows.min(limit).max(1))
    }

    /// Bytes that a model takes on an adapter.
    pub(super) fn bytes_of(&self, id: AdapterId, model: ModelId) -> u64 {
        let known = |adapter: &Adapter| adapter.known.get(&model)?.bytes;
        let own = self.adapters.get(&id).and_then(known);
        let other = || self.adapters.values().find_map(known);
        own.or_else(other).or(self.models.get(&model).map(|model| model.bytes)).unwrap_or(0)
    }

    /// Whether this adapter is one for the model: not while others have room for it and this one
    /// has not. If nobody has, the device itself tells whether there is memory.
    pub(super) fn takes(&self, adapter: &Adapter, model: ModelId) -> bool {
        self.could_take(adapter, model)
            && self.may_play(adapter, model)
            && (self.has_room(adapter, model) || !self.anyone_has_room(model))
    }

    pub(super) fn could_take(&self, adapter: &Adapter, model: ModelId) -> bool {
        !adapter.crowded.contains_key(&model) && self.may_take(adapter, model)
    }

    fn anyone_has_room(&self, model: ModelId) -> bool {
        self.adapters.iter().any(|(id, adapter)| {
            (adapter.state.is_on() || self.may_be_turned_on(*id, adapter))
                && self.could_take(adapter, model)
                && self.may_play(adapter, model)
                && self.has_room(adapter, model)
        })
    }

    /// Whether other programs leave this adapter enough memory for the model.
    fn has_room(&self, adapter: &Adapter, model: ModelId) -> bool {
        adapter.holds(model) || adapter.left.is_none_or(|left| self.size_of(adapter, model) <= left)
    }

    /// Whether it could if there were memory.
    pub(super) fn may_take(&self, adapter: &Adapter, model: ModelId) -> bool {
        if adapter.refused.contains_key(&model) {
            return false;
        }
        adapter.profile.memory.is_none_or(|budget| self.size_of(adapter, model) <= budget)
    }

    /// Bytes that a model takes here, as measured or else as the files tell.
    fn size_of(&self, adapter: &Adapter, model: ModelId) -> u64 {
        let known = adapter.known.get(&model).and_then(|known| known.bytes);
        known.unwrap_or_else(|| self.models.get(&model).map_or(0, |model| model.bytes))
    }

    /// Loads a model on an idle adapter, making room where there is none.
    pub(super) fn load_here(&mut self, now: Time, id: AdapterId, model: ModelId) -> bool {
        let rows = self.queue.rows_of(model);
        let Some(victims) = self.victims(now, id, model) else { return false };
        let (needed, free) = (self.bytes_of(id, model), self.free_bytes(id));
        for victim in victims {
            self.unload(now, id, victim, Reason::Memory { needed, free });
        }
        self.begin_load(now, id, model, Reason::Demand { rows });
        true
    }

    fn begin_load(&mut self, now: Time, id: AdapterId, model: ModelId, reason: Reason) {
        let max_rows = self.rows_limit(id, model);
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        let incarnation = adapter.incarnation;
        adapter.state = State::Loading { since: now, progress: now, model, batch: None };
        self.actions.push_back(Action::Load { adapter: id, incarnation, model, max_rows });
        self.decide(now, id, Change::Load(model), reason);
    }

    pub(super) fn unload(&mut self, now: Time, id: AdapterId, model: ModelId, reason: Reason) {
        let Some(adapter) = self.adapters.get_mut(&id) else { return };
        let incarnation = adapter.incarnation;
        adapter.replicas.remove(&model);
        self.actions.push_back(Action::Unload { adapter: id, incarnation, model });
        self.decide(now, id, Change::Unload(model), reason);
    }

    fn free_bytes(&self, id: AdapterId) -> u64 {
        let Some(adapter) = self.adapters.get(&id) else { return 0 };
        adapter.budget().unwrap_or(u64::MAX).saturating_sub(adapter.bytes())
    }

    /// Gives memory back that other programs need now, if nobody misses what is in it.
    fn give_back(&mut self, now: Time, id: AdapterId) {
        let Some(adapter) = self.adapters.get(&id).filter(|adapter| adapter.is_idle()) else {
            return;
        };
        let (held, budget) = (adapter.bytes(), adapter.budget().unwrap_or(u64::MAX));
        if held <= budget {
            return;
        }
        let old = self.old_replicas(now, (id, adapter));
        let unmissed = old.into_iter().find(|(model, _)| !self.is_missed(now, id, adapter, *model));
        if let Some((model, _)) = unmissed {
            self.unload(now, id, model, Reason::Room { held, room: budget });
        }
    }

    /// When an idle adapter may first make room for this model.
    pub(super) fn room_at(&self, now: Time, model: ModelId) -> Option<Time> {
        let idle = self.adapters.iter().filter(|(_, a)| a.is_idle() && self.takes(a, model));
        let stays = idle.flat_map(|(id, adapter)| {
            adapter.replicas.iter().map(|(other, replica)| self.stays(*id, *other, replica))
        });
        stays.filter(|at| *at > now).min()
    }

    /// Drops what is served no more, and gets adapters that were given nothing to do ready for what
    /// has been asked for: also where others will be done with what waits before a load would
    /// help, since more of it may come.
    pub(super) fn prepare(&mut self, now: Time) {
        for at in 0..self.order.len() {
            let id = self.order[at];
            self.drop_withdrawn(now, id);
            self.give_back(now, id);
            self.drop_not_bridged(now, id);
            if self.closing.is_none() {
                self.load_ahead(now, id);
            }
        }
    }

    fn drop_withdrawn(&mut self, now: Time, id: AdapterId) {
        let Some(adapter) = self.adapters.get(&id) else { return };
        let withdrawn = |model: &&ModelId| !self.models.contains_key(*model);
        let running = adapter.state.batch().map(|batch| batch.model);
        let withdrawn = adapter.replicas.keys().filter(withdrawn);
        let model = withdrawn.filter(|model| Some(**model) != running).min().copied();
        if let Some(model) = model {
            self.unload(now, id, model, Reason::Withdrawn);
        }
    }

    fn load_ahead(&mut self, now: Time, id: AdapterId) {
        // What waits goes first.
        let waiting = self.queue.waiting().map(|(model, _)| model);
        let expected = self.adapters.get(&id).and_then(|adapter| adapter.expected);
        let soon = waiting.chain(expected.map(|expected| expected.model));
        let models: Vec<ModelId> = soon.chain(self.models.keys().copied()).collect();
        let due = |model: &&ModelId| self.ahead_at(now, id, **model).is_some_and(|at| at <= now);
        if let Some(model) = models.iter().find(due).copied() {
            self.begin_load(now, id, model, Reason::Ahead);
        }
    }

    /// When an idle adapter loads a model that nobody needs it to have; never if it has it, or has
    /// no room. Not while batches come and go: they would have to wait for the steps of the load.
    fn ahead_at(&self, now: Time, id: AdapterId, model: ModelId) -> Option<Time> {
        let adapter = self.adapters.get(&id).filter(|adapter| adapter.is_idle())?;
        // Who is on without load is on to be ready for anything.
        let all = adapter.wish == Wish::On || self.settings.min > 0;
        // Where others leave less than is allowed they may soon want more, and what is loaded for
        // nobody would come and go.
        let times = if adapter.budget() < adapter.profile.memory { 2 } else { 1 };
        let measures = self.is_to_be_measured(adapter, model);
        let expected = adapter.expected.is_some_and(|expected| expected.model == model);
        let asked = self.queue.newest(model) > Time::default();
        let wanted = (all || asked || measures || expected)
            && !adapter.replicas.contains_key(&model)
            && (measures || self.takes(adapter, model))
            && (measures || !self.is_spare_copy(now, id, model))
            && self.bytes_of(id, model).saturating_mul(times) <= self.free_bytes(id);
        let quiet = Duration::from_secs_f64(self.load_time(id, model).min(LULL_MAX));
        let since = adapter.workless.filter(|_| !expected);
        wanted.then(|| since.map_or(Time::default(), |since| since + quiet))
    }

    /// When the next load ahead is due that is not due yet.
    pub(super) fn next_ahead(&self, now: Time) -> Option<Time> {
        let lacks =
            |adapter: &Adapter| adapter.is_idle() && adapter.replicas.len() < self.models.len();
        let lacking = self.adapters.iter().filter(|(_, a)| self.closing.is_none() && lacks(a));
        let models = || self.models.keys().copied();
        let all =
            lacking.flat_map(|(id, _)| models().filter_map(|model| self.ahead_at(now, *id, model)));
        all.filter(|at| *at > now).min()
    }
}

/// How many times slower one adapter is than another: by what their probes measured, or else by
/// their classes.
fn times_slower(adapter: &Adapter, other: &Adapter) -> f64 {
    if adapter.speed > 0 && other.speed > 0 {
        return other.speed as f64 / adapter.speed as f64;
    }
    other.profile.speed.max(1) as f64 / adapter.profile.speed.max(1) as f64
}
