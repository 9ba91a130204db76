//! Runs the scheduler in seeded worlds with a virtual clock: workers that crash, hang, lie late,
//! fail their checks or cannot be killed, callers that go away, an operator who meddles. Its
//! invariants are checked at every step. A failing seed is printed: keep it as a named test.

use concertina::schedule::{
    Action, AdapterId, AdapterProfile, Batch, BatchId, Bounds, Event, Failure, Fault, Incarnation,
    ModelId, ModelProfile, Policy, Reason, Reject, RequestId, Scheduler, Settings, Shape, State,
    Time, Wish,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low))
    }
}

const HEARTBEAT: Duration = Duration::from_millis(60);

/// How bad this world is, in percent.
struct Weather {
    crash: u64,
    hang: u64,
    stuck_compute: u64,
    unkillable: u64,
    late: u64,
    poison: u64,
    cancel: u64,
    operator: u64,
    load_failure: u64,
}

impl Weather {
    fn of(rng: &mut Rng) -> Weather {
        let bad = [0, 0, 1, 4][rng.below(4) as usize];
        Weather {
            crash: bad * 2,
            hang: bad,
            stuck_compute: bad,
            unkillable: [0, 0, 0, 20][rng.below(4) as usize],
            late: 30,
            poison: [0, 0, 3][rng.below(3) as usize],
            cancel: 6,
            operator: [0, 0, 3][rng.below(3) as usize],
            load_failure: [0, 0, 0, 10][rng.below(4) as usize],
        }
    }
}

/// One worker process, as the world knows it.
struct Worker {
    incarnation: Incarnation,
    ready: bool,
    loaded: BTreeSet<ModelId>,
    running: Option<Batch>,
    /// Stopped by a signal: neither heartbeats nor answers.
    frozen: bool,
    killed: bool,
    asked_to_stop: bool,
}

struct RequestFacts {
    model: ModelId,
    shape: Shape,
    rows: u32,
    poison: bool,
}

struct World {
    seed: u64,
    rng: Rng,
    weather: Weather,
    settings: Settings,
    models: BTreeMap<ModelId, ModelProfile>,
    scheduler: Scheduler,
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    posted: u64,
    workers: BTreeMap<AdapterId, Worker>,
    fallbacks: BTreeSet<AdapterId>,
    requests: BTreeMap<RequestId, RequestFacts>,
    /// Batches whose outputs the engine holds.
    held: BTreeSet<BatchId>,
    answered: BTreeMap<RequestId, Option<Reject>>,
    cancelled: BTreeSet<RequestId>,
    wishes: BTreeMap<AdapterId, Wish>,
    shutdown: bool,
    digest: DefaultHasher,
}

