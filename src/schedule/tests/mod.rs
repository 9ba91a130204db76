//! Cases that the simulation is too coarse for, each with explicit events and times.

mod admission;
mod announced;
mod batch_slots;
mod batching_delay;
mod bridge;
mod claims;
mod continues;
mod cost;
mod early_start;
mod environment;
mod eviction;
mod faults;
mod idling;
mod learned;
mod load_turns;
mod memory;
mod memory_budget;
mod no_memory;
mod predictions;
mod rejections;
mod requests;
mod routing;
mod scale;
mod shadow;
mod shares;
mod states;
mod target;
mod waiting;

use super::*;
use std::collections::BTreeMap;
use std::time::Duration;

const ONE: AdapterId = AdapterId(1);
const TWO: AdapterId = AdapterId(2);
const MODEL: ModelId = ModelId(0);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn profile(max_rows: u32) -> ModelProfile {
    let (delay, slo) = (Duration::ZERO, ms(100));
    let (row_bytes, decoupled) = (0, false);
    ModelProfile { max_rows, first_rows: max_rows, delay, slo, bytes: 10, row_bytes, decoupled }
}

fn adapter(rank: u32, fallback: bool) -> AdapterProfile {
    let power = Power { idle_mw: 1000, active_mw: 10_000, start_mw: 5000 };
    let role = if fallback { Role::Fallback } else { Role::Regular };
    AdapterProfile { rank, role, speed: 100, cold_start: ms(1000), power, memory: None, slots: 1 }
}

/// A request of one row with default values.
fn arrival(request: RequestId) -> Arrival {
    let (model, client, shape) = (MODEL, ClientId::default(), Shape::default());
    let (rows, priority, deadline, continues) = (1, 0, None, false);
    Arrival { request, model, client, shape, rows, priority, deadline, continues }
}

/// A scheduler with a clock set by the test.
struct Bench {
    scheduler: Scheduler,
    now: Time,
    /// Texts of the actions of the last event.
    actions: Vec<String>,
    requests: u64,
}

impl Bench {
    /// One adapter wanted per row; surplus lasts 100 ms, 1000 ms for the last adapter.
    fn new(adapters: &[(AdapterId, u32, bool)]) -> Bench {
        let settings = Settings {
            policy: Policy::Concurrency {
                target: 1,
                scale_down_delay: ms(100),
                scale_to_zero_delay: ms(1000),
            },
            min: 0,
            max: 8,
            queue_requests_max: 100,
            queue_rows_max: 100,
            retries_max: 3,
            backoff: ms(500),
            backoff_max: ms(4000),
            quarantine_wait_max: ms(60_000),
            early_starts: false,
            timeouts: Timeouts {
                heartbeat: ms(60_000),
                start: ms(60_000),
                run: ms(60_000),
                stop: ms(300),
                kill: ms(300),
            },
        };
        let model = profile(2);
        let scheduler = Scheduler::new(settings, BTreeMap::from([(MODEL, model)]));
        // Not at the beginning of time: a duration since then must not pass for one since now.
        let mut bench =
            Bench { scheduler, now: Time(ms(10_000)), actions: Vec::new(), requests: 0 };
        let adapters = adapters.iter().map(|(id, rank, fallback)| (*id, adapter(*rank, *fallback)));
        bench.on(Event::Discovered { adapters: adapters.collect() });
        bench
    }

    /// One adapter, and a queue of at most `requests` requests and `rows` rows.
    fn bounded(requests: usize, rows: u64) -> Bench {
        let mut bench = Bench::new(&[]);
        let settings = Settings {
            queue_requests_max: requests,
            queue_rows_max: rows,
            ..bench.scheduler.world.settings.clone()
        };
        bench.scheduler = Scheduler::new(settings, BTreeMap::from([(MODEL, profile(2))]));
        bench.listed(&[(ONE, adapter(0, false))]);
        bench
    }

