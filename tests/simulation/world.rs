//! The world around the scheduler: workers, callers, an operator, and a virtual clock.

use crate::rng::Rng;
use crate::weather::Weather;
use concertina::schedule::*;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

pub(crate) const HEARTBEAT: Duration = Duration::from_millis(60);

/// One worker process, as the world knows it.
pub(crate) struct Worker {
    pub(crate) incarnation: Incarnation,
    pub(crate) ready: bool,
    pub(crate) loaded: BTreeSet<ModelId>,
    pub(crate) running: Option<Batch>,
    /// Stopped by a signal: neither heartbeats nor answers.
    pub(crate) frozen: bool,
    pub(crate) killed: bool,
    pub(crate) asked_to_stop: bool,
}

pub(crate) struct RequestFacts {
    pub(crate) model: ModelId,
    pub(crate) shape: Shape,
    pub(crate) rows: u32,
    pub(crate) poison: bool,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) weather: Weather,
    pub(crate) settings: Settings,
    pub(crate) models: BTreeMap<ModelId, ModelProfile>,
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Time,
    pub(crate) events: BTreeMap<(Time, u64), Event>,
    pub(crate) posted: u64,
    pub(crate) workers: BTreeMap<AdapterId, Worker>,
    pub(crate) fallbacks: BTreeSet<AdapterId>,
    pub(crate) requests: BTreeMap<RequestId, RequestFacts>,
    /// Batches whose outputs the engine holds.
    pub(crate) held: BTreeSet<BatchId>,
    pub(crate) answered: BTreeMap<RequestId, Option<Reject>>,
    pub(crate) cancelled: BTreeSet<RequestId>,
    pub(crate) wishes: BTreeMap<AdapterId, Wish>,
    pub(crate) shutdown: bool,
    pub(crate) digest: DefaultHasher,
    /// What the world counts by itself, to compare with what the scheduler believes.
    pub(crate) ledger: Ledger,
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) arrived: BTreeMap<RequestId, Time>,
    pub(crate) runs: BTreeMap<RequestId, u32>,
    pub(crate) separated: BTreeSet<RequestId>,
    pub(crate) strikes: BTreeMap<AdapterId, u32>,
    /// The wait that the last fault called for; it begins when the process is gone.
    pub(crate) owed_wait: BTreeMap<AdapterId, Duration>,
    pub(crate) not_before: BTreeMap<AdapterId, Time>,
    pub(crate) alive: BTreeMap<AdapterId, Time>,
    pub(crate) discovered: bool,
    pub(crate) deadline: Option<Time>,
    pub(crate) silent_world: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let weather = Weather::of(&mut rng);
        let settings = Settings {
            policy: Policy::Concurrency {
                target: 1 + rng.below(8),
                min: rng.below(2) as usize,
                max: 1 + rng.below(6) as usize,
            },
            scale_down_delay: rng.ms(1, 300),
            scale_to_zero_delay: rng.ms(1, 600),
            queue_requests_max: 4 + rng.below(60) as usize,
            queue_rows_max: 8 + rng.below(200),
            retries_max: rng.below(4) as u32,
            backoff: rng.ms(1, 100),
            backoff_max: rng.ms(100, 2000),
            patience: rng.ms(50, 500),
            bounds: Bounds {
                silence: rng.ms(150, 300),
                start: rng.ms(250, 400),
                run: rng.ms(250, 400),
                stop: rng.ms(30, 60),
                reap: rng.ms(30, 60),
            },
        };
        let profile = |rng: &mut Rng| ModelProfile {
            max_rows: 1 + rng.below(8) as u32,
            delay: if rng.percent(50) { Duration::ZERO } else { rng.ms(0, 10) },
        };
        let models: BTreeMap<_, _> =
            (0..1 + rng.below(3)).map(|n| (ModelId(n as u32), profile(&mut rng))).collect();
        let scheduler = Scheduler::new(settings.clone(), models.clone());
        World {
            seed,
            rng,
            weather,
            settings,
            models,
            scheduler,
            now: Time::default(),
            events: BTreeMap::new(),
            posted: 0,
            workers: BTreeMap::new(),
            fallbacks: BTreeSet::new(),
            requests: BTreeMap::new(),
            held: BTreeSet::new(),
            answered: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            wishes: BTreeMap::new(),
            shutdown: false,
            ledger: Ledger::default(),
            digest: DefaultHasher::new(),
        }
    }

    pub(crate) fn post(&mut self, at: Time, event: Event) {
        self.posted += 1;
        self.events.insert((at, self.posted), event);
    }

    pub(crate) fn after(&mut self, low: u64, high: u64) -> Time {
        self.now + self.rng.ms(low, high)
    }

    /// Writes the script of the world: adapters, arrivals, the operator, the end.
    pub(crate) fn script(&mut self, requests: u64, shutdown: bool) {
        let adapters: Vec<_> = (0..1 + self.rng.below(5)).map(|n| AdapterId(n as u32)).collect();
        let mut profiles = Vec::new();
        for id in adapters {
            let fallback = id.0 == 0 && self.rng.percent(30);
            if fallback {
                self.fallbacks.insert(id);
            }
            let rank = if fallback { 9 } else { self.rng.below(3) as u32 };
            profiles.push((id, AdapterProfile { rank, fallback }));
        }
        let listed = self.after(0, 50);
        let ids: Vec<_> = profiles.iter().map(|(id, _)| *id).collect();
        self.post(listed, Event::Discovered { adapters: profiles });
        let mut at = Time::default();
        for request in (0..requests).map(RequestId) {
            at = at + if self.rng.percent(10) { self.rng.ms(0, 400) } else { self.rng.ms(0, 4) };
            self.arrival(at, request);
            if self.rng.percent(self.weather.operator) {
                let adapter = ids[self.rng.below(ids.len() as u64) as usize];
                let wish = [Wish::Auto, Wish::On, Wish::Off][self.rng.below(3) as usize];
                self.post(at, Event::Wished { adapter, wish });
            }
        }
        for adapter in ids {
            self.post(at, Event::Wished { adapter, wish: Wish::Auto });
        }
        if shutdown {
            let deadline = at + Duration::from_millis(500);
            self.post(at, Event::Shutdown { deadline });
            self.shutdown = true;
            for late in (requests..requests + 3).map(RequestId) {
                self.arrival(at + Duration::from_millis(1), late);
            }
        }
    }

    pub(crate) fn arrival(&mut self, at: Time, request: RequestId) {
        let model = ModelId(self.rng.below(self.models.len() as u64) as u32);
        let rows = 1 + self.rng.below(u64::from(self.models[&model].max_rows)) as u32;
        let shape = Shape(self.rng.below(2));
        let poison = self.rng.percent(self.weather.poison);
        self.requests.insert(request, RequestFacts { model, shape, rows, poison });
        self.post(at, Event::Arrived { request, model, shape, rows });
        if self.rng.percent(self.weather.cancel) {
            let later = at + self.rng.ms(0, 50);
            self.post(later, Event::Cancelled { request });
        }
    }

    /// Runs to rest and returns a digest of all actions and their times.
    /// Runs to rest, checking every step. Returns a digest of all actions and their times.
    pub(crate) fn drive(&mut self) -> u64 {
        for step in 0.. {
            assert!(step < 200_000, "{}: livelock\n{}", self.seed, self.picture());
            let Some(event) = self.next_event() else { break };
            if let Some(event) = self.happen(event) {
                self.turn(event);
                self.check_step();
            }
        }
        self.check_rest();
        self.digest.finish()
    }

    pub(crate) fn turn(&mut self, event: Event) {
        let turned_away = self.must_turn_away(&event);
        self.scheduler.handle(self.now, event);
        while let Some(action) = self.scheduler.poll_action() {
            (self.now, &action).hash(&mut self.digest);
            self.perform(action);
        }
        if let Some((request, reason)) = turned_away.filter(|(r, _)| !self.cancelled.contains(r)) {
            let answer = self.answered.get(&request);
            assert_eq!(answer, Some(&Some(reason)), "{}: bound ignored", self.seed);
        }
    }

    pub(crate) fn must_turn_away(&self, event: &Event) -> Option<(RequestId, Reject)> {
        let Event::Arrived { request, rows, .. } = *event else { return None };
        let queued = self.scheduler.outstanding().queued;
        let full = queued.requests >= self.settings.queue_requests_max as u64
            || queued.rows.saturating_add(u64::from(rows)) > self.settings.queue_rows_max;
        if self.scheduler.is_closing() {
            return Some((request, Reject::ShuttingDown));
        }
        full.then_some((request, Reject::QueueFull))
    }

    /// What a failing seed's message shows.
    pub(crate) fn picture(&self) -> String {
        let adapters: Vec<_> =
            self.scheduler.adapters().map(|(id, a)| (id, a.state.clone(), a.wish)).collect();
        let owed = self.scheduler.outstanding();
        format!("{:?}\n{adapters:?}\n{owed:?}\n{:?}", self.now, self.settings)
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        let timeout = self.scheduler.next_timeout().map(|at| at.max(self.now));
        // Heartbeats alone keep nobody busy: the world is at rest when nothing else is to come.
        let idle = self.events.values().all(|event| matches!(event, Event::Alive { .. }));
        let owed = self.scheduler.outstanding();
        let owes = owed.queued.requests + owed.in_flight.requests > 0;
        if idle && !owes && self.at_rest() {
            return None;
        }
        match (next, timeout) {
            (None, None) => None,
            (Some(at), timeout) if timeout.is_none_or(|timeout| at <= timeout) => {
                self.now = at;
                self.events.pop_first().map(|(_, event)| event)
            }
            (_, timeout) => {
                self.now = timeout?;
                Some(Event::Timeout)
            }
        }
    }

    pub(crate) fn at_rest(&self) -> bool {
        let resting = self.scheduler.adapters().all(|(_, adapter)| {
            matches!(adapter.state, State::Off | State::Idle { .. } | State::Unreaped { .. })
        });
        let (low, high) = self.on_at_rest();
        resting && (low..=high).contains(&self.on())
    }

    /// How many should be on once nothing is owed.
    pub(crate) fn on_at_rest(&self) -> (usize, usize) {
        let Policy::Concurrency { min, max, .. } = self.settings.policy;
        if self.shutdown {
            return (0, 0);
        }
        // A fallback joins only while nothing else is usable.
        let usable = |(id, a): &(AdapterId, concertina::schedule::AdapterView<'_>)| {
            !self.fallbacks.contains(id) && !matches!(a.state, State::Unreaped { .. })
        };
        let primaries = self.scheduler.adapters().filter(usable).count();
        let reaped = |(id, a): &(AdapterId, concertina::schedule::AdapterView<'_>)| {
            self.fallbacks.contains(id) && !matches!(a.state, State::Unreaped { .. })
        };
        let stand_ins = self.scheduler.adapters().filter(reaped).count();
        let available = if primaries == 0 { stand_ins } else { primaries };
        let expected = min.min(max).min(available);
        (expected, expected)
    }

    pub(crate) fn on(&self) -> usize {
        self.scheduler.adapters().filter(|(_, adapter)| adapter.state.is_on()).count()
    }

    /// Lets the event happen in the world; `None` if there is nobody left to send it.
    pub(crate) fn happen(&mut self, event: Event) -> Option<Event> {
        let event = self.let_happen(event)?;
        match event {
            Event::Arrived { request, .. } => {
                self.ledger.arrived.insert(request, self.now);
            }
            Event::Discovered { .. } => self.ledger.discovered = true,
            Event::Shutdown { deadline } => self.ledger.deadline = Some(deadline),
            Event::Alive { adapter, incarnation }
            | Event::Progress { adapter, incarnation }
            | Event::Ready { adapter, incarnation, .. }
            | Event::Done { adapter, incarnation, .. }
            | Event::Failed { adapter, incarnation, .. } => {
                let lives = self.workers.get(&adapter);
                let lives = lives.is_some_and(|worker| worker.incarnation == incarnation);
                self.ledger.alive.extend(lives.then_some((adapter, self.now)));
            }
            Event::Exited { adapter, .. } => {
                if let Some(wait) = self.ledger.owed_wait.remove(&adapter) {
                    self.ledger.not_before.insert(adapter, self.now + wait);
                }
            }
            _ => {}
        }
        Some(event)
    }

    pub(crate) fn let_happen(&mut self, event: Event) -> Option<Event> {
        match &event {
            Event::Cancelled { request } => {
                self.cancelled.insert(*request);
            }
            Event::Wished { adapter, wish } => {
                // Before the adapters are known the API has none to name.
                self.scheduler.adapters().find(|(id, _)| id == adapter)?;
                self.wishes.insert(*adapter, *wish);
            }
            Event::Progress { adapter, incarnation }
            | Event::Faulted { adapter, incarnation, .. } => {
                self.speaker(*adapter, *incarnation)?;
            }
            Event::Ready { adapter, incarnation, loaded, .. } => {
                let worker = self.speaker(*adapter, *incarnation)?;
                worker.ready = true;
                worker.loaded = loaded.iter().copied().collect();
            }
            Event::Alive { adapter, incarnation } => {
                self.speaker(*adapter, *incarnation)?;
                self.post(self.now + HEARTBEAT, event.clone());
            }
            Event::Done { adapter, incarnation, batch } => {
                if !self.rng.percent(self.weather.late) {
                    self.speaker(*adapter, *incarnation)?;
                }
                self.finish_batch(*adapter, *batch);
                self.held.insert(*batch);
            }
            Event::Failed { adapter, incarnation, batch, failure } => {
                self.speaker(*adapter, *incarnation)?;
                if *failure == Failure::Input {
                    let running = self.workers.get(adapter).and_then(|w| w.running.clone());
                    self.ledger
                        .separated
                        .extend(running.iter().flat_map(|b| &b.requests).map(|(id, _)| *id));
                }
                self.finish_batch(*adapter, *batch);
            }
            Event::Exited { adapter, incarnation } => {
                let worker = self.workers.get(adapter)?;
                if worker.incarnation != *incarnation {
                    return None;
                }
                self.workers.remove(adapter);
            }
            Event::Discovered { .. }
            | Event::ModelAdded { .. }
            | Event::ModelRemoved { .. }
            | Event::Arrived { .. }
            | Event::Timeout
            | Event::Shutdown { .. } => {}
        }
        Some(event)
    }
}