impl World {
    fn new(seed: u64) -> World {
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
            digest: DefaultHasher::new(),
        }
    }

    fn post(&mut self, at: Time, event: Event) {
        self.posted += 1;
        self.events.insert((at, self.posted), event);
    }

    fn after(&mut self, low: u64, high: u64) -> Time {
        self.now + self.rng.ms(low, high)
    }

    /// Writes the script of the world: adapters, arrivals, the operator, the end.
    fn script(&mut self, requests: u64, shutdown: bool) {
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
        }
    }

    fn arrival(&mut self, at: Time, request: RequestId) {
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
    fn run(mut self) -> u64 {
        self.drive();
        self.digest.finish()
    }

    /// Runs to rest, checking every step.
    fn drive(&mut self) {
        for step in 0.. {
            assert!(step < 200_000, "{}: livelock\n{}", self.seed, self.picture());
            let Some(event) = self.next_event() else { break };
            let Some(event) = self.happen(event) else { continue };
            self.scheduler.handle(self.now, event);
            while let Some(action) = self.scheduler.poll_action() {
                (self.now, &action).hash(&mut self.digest);
                self.perform(action);
            }
            self.check_step();
        }
        self.check_rest();
    }

    /// What a failing seed's message shows.
    fn picture(&self) -> String {
        let adapters: Vec<_> =
            self.scheduler.adapters().map(|(id, a)| (id, a.state.clone(), a.wish)).collect();
        let owed = self.scheduler.outstanding();
        format!("{:?}\n{adapters:?}\n{owed:?}\n{:?}", self.now, self.settings)
    }

    fn next_event(&mut self) -> Option<Event> {
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

    fn at_rest(&self) -> bool {
        let resting = self.scheduler.adapters().all(|(_, adapter)| {
            matches!(adapter.state, State::Off | State::Idle { .. } | State::Unreaped { .. })
        });
        let (low, high) = self.on_at_rest();
        resting && (low..=high).contains(&self.on())
    }

    /// How many should be on once nothing is owed.
    fn on_at_rest(&self) -> (usize, usize) {
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

    fn on(&self) -> usize {
        self.scheduler.adapters().filter(|(_, adapter)| adapter.state.is_on()).count()
    }

    /// Lets the event happen in the world; `None` if there is nobody left to send it.
    fn happen(&mut self, event: Event) -> Option<Event> {
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
            Event::Failed { adapter, incarnation, batch, .. } => {
                self.speaker(*adapter, *incarnation)?;
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
            | Event::Arrived { .. }
            | Event::Timeout
            | Event::Shutdown { .. } => {}
        }
        Some(event)
    }

    fn speaker(&mut self, id: AdapterId, incarnation: Incarnation) -> Option<&mut Worker> {
        self.workers.get_mut(&id).filter(|w| w.incarnation == incarnation && !w.frozen)
    }

    fn finish_batch(&mut self, id: AdapterId, batch: BatchId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.running.take_if(|running| running.id == batch);
        }
    }

    fn perform(&mut self, action: Action) {
        let seed = self.seed;
        match action {
            Action::Start { adapter, incarnation } => self.spawn(adapter, incarnation),
            Action::Run { adapter, incarnation, batch } => self.take(adapter, incarnation, batch),
            Action::Stop { adapter, incarnation } => {
                let worker = self.worker(adapter, incarnation);
                assert!(worker.running.is_none(), "{seed}: stopped while running");
                worker.asked_to_stop = true;
                if !worker.frozen {
                    let at = self.after(1, 20);
                    self.post(at, Event::Exited { adapter, incarnation });
                }
            }
            Action::Kill { adapter, incarnation } => {
                let worker = self.worker(adapter, incarnation);
                assert!(!worker.killed, "{seed}: killed twice");
                worker.killed = true;
                let stuck = self.rng.percent(self.weather.unkillable);
                let at = if stuck { self.after(500, 3000) } else { self.after(1, 20) };
                self.post(at, Event::Exited { adapter, incarnation });
            }
            Action::Answer { batch, .. } => {
                assert!(self.held.remove(&batch.id), "{seed}: answered without outputs");
                for (request, _) in batch.requests {
                    self.settle(request, None);
                }
            }
            Action::Discard { batch } => {
                assert!(self.held.remove(&batch), "{seed}: discarded what nobody holds");
            }
            Action::Reject { request, reason } => {
                let poison = self.requests[&request].poison;
                assert_eq!(
                    matches!(reason, Reject::Input { .. }),
                    poison && matches!(reason, Reject::Input { .. }),
                    "{seed}: a neighbour was blamed"
                );
                self.settle(request, Some(reason));
            }
            Action::Decided(decision) => self.check_decision(&decision.reason),
        }
    }

    fn worker(&mut self, id: AdapterId, incarnation: Incarnation) -> &mut Worker {
        let seed = self.seed;
        let worker = self.workers.get_mut(&id);
        let worker = worker.unwrap_or_else(|| panic!("{seed}: no worker on {id:?}"));
        assert_eq!(worker.incarnation, incarnation, "{seed}: wrong life");
        worker
    }

    fn settle(&mut self, request: RequestId, outcome: Option<Reject>) {
        if self.cancelled.contains(&request) {
            return;
        }
        let before = self.answered.insert(request, outcome);
        assert_eq!(before, None, "{}: {request:?} answered twice", self.seed);
    }

    fn spawn(&mut self, adapter: AdapterId, incarnation: Incarnation) {
        let seed = self.seed;
        assert!(!self.workers.contains_key(&adapter), "{seed}: second worker on {adapter:?}");
        assert_ne!(self.wishes.get(&adapter), Some(&Wish::Off), "{seed}: started against the wish");
        let frozen = self.rng.percent(self.weather.hang);
        let worker = Worker {
            incarnation,
            ready: false,
            loaded: BTreeSet::new(),
            running: None,
            frozen,
            killed: false,
            asked_to_stop: false,
        };
        self.workers.insert(adapter, worker);
        self.post(self.now + HEARTBEAT, Event::Alive { adapter, incarnation });
        let at = self.after(1, 40);
        self.post(at, Event::Progress { adapter, incarnation });
        let at = at + self.rng.ms(1, 150);
        if self.rng.percent(self.weather.crash) {
            self.post(at, Event::Exited { adapter, incarnation });
        } else if self.rng.percent(self.weather.crash) {
            self.post(at, Event::Faulted { adapter, incarnation, fault: Fault::WrongAnswer });
        } else if !self.rng.percent(self.weather.stuck_compute) {
            let models: Vec<_> = self.models.keys().copied().collect();
            let (failed, loaded) =
                models.into_iter().partition(|_| self.rng.percent(self.weather.load_failure));
            let speed = self.rng.below(5);
            self.post(at, Event::Ready { adapter, incarnation, loaded, failed, speed });
        }
    }

    fn take(&mut self, adapter: AdapterId, incarnation: Incarnation, batch: Batch) {
        self.check_batch(&batch);
        let (seed, id, model) = (self.seed, batch.id, batch.model);
        let poisoned = batch.requests.iter().any(|(request, _)| self.requests[request].poison);
        let worker = self.worker(adapter, incarnation);
        assert!(worker.ready && !worker.killed && !worker.asked_to_stop, "{seed}: ran while off");
        assert!(worker.loaded.contains(&model), "{seed}: ran what is not loaded");
        assert!(worker.running.is_none(), "{seed}: two batches at once");
        worker.running = Some(batch);
        let at = self.after(1, 30);
        let batch = id;
        if self.rng.percent(self.weather.crash) {
            self.post(at, Event::Exited { adapter, incarnation });
        } else if self.rng.percent(self.weather.hang) {
            if let Some(worker) = self.workers.get_mut(&adapter) {
                worker.frozen = true;
            }
        } else if self.rng.percent(self.weather.stuck_compute) {
            // The link lives on, the answer comes after the patience has run out.
            let at = self.after(500, 900);
            self.post(at, Event::Done { adapter, incarnation, batch });
        } else if poisoned {
            let failure = Failure::Input;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else if self.rng.percent(self.weather.crash) {
            let failure = Failure::Device;
            self.post(at, Event::Failed { adapter, incarnation, batch, failure });
        } else {
            self.post(at, Event::Done { adapter, incarnation, batch });
        }
    }

    fn check_batch(&self, batch: &Batch) {
        let seed = self.seed;
        let rows: u32 = batch.requests.iter().map(|(_, rows)| rows).sum();
        assert!(
            (1..=self.models[&batch.model].max_rows).contains(&rows),
            "{seed}: batch too large"
        );
        let shapes: BTreeSet<_> =
            batch.requests.iter().map(|(id, _)| self.requests[id].shape).collect();
        assert_eq!(shapes.len(), 1, "{seed}: shapes mixed");
        for (id, rows) in &batch.requests {
            let facts = &self.requests[id];
            assert_eq!((facts.model, facts.rows), (batch.model, *rows), "{seed}: wrong request");
            assert!(!self.answered.contains_key(id), "{seed}: {id:?} runs after its answer");
            assert!(!self.cancelled.contains(id), "{seed}: {id:?} runs for nobody");
        }
    }

    fn check_decision(&self, reason: &Reason) {
        let seed = self.seed;
        match *reason {
            Reason::IdleSurplus { wanted, on, lasted, .. } => {
                assert!(on > wanted, "{seed}: no surplus");
                let delay = if on == 1 {
                    self.settings.scale_to_zero_delay
                } else {
                    self.settings.scale_down_delay
                };
                assert!(lasted >= delay, "{seed}: let go too early");
            }
            Reason::Backlog { wanted, on, .. } => assert!(wanted > on, "{seed}: no backlog"),
            Reason::Min { min, on } => assert!(min > on, "{seed}: enough are on"),
            Reason::Fault { backoff, .. } => {
                assert!(backoff <= self.settings.backoff_max, "{seed}: backoff without bound");
            }
            Reason::Operator | Reason::Fallback | Reason::Shutdown => {}
        }
    }

    fn check_step(&self) {
        let seed = self.seed;
        let Policy::Concurrency { max, .. } = self.settings.policy;
        let forced = self.wishes.values().filter(|wish| **wish == Wish::On).count();
        // An adapter that the operator wants on may come on top of those the load brought on.
        if self.weather.operator == 0 {
            assert!(self.on() <= max + forced, "{seed}: too many on");
        }
        for (id, adapter) in self.scheduler.adapters() {
            let off = matches!(adapter.state, State::Off | State::Quarantined { .. });
            assert!(!off || !self.workers.contains_key(&id), "{seed}: off with a worker");
            if adapter.state.is_on() {
                assert_ne!(self.wishes.get(&id), Some(&Wish::Off), "{seed}: on against the wish");
            }
            assert!(self.fits(id, adapter.state), "{seed}: {id:?} is not {:?}", adapter.state);
        }
        self.check_work_conserving();
    }

    /// The state that the scheduler believes in agrees with the worker that is there.
    fn fits(&self, id: AdapterId, state: &State) -> bool {
        let batch = self.workers.get(&id).and_then(|worker| worker.running.as_ref());
        match state {
            State::Busy { batch: believed, .. } | State::Draining { batch: believed, .. } => {
                batch.is_none_or(|running| running.id == believed.id)
            }
            State::Idle { .. } => batch.is_none(),
            State::Off
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Quarantined { .. }
            | State::Unreaped { .. } => true,
        }
    }

    /// Nobody waits while an adapter that could serve him stands idle, but for the batch delay.
    fn check_work_conserving(&self) {
        let idle: Vec<_> = self
            .scheduler
            .adapters()
            .filter(|(_, adapter)| matches!(adapter.state, State::Idle { .. }))
            .collect();
        let owed = self.scheduler.outstanding().queued.requests;
        let quick = self.models.values().all(|model| model.delay.is_zero());
        let all = |models: &BTreeSet<ModelId>| models.len() == self.models.len();
        if quick && idle.iter().any(|(_, adapter)| all(adapter.models)) {
            assert_eq!(owed, 0, "{}: work waits beside an idle adapter", self.seed);
        }
    }

    fn check_rest(&self) {
        let seed = self.seed;
        for id in self.requests.keys() {
            let settled = self.answered.contains_key(id) || self.cancelled.contains(id);
            assert!(settled, "{seed}: {id:?} lost");
        }
        assert!(self.held.is_empty(), "{seed}: outputs left behind");
        let (low, high) = self.on_at_rest();
        assert!((low..=high).contains(&self.on()), "{seed}: {} on at rest", self.on());
        if self.shutdown {
            assert!(self.scheduler.is_down(), "{seed}: not down after shutdown");
        }
    }
}

fn run(seed: u64, requests: u64, shutdown: bool) -> u64 {
    let mut world = World::new(seed);
    world.script(requests, shutdown);
    world.run()
}

#[test]
fn every_request_is_answered_once_and_the_world_comes_to_rest() {
    for seed in 0..3000 {
        run(seed, 120, false);
        run(seed, 120, true);
    }
}

#[test]
fn same_seed_same_actions() {
    for seed in 0..100 {
        assert_eq!(run(seed, 120, false), run(seed, 120, false));
    }
}

/// In a world without faults nobody is turned away but by a full queue.
#[test]
fn without_faults_only_a_full_queue_turns_away() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.weather = Weather {
            crash: 0,
            hang: 0,
            stuck_compute: 0,
            unkillable: 0,
            late: 0,
            poison: 0,
            cancel: 0,
            operator: 0,
            load_failure: 0,
        };
        world.settings.queue_requests_max = usize::MAX;
        world.settings.queue_rows_max = u64::MAX;
        world.settings.policy = Policy::Concurrency { target: 2, min: 0, max: 5 };
        world.scheduler = Scheduler::new(world.settings.clone(), world.models.clone());
        world.script(120, false);
        let requests = world.requests.len();
        let answered = world.run_and_count();
        assert_eq!(answered, requests, "{seed}");
    }
}

impl World {
    /// Runs to rest and counts the requests that got outputs.
    fn run_and_count(mut self) -> usize {
        self.drive();
        self.answered.values().filter(|outcome| outcome.is_none()).count()
    }
}
