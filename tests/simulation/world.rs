//! The world around the scheduler: workers, callers, an operator, and a virtual clock.

use crate::fault_mix::FaultMix;
use crate::rng::Rng;
use schedule::*;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

pub(crate) const HEARTBEAT: Duration = Duration::from_millis(60);

/// One worker process, as the world knows it.
pub(crate) struct Worker {
    pub(crate) incarnation: Incarnation,
    pub(crate) ready: bool,
    /// Loaded models, with their bytes and the time of loading.
    pub(crate) loaded: BTreeMap<ModelId, (u64, Time)>,
    pub(crate) loading: Option<ModelId>,
    /// Rows of the largest batch that each model was loaded for.
    pub(crate) rows_max: BTreeMap<ModelId, u32>,
    /// Batches in the order in which it runs them.
    pub(crate) running: Vec<Batch>,
    /// Time at which it will have run them.
    pub(crate) free_at: Time,
    /// Stopped by a signal: it sends neither heartbeats nor answers.
    pub(crate) frozen: bool,
    pub(crate) killed: bool,
    pub(crate) asked_to_stop: bool,
}

pub(crate) struct RequestFacts {
    pub(crate) arrival: Arrival,
    pub(crate) poison: bool,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) faults: FaultMix,
    /// Batches that a worker may hold at a time.
    pub(crate) slots: u32,
    /// Time slices of each request after its first.
    pub(crate) slices: u32,
    /// Time slices that each request has had.
    pub(crate) sliced: BTreeMap<RequestId, u32>,
    pub(crate) settings: Settings,
    /// Models that are served now.
    pub(crate) models: BTreeMap<ModelId, ModelProfile>,
    pub(crate) all_models: BTreeMap<ModelId, ModelProfile>,
    /// Models that have been withdrawn; a number is never used again.
    pub(crate) withdrawn: BTreeSet<ModelId>,
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Time,
    pub(crate) events: BTreeMap<(Time, u64), Event>,
    pub(crate) posted: u64,
    pub(crate) workers: BTreeMap<AdapterId, Worker>,
    /// The server cannot start processes.
    pub(crate) starts_blocked: bool,
    /// Time until which a model may be rejected because a worker was killed with it.
    pub(crate) refused_until: Time,
    pub(crate) profiles: BTreeMap<AdapterId, AdapterProfile>,
    pub(crate) present: BTreeSet<AdapterId>,
    pub(crate) fallbacks: BTreeSet<AdapterId>,
    pub(crate) bridges: BTreeSet<AdapterId>,
    /// Adapters that are not to be used: listings do not contain them.
    pub(crate) excluded: BTreeSet<AdapterId>,
    pub(crate) requests: BTreeMap<RequestId, RequestFacts>,
    /// All batches that were handed to workers.
    pub(crate) batches: BTreeMap<BatchId, Batch>,
    /// Requests that were rejected in this turn because the queue is full.
    pub(crate) displaced: Vec<RequestId>,
    /// Load time of the replica that was unloaded last.
    pub(crate) last_unloaded: Option<Time>,
    /// Batches with outputs that the engine holds.
    pub(crate) held: BTreeMap<BatchId, Batch>,
    pub(crate) answered: BTreeMap<RequestId, Option<Reject>>,
    pub(crate) cancelled: BTreeSet<RequestId>,
    pub(crate) modes: BTreeMap<AdapterId, AdapterMode>,
    pub(crate) shutdown: bool,
    pub(crate) digest: DefaultHasher,
    /// The world's own counts, to compare with those of the scheduler.
    pub(crate) ledger: Ledger,
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) arrived: BTreeMap<RequestId, Time>,
    /// Parts that were handed to workers, that were completed, and that failed by their input.
    pub(crate) parts: BTreeMap<RequestId, (u32, u32, u32)>,
    /// Rows with distributed outputs.
    pub(crate) collected: BTreeMap<RequestId, BTreeSet<u32>>,
    pub(crate) faults: BTreeMap<AdapterId, u32>,
    /// Backoff after the last fault; it begins when the process has exited.
    pub(crate) pending_backoff: BTreeMap<AdapterId, Duration>,
    pub(crate) not_before: BTreeMap<AdapterId, Time>,
    pub(crate) alive: BTreeMap<AdapterId, Time>,
    pub(crate) starts: BTreeMap<AdapterId, u32>,
    pub(crate) discovered: bool,
    pub(crate) deadline: Option<Time>,
    pub(crate) without_heartbeats: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let faults = FaultMix::of(&mut rng);
        let settings = World::settings(&mut rng);
        let models: BTreeMap<_, _> =
            (0..1 + rng.below(3)).map(|n| (ModelId(n as u32), World::model(&mut rng))).collect();
        let scheduler = Scheduler::new(settings.clone(), models.clone());
        World {
            seed,
            rng,
            faults,
            slots: 1,
            slices: 0,
            sliced: BTreeMap::new(),
            settings,
            all_models: models.clone(),
            withdrawn: BTreeSet::new(),
            models,
            scheduler,
            now: Time::default(),
            events: BTreeMap::new(),
            posted: 0,
            starts_blocked: false,
            refused_until: Time::default(),
            workers: BTreeMap::new(),
            profiles: BTreeMap::new(),
            present: BTreeSet::new(),
            fallbacks: BTreeSet::new(),
            bridges: BTreeSet::new(),
            excluded: BTreeSet::new(),
            requests: BTreeMap::new(),
            batches: BTreeMap::new(),
            displaced: Vec::new(),
            last_unloaded: None,
            held: BTreeMap::new(),
            answered: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            modes: BTreeMap::new(),
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

    /// Runs until rest and checks every step. Returns a digest of all actions and their times.
    pub(crate) fn drive(&mut self) -> u64 {
        for step in 0.. {
            assert!(step < 400_000, "{}: livelock\n{}", self.seed, self.picture());
            let Some(event) = self.next_event() else { break };
            if let Some(event) = self.happen(event) {
                self.turn(event);
                self.check_step();
            }
        }
        self.check_rest();
        self.digest.finish()
    }

    /// Returns whether a request of another client was just rejected in favour of this one.
    fn displaced_another_client(&self, request: RequestId) -> bool {
        let client = |id| self.requests.get(id).map(|facts| facts.arrival.client);
        let other = |id| client(id) != client(&request);
        !self.displaced.is_empty() && self.displaced.iter().all(other)
    }

    pub(crate) fn turn(&mut self, event: Event) {
        self.displaced.clear();
        if self.is_cancelled_slice(&event) {
            return;
        }
        let rejected = self.expected_rejection(&event);
        self.scheduler.handle(self.now, event);
        while let Some(action) = self.scheduler.poll_action() {
            (self.now, &action).hash(&mut self.digest);
            self.perform(action);
        }
        if let Some((request, reason)) = rejected.filter(|(r, _)| !self.cancelled.contains(r)) {
            let answer = self.answered.get(&request).copied().flatten();
            let same = match (answer, reason) {
                (
                    Some(Reject::QueueFull { .. } | Reject::Overload { .. }),
                    Reject::QueueFull { .. },
                ) => true,
                // Another request was displaced.
                (_, Reject::QueueFull { .. }) if self.displaced_another_client(request) => true,
                (answer, reason) => answer == Some(reason),
            };
            assert!(same, "{}: bound ignored: {answer:?}, not {reason:?}", self.seed);
        }
    }

    /// Returns whether the event is the next time slice of a cancelled request.
    fn is_cancelled_slice(&self, event: &Event) -> bool {
        let Event::Arrived(arrival) = event else { return false };
        arrival.continues && self.cancelled.contains(&arrival.request)
    }

    pub(crate) fn expected_rejection(&self, event: &Event) -> Option<(RequestId, Reject)> {
        let Event::Arrived(Arrival { request, model, rows, deadline, continues, .. }) = *event
        else {
            return None;
        };
        let queued = self.scheduler.outstanding().queued;
        let rows = queued.rows.saturating_add(u64::from(rows));
        let full = queued.requests >= self.settings.queue_requests_max as u64
            || (rows > self.settings.queue_rows_max && queued.requests > 0);
        if self.scheduler.is_closing() {
            return Some((request, Reject::ShuttingDown));
        }
        if !self.models.contains_key(&model) {
            return Some((request, Reject::ModelGone));
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Some((request, Reject::Deadline));
        }
        (full && !continues).then_some((request, Reject::QueueFull { drain: Duration::ZERO }))
    }

    /// Returns the state that the message of a failing seed shows.
    pub(crate) fn picture(&self) -> String {
        let adapters: Vec<_> = self
            .scheduler
            .adapters()
            .map(|(id, a)| (id, a.state.clone(), a.mode, a.replicas.clone()))
            .collect();
        let owed = self.scheduler.outstanding();
        let next = self.scheduler.next_timeout();
        format!("{:?} next {next:?}\n{adapters:?}\n{owed:?}\n{:?}", self.now, self.settings)
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        let timeout = self.scheduler.next_timeout().map(|at| at.max(self.now));
        // Heartbeats do not count as work: the world is at rest when no other event is planned.
        let idle = self.events.values().all(|event| matches!(event, Event::Heartbeat { .. }));
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
            let state = adapter.state;
            state.is_off()
                || state.is_idle()
                || matches!(state.lifecycle, Lifecycle::Unreaped { .. })
        });
        let (low, high) = self.on_at_rest();
        resting && (low..=high).contains(&self.on())
    }

    /// Returns the least and the greatest number of adapters that may be on at rest.
    pub(crate) fn on_at_rest(&self) -> (usize, usize) {
        if self.shutdown {
            return (0, 0);
        }
        // A fallback is used only while no other adapter is usable.
        let reaped = |a: &AdapterView<'_>| !matches!(a.state.lifecycle, Lifecycle::Unreaped { .. });
        let count = |fallback: bool| {
            let adapters = self.scheduler.adapters();
            adapters.filter(|(id, a)| self.is_standby(*id) == fallback && reaped(a)).count()
        };
        let (primaries, stand_ins) = (count(false), count(true));
        let available = if primaries == 0 { stand_ins } else { primaries };
        let expected = self.settings.min.min(self.settings.max).min(available);
        let beside = if self.fallback_may_be_on_at_rest() { stand_ins } else { self.bridges.len() };
        (expected, expected + beside)
    }

    /// Returns whether an adapter is a fallback or a bridge.
    pub(crate) fn is_standby(&self, id: AdapterId) -> bool {
        self.fallbacks.contains(&id) || self.bridges.contains(&id)
    }

    /// Returns whether a fallback may be on at rest: others are on, and have no memory for any
    /// model.
    pub(crate) fn fallback_may_be_on_at_rest(&self) -> bool {
        let adapters = self.scheduler.adapters();
        let mut on = adapters.filter(|(id, a)| !self.is_standby(*id) && a.state.is_on()).peekable();
        self.settings.min > 0 && on.peek().is_some() && on.all(|(_, a)| a.replicas.is_empty())
    }

    pub(crate) fn on(&self) -> usize {
        self.scheduler.adapters().filter(|(_, adapter)| adapter.state.is_on()).count()
    }
}