    /// Two adapters that are on and have the model, with the milliseconds of their batches of one
    /// row and of `max_rows`.
    fn pair(max_rows: u32, first: (u64, u64), second: (u64, u64)) -> Bench {
        let mut bench = Bench::two();
        bench.serve(profile(max_rows));
        for (id, (one, full)) in [(ONE, first), (TWO, second)] {
            bench.set_mode(id, AdapterMode::On).opened(id);
            bench.loaded(id, MODEL, &[(1, ms(one)), (max_rows, ms(full))]);
        }
        bench
    }

    /// Replaces the profile of the model.
    fn serve(&mut self, profile: ModelProfile) -> &mut Bench {
        self.on(Event::ModelAdded { model: MODEL, profile })
    }

    fn view(&self, adapter: AdapterId) -> AdapterView<'_> {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        view.expect("it is known").1
    }

    /// These adapters are in the machine now.
    fn listed(&mut self, adapters: &[(AdapterId, AdapterProfile)]) -> &mut Bench {
        self.on(Event::Discovered { adapters: adapters.to_vec() })
    }

    /// The parts that an adapter runs, as (request, first, rows).
    fn parts(&self, adapter: AdapterId) -> Vec<(u64, u32, u32)> {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        let batch = view.and_then(|(_, view)| view.state.first().cloned());
        let parts = batch.into_iter().flat_map(|batch| batch.parts);
        parts.map(|part| (part.request.0, part.first, part.rows)).collect()
    }

    fn failed(&mut self, adapter: AdapterId) -> &mut Bench {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        let batch = view.and_then(|(_, view)| view.state.first().map(|batch| batch.id));
        let (incarnation, failure) = (self.incarnation(adapter), Failure::Input);
        let batch = batch.expect("a batch is with the adapter");
        self.on(Event::Failed { adapter, incarnation, batch, failure })
    }

    fn one() -> Bench {
        Bench::new(&[(ONE, 0, false)])
    }

    fn two() -> Bench {
        Bench::new(&[(ONE, 0, false), (TWO, 1, false)])
    }

    fn on(&mut self, event: Event) -> &mut Bench {
        self.scheduler.handle(self.now, event);
        self.actions.clear();
        while let Some(action) = self.scheduler.poll_action() {
            self.actions.extend(text_of(&action));
        }
        self
    }

    fn after(&mut self, wait: Duration) -> &mut Bench {
        self.now = self.now + wait;
        self.on(Event::Timeout)
    }

    fn request(&mut self) -> &mut Bench {
        self.request_with(|_| ())
    }

    /// Sends a request changed by `change`.
    fn request_with(&mut self, change: impl FnOnce(&mut Arrival)) -> &mut Bench {
        self.requests += 1;
        let mut arrival = arrival(RequestId(self.requests));
        change(&mut arrival);
        self.on(Event::Arrived(arrival))
    }

    fn incarnation(&self, adapter: AdapterId) -> Incarnation {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        view.map(|(_, view)| view.incarnation).unwrap_or_default()
    }

    fn opened(&mut self, adapter: AdapterId) -> &mut Bench {
        let incarnation = self.incarnation(adapter);
        self.on(Event::Ready { adapter, incarnation, speed: 0 })
    }

    /// Opens the device; a requested model is loaded at once.
    fn ready(&mut self, adapter: AdapterId, speed: u64) -> &mut Bench {
        let incarnation = self.incarnation(adapter);
        self.on(Event::Ready { adapter, incarnation, speed });
        if self.state(adapter) == "loading" {
            self.loaded(adapter, MODEL, &[(1, ms(10)), (2, ms(11))]);
        }
        self
    }

    fn loaded(
        &mut self,
        adapter: AdapterId,
        model: ModelId,
        measured: &[(u32, Duration)],
    ) -> &mut Bench {
        let (incarnation, bytes) = (self.incarnation(adapter), 10);
        let measured = measured.to_vec();
        self.on(Event::Loaded { adapter, incarnation, model, bytes, measured, tuning: None })
    }

    /// Fails the present load with a cause that may end by itself.
    fn load_failed(&mut self, adapter: AdapterId) -> &mut Bench {
        self.load_failed_until(adapter, LoadRetry::Later)
    }

    /// Fails the present load.
    fn load_failed_until(&mut self, adapter: AdapterId, retry: LoadRetry) -> &mut Bench {
        let Some(Loading { model, .. }) = self.view(adapter).state.load else {
            panic!("no load runs")
        };
        let incarnation = self.incarnation(adapter);
        self.on(Event::LoadFailed { adapter, incarnation, model, retry })
    }

    fn done(&mut self, adapter: AdapterId) -> &mut Bench {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        let batch = view.and_then(|(_, view)| view.state.first().map(|batch| batch.id));
        let incarnation = self.incarnation(adapter);
        let batch = batch.expect("a batch is with the adapter");
        self.on(Event::Done { adapter, incarnation, batch })
    }

    fn faulted(&mut self, adapter: AdapterId) -> &mut Bench {
        let incarnation = self.incarnation(adapter);
        self.on(Event::Faulted { adapter, incarnation, fault: Fault::Device })
    }

    /// Its batch fails for lack of memory.
    fn no_memory(&mut self, adapter: AdapterId) -> &mut Bench {
        let batch = self.view(adapter).state.first().map(|batch| batch.id);
        let (incarnation, failure) = (self.incarnation(adapter), Failure::Memory);
        let batch = batch.expect("a batch is with the adapter");
        self.on(Event::Failed { adapter, incarnation, batch, failure })
    }

    fn exited(&mut self, adapter: AdapterId) -> &mut Bench {
        let incarnation = self.incarnation(adapter);
        self.on(Event::Exited { adapter, incarnation })
    }

    fn set_mode(&mut self, adapter: AdapterId, mode: AdapterMode) -> &mut Bench {
        self.on(Event::ModeSet { adapter, mode })
    }

    fn state(&self, adapter: AdapterId) -> &'static str {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        view.map_or("unknown", |(_, view)| view.state.activity().as_str())
    }

    /// Asserts the state and the actions after the last event.
    #[track_caller]
    fn check(&self, adapter: AdapterId, state: &str, actions: &[&str]) {
        assert_eq!((self.state(adapter), &self.actions[..]), (state, &strings(actions)[..]));
    }

    /// Brings the adapter to `idle` by a request that is answered.
    fn idle() -> Bench {
        let mut bench = Bench::one();
        bench.request().ready(ONE, 1).done(ONE);
        bench
    }

    fn busy() -> Bench {
        let mut bench = Bench::idle();
        bench.request();
        bench
    }

    fn draining() -> Bench {
        let mut bench = Bench::busy();
        bench.set_mode(ONE, AdapterMode::Off);
        bench
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text_of| (*text_of).to_owned()).collect()
}

fn text_of(action: &Action) -> Option<String> {
    Some(match action {
        Action::Start { adapter, .. } => format!("start {}", adapter.0),
        Action::Run { adapter, .. } => format!("run {}", adapter.0),
        Action::Stop { adapter, .. } => format!("stop {}", adapter.0),
        Action::Kill { adapter, .. } => format!("kill {}", adapter.0),
        Action::Load { adapter, model, .. } => format!("load {} {}", adapter.0, model.0),
        Action::Unload { adapter, model, .. } => format!("unload {} {}", adapter.0, model.0),
        Action::Collect { adapter, .. } => format!("collect {}", adapter.0),
        Action::Answer { request } => format!("answer {}", request.0),
        Action::Reject { reason: Reject::Deadline, request } => format!("late {}", request.0),
        Action::Reject { reason: Reject::Overload { .. }, request } => {
            format!("overload {}", request.0)
        }
        Action::Reject { reason: Reject::Input { .. }, request } => format!("bad {}", request.0),
        Action::Reject { .. } => "reject".to_owned(),
        Action::Discard { .. } => "discard".to_owned(),
        Action::Decided(_) => return None,
    })
}
