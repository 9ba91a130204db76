//! Prints the time of a request in the scheduler alone: admission, batching, dispatch, answer.
//!
//! `cargo bench --bench scheduling`. Pure computation: nothing is started.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a bench is about clocks")]

use schedule::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

const MODEL: ModelId = ModelId(0);
/// Rows of the largest batch.
const MAX_ROWS: u32 = 8;
/// Timed batches per round.
const BATCHES: u64 = 4000;
const ROUNDS: usize = 7;
/// Adapters on, adapters off, requests waiting, clients that are expected. The scheduler considers
/// a start only while an adapter is off.
const CASES: [(u32, u32, u64, u64); 9] = [
    (1, 0, 10_000, 4),
    (4, 0, 10_000, 4),
    (16, 0, 100, 4),
    (16, 0, 1_000, 4),
    (16, 0, 10_000, 4),
    (15, 1, 100, 4),
    (15, 1, 10_000, 4),
    (16, 0, 16, 64),
    (15, 1, 16, 64),
];

fn main() {
    // `cargo test` runs benches once without this flag: there is nothing to assert here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!("scheduler, time per request and per event (median of {ROUNDS} x {BATCHES} batches)");
    for policy in ["cost", "concurrency"] {
        for case @ (on, off, queued, clients) in CASES {
            let mut times: Vec<_> = (0..ROUNDS).map(|_| measure(policy, case)).collect();
            times.sort();
            let (request, event) = times[ROUNDS / 2];
            println!(
                "  {policy:<12} {on:>2} adapters on, {off} off, {queued:>6} queued, {clients:>2} \
                 clients   {request:?}, {event:?}"
            );
        }
    }
}

/// Times per request and per event at a constant number of waiting requests.
fn measure(policy: &str, (on, off, queued, clients): (u32, u32, u64, u64)) -> (Duration, Duration) {
    let mut world = World::new(policy, on, off, clients);
    (0..queued).for_each(|_| world.arrive());
    // Every adapter is busy now; the first batches warm up the rest of the path.
    (0..BATCHES / 10).for_each(|_| world.step());
    let before = world.answered;
    let begin = Instant::now();
    (0..BATCHES).for_each(|_| world.step());
    let (took, requests) = (begin.elapsed(), world.answered - before);
    let count = |events: u64| u32::try_from(events).expect("few enough");
    // Each request arrives once, each batch ends once.
    (took / count(requests), took / count(requests + BATCHES))
}

/// A scheduler with its adapters, each a little slower than the one before; the last may be off.
struct World {
    scheduler: Scheduler,
    now: Time,
    running: VecDeque<(AdapterId, Incarnation, BatchId)>,
    clients: u64,
    requests: u64,
    answered: u64,
}

impl World {
    fn new(policy: &str, on: u32, off: u32, clients: u64) -> World {
        let profile = ModelProfile {
            max_rows: MAX_ROWS,
            first_rows: MAX_ROWS,
            delay: Duration::ZERO,
            slo: Duration::from_millis(100),
            bytes: 1 << 20,
            row_bytes: 0,
            decoupled: false,
        };
        let settings = settings(policy, (on + off) as usize);
        let scheduler = Scheduler::new(settings, BTreeMap::from([(MODEL, profile)]));
        let now = Time(Duration::from_secs(1));
        let mut world =
            World { scheduler, now, running: VecDeque::new(), clients, requests: 0, answered: 0 };
        let found = (0..on + off).map(|n| (AdapterId(n), adapter(n)));
        world.handle(Event::Discovered { adapters: found.collect() });
        (0..on).for_each(|n| world.turn_on(AdapterId(n), u64::from(n)));
        for client in (0..clients).map(ClientId) {
            let within = Duration::from_secs(3600);
            world.handle(Event::Announced { model: MODEL, client, within });
        }
        world
    }

    fn turn_on(&mut self, adapter: AdapterId, n: u64) {
        self.handle(Event::ModeSet { adapter, mode: AdapterMode::On });
        let incarnation = Incarnation(1);
        self.handle(Event::Ready { adapter, incarnation, speed: 0 });
        let took =
            |rows: u32| (rows, Duration::from_micros(1000 + 100 * n + 500 * u64::from(rows)));
        let measured = vec![took(1), took(MAX_ROWS)];
        let model = MODEL;
        let (bytes, tuning) = (0, None);
        self.handle(Event::Loaded { adapter, incarnation, model, bytes, measured, tuning });
        self.handle(Event::ModeSet { adapter, mode: AdapterMode::Auto });
    }

    fn handle(&mut self, event: Event) {
        self.scheduler.handle(self.now, event);
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Run { adapter, incarnation, batch } => {
                    self.running.push_back((adapter, incarnation, batch.id));
                }
                Action::Answer { .. } => self.answered += 1,
                Action::Reject { reason, .. } => panic!("{reason:?}"),
                Action::Stop { .. } => panic!("an adapter is stopped"),
                _ => {}
            }
        }
        // The driver calls this after every event.
        std::hint::black_box(self.scheduler.next_timeout());
    }

    fn arrive(&mut self) {
        self.requests += 1;
        self.now = self.now + Duration::from_micros(1);
        self.handle(Event::Arrived(Arrival {
            request: RequestId(self.requests),
            model: MODEL,
            client: ClientId(self.requests % self.clients),
            shape: Shape::default(),
            rows: 1,
            priority: 0,
            deadline: self.requests.is_multiple_of(2).then(|| self.now + Duration::from_secs(3600)),
            continues: false,
        }));
    }

    /// Finishes the oldest batch, and adds as many requests as it had.
    fn step(&mut self) {
        self.now = self.now + Duration::from_micros(300);
        let (adapter, incarnation, batch) = self.running.pop_front().expect("something runs");
        let before = self.answered;
        self.handle(Event::Done { adapter, incarnation, batch });
        (before..self.answered).for_each(|_| self.arrive());
    }
}

fn settings(policy: &str, max: usize) -> Settings {
    let hour = Duration::from_secs(3600);
    let policy = match policy {
        "cost" => Policy::Cost {
            goal: Goal::Balanced,
            price_mj: 1 << 40,
            late_penalty_mj: 0,
            starts_per_hour: 120,
        },
        _ => Policy::Concurrency { target: 2, scale_down_delay: hour, scale_to_zero_delay: hour },
    };
    Settings {
        policy,
        min: 0,
        max,
        queue_requests_max: 20_000,
        queue_rows_max: 20_000,
        retries_max: 2,
        backoff: Duration::from_secs(1),
        backoff_max: hour,
        quarantine_wait_max: hour,
        early_starts: true,
        timeouts: Timeouts { heartbeat: hour, start: hour, run: hour, stop: hour, kill: hour },
    }
}

fn adapter(n: u32) -> AdapterProfile {
    let power = Power { idle_mw: 10_000, active_mw: 100_000, start_mw: 50_000 };
    let cold_start = Duration::from_secs(1);
    AdapterProfile {
        rank: n,
        role: Role::Regular,
        speed: 100,
        cold_start,
        power,
        memory: None,
        slots: 1,
    }
}
