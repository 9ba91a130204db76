//! The rows of the state table, and what the simulation is too coarse to see.

use super::*;
use std::collections::BTreeMap;
use std::time::Duration;

const ONE: AdapterId = AdapterId(1);
const TWO: AdapterId = AdapterId(2);
const MODEL: ModelId = ModelId(0);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A scheduler with a hand on its clock.
struct Bench {
    scheduler: Scheduler,
    now: Time,
    /// What the last event brought about, in words.
    said: Vec<String>,
    requests: u64,
}

impl Bench {
    /// One adapter wanted per row; surplus lasts 100 ms, 1000 ms for the last adapter.
    fn new(adapters: &[(AdapterId, u32, bool)]) -> Bench {
        let settings = Settings {
            policy: Policy::Concurrency { target: 1, min: 0, max: 8 },
            scale_down_delay: ms(100),
            scale_to_zero_delay: ms(1000),
            queue_requests_max: 100,
            queue_rows_max: 100,
            retries_max: 3,
            backoff: ms(500),
            backoff_max: ms(4000),
            patience: ms(60_000),
            bounds: Bounds {
                silence: ms(60_000),
                start: ms(60_000),
                run: ms(60_000),
                stop: ms(300),
                reap: ms(300),
            },
        };
        let model = ModelProfile { max_rows: 2, delay: Duration::ZERO };
        let scheduler = Scheduler::new(settings, BTreeMap::from([(MODEL, model)]));
        // Not at the beginning of time: a duration since then must not pass for one since now.
        let mut bench = Bench { scheduler, now: Time(ms(10_000)), said: Vec::new(), requests: 0 };
        let profile = |rank, fallback| AdapterProfile { rank, fallback };
        let adapters = adapters.iter().map(|(id, rank, fallback)| (*id, profile(*rank, *fallback)));
        bench.on(Event::Discovered { adapters: adapters.collect() });
        bench
    }

    fn one() -> Bench {
        Bench::new(&[(ONE, 0, false)])
    }

    fn two() -> Bench {
        Bench::new(&[(ONE, 0, false), (TWO, 1, false)])
    }

    fn on(&mut self, event: Event) -> &mut Bench {
        self.scheduler.handle(self.now, event);
        self.said.clear();
        while let Some(action) = self.scheduler.poll_action() {
            self.said.extend(word(&action));
        }
        self
    }

    fn after(&mut self, wait: Duration) -> &mut Bench {
        self.now = self.now + wait;
        self.on(Event::Timeout)
    }

    fn request(&mut self) -> &mut Bench {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.on(Event::Arrived { request, model: MODEL, shape: Shape(0), rows: 1 })
    }

    fn life(&self, adapter: AdapterId) -> Incarnation {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        view.map(|(_, view)| view.incarnation).unwrap_or_default()
    }

    fn ready(&mut self, adapter: AdapterId, speed: u64) -> &mut Bench {
        let incarnation = self.life(adapter);
        let (loaded, failed) = (vec![MODEL], Vec::new());
        self.on(Event::Ready { adapter, incarnation, loaded, failed, speed })
    }

    fn done(&mut self, adapter: AdapterId) -> &mut Bench {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        let batch = view.and_then(|(_, view)| view.state.batch().map(|batch| batch.id));
        let incarnation = self.life(adapter);
        let batch = batch.expect("a batch is with the adapter");
        self.on(Event::Done { adapter, incarnation, batch })
    }

    fn faulted(&mut self, adapter: AdapterId) -> &mut Bench {
        let incarnation = self.life(adapter);
        self.on(Event::Faulted { adapter, incarnation, fault: Fault::Device })
    }

    fn exited(&mut self, adapter: AdapterId) -> &mut Bench {
        let incarnation = self.life(adapter);
        self.on(Event::Exited { adapter, incarnation })
    }

    fn wished(&mut self, adapter: AdapterId, wish: Wish) -> &mut Bench {
        self.on(Event::Wished { adapter, wish })
    }

    fn state(&self, adapter: AdapterId) -> &'static str {
        let view = self.scheduler.adapters().find(|(id, _)| *id == adapter);
        view.map_or("unknown", |(_, view)| view.state.as_str())
    }

    /// Where the last event led, and what was said.
    #[track_caller]
    fn check(&self, adapter: AdapterId, state: &str, said: &[&str]) {
        assert_eq!((self.state(adapter), &self.said[..]), (state, &strings(said)[..]));
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
        bench.wished(ONE, Wish::Off);
        bench
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::Start { adapter, .. } => format!("start {}", adapter.0),
        Action::Run { adapter, .. } => format!("run {}", adapter.0),
        Action::Stop { adapter, .. } => format!("stop {}", adapter.0),
        Action::Kill { adapter, .. } => format!("kill {}", adapter.0),
        Action::Answer { adapter, .. } => format!("answer {}", adapter.0),
        Action::Reject { .. } => "reject".to_owned(),
        Action::Discard { .. } => "discard".to_owned(),
        Action::Decided(_) => return None,
    })
}

#[test]
fn off_starts_when_too_few_are_on_or_by_the_operators_on() {
    Bench::one().request().check(ONE, "starting", &["start 1"]);
    Bench::one().wished(ONE, Wish::On).check(ONE, "starting", &["start 1"]);
}

#[test]
fn starting_becomes_idle_or_stops_by_the_operators_off_or_shutdown() {
    Bench::one().wished(ONE, Wish::On).ready(ONE, 1).check(ONE, "idle", &[]);
    Bench::one().request().wished(ONE, Wish::Off).check(ONE, "stopping", &["reject", "stop 1"]);
    let deadline = Time(ms(60_000));
    let mut bench = Bench::one();
    bench.wished(ONE, Wish::On).on(Event::Shutdown { deadline });
    bench.check(ONE, "stopping", &["stop 1"]);
}

#[test]
fn idle_runs_a_batch_or_stops_after_a_surplus() {
    Bench::idle().request().check(ONE, "busy", &["run 1"]);
    Bench::idle().after(ms(999)).check(ONE, "idle", &[]);
    Bench::idle().after(ms(1000)).check(ONE, "stopping", &["stop 1"]);
    Bench::idle().wished(ONE, Wish::Off).check(ONE, "stopping", &["stop 1"]);
}

#[test]
fn busy_becomes_idle_or_drains() {
    Bench::busy().done(ONE).check(ONE, "idle", &["answer 1"]);
    Bench::busy().wished(ONE, Wish::Off).check(ONE, "draining", &[]);
}

#[test]
fn draining_stops_or_is_taken_back() {
    Bench::draining().done(ONE).check(ONE, "stopping", &["stop 1", "answer 1"]);
    Bench::draining().wished(ONE, Wish::Auto).check(ONE, "busy", &[]);
    Bench::draining().wished(ONE, Wish::On).check(ONE, "busy", &[]);
}

#[test]
fn a_fault_kills_whatever_the_state() {
    Bench::one().request().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    Bench::idle().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    Bench::busy().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    Bench::draining().faulted(ONE).check(ONE, "stopping", &["kill 1", "reject"]);
}

#[test]
fn an_exit_unasked_is_a_fault_and_one_asked_for_is_none() {
    Bench::one().request().exited(ONE).check(ONE, "quarantined", &[]);
    Bench::idle().exited(ONE).check(ONE, "quarantined", &[]);
    Bench::busy().exited(ONE).check(ONE, "quarantined", &[]);
    Bench::idle().after(ms(1000)).exited(ONE).check(ONE, "off", &[]);
    Bench::idle().faulted(ONE).exited(ONE).check(ONE, "quarantined", &[]);
}

#[test]
fn one_that_does_not_stop_is_killed_and_then_given_up() {
    let mut bench = Bench::idle();
    bench.after(ms(1000)).check(ONE, "stopping", &["stop 1"]);
    bench.after(ms(300)).check(ONE, "stopping", &["kill 1"]);
    bench.after(ms(300)).check(ONE, "unreaped", &[]);
    bench.exited(ONE).check(ONE, "quarantined", &[]);
}

#[test]
fn a_quarantine_ends() {
    let mut bench = Bench::idle();
    bench.faulted(ONE).exited(ONE).after(ms(499)).check(ONE, "quarantined", &[]);
    bench.after(ms(1)).check(ONE, "off", &[]);
}

#[test]
fn the_best_class_and_then_the_fastest_goes_first() {
    let mut bench = Bench::new(&[(ONE, 1, false), (TWO, 0, false)]);
    bench.request().check(TWO, "starting", &["start 2"]);
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 0, false)]);
    bench.wished(ONE, Wish::On).wished(TWO, Wish::On).ready(ONE, 5).ready(TWO, 9);
    bench.request().check(TWO, "busy", &["run 2"]);
}

#[test]
fn the_slowest_is_let_go_first_and_after_the_whole_delay() {
    let mut bench = Bench::two();
    bench.request().ready(ONE, 1).request().ready(TWO, 1).done(ONE).done(TWO);
    bench.after(ms(99)).check(TWO, "idle", &[]);
    bench.after(ms(1)).check(TWO, "stopping", &["stop 2"]);
    assert_eq!(bench.state(ONE), "idle");
}

#[test]
fn one_that_drains_is_taken_back_before_another_is_started() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 1, false), (AdapterId(3), 2, false)]);
    bench.request().ready(ONE, 1).request().ready(TWO, 1).done(ONE);
    // The first is idle and the second busy; the surplus lets the second drain.
    bench.after(ms(100)).check(TWO, "draining", &[]);
    bench.request().check(TWO, "busy", &["run 1"]);
    assert_eq!(bench.state(AdapterId(3)), "off");
}

#[test]
fn what_the_operator_holds_on_is_no_surplus() {
    let mut bench = Bench::one();
    bench.wished(ONE, Wish::On).ready(ONE, 1).after(ms(5000)).check(ONE, "idle", &[]);
}

#[test]
fn a_full_batch_does_not_wait_for_company() {
    let mut bench = Bench::one();
    let model = ModelProfile { max_rows: 2, delay: ms(50) };
    bench.scheduler = Scheduler::new(bench.scheduler.settings.clone(), [(MODEL, model)].into());
    let profile = AdapterProfile { rank: 0, fallback: false };
    bench.on(Event::Discovered { adapters: vec![(ONE, profile)] });
    bench.wished(ONE, Wish::On).ready(ONE, 1);
    bench.request().check(ONE, "idle", &[]);
    bench.request().check(ONE, "busy", &["run 1"]);
    bench.done(ONE).request().after(ms(49)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "busy", &["run 1"]);
}

#[test]
fn the_stand_in_serves_while_nothing_else_can_and_hands_back() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 9, true)]);
    bench.request().check(TWO, "off", &["start 1"]);
    bench.faulted(ONE).check(TWO, "starting", &["kill 1", "start 2"]);
    bench.ready(TWO, 1).check(TWO, "busy", &["run 2"]);
    bench.exited(ONE).after(ms(500)).check(ONE, "starting", &["start 1"]);
    bench.ready(ONE, 1).check(TWO, "draining", &[]);
    bench.done(TWO).check(TWO, "stopping", &["stop 2", "answer 2"]);
}

#[test]
fn shutdown_finishes_what_was_admitted_and_stops_at_once() {
    let deadline = Time(ms(60_000));
    let mut bench = Bench::busy();
    bench.request().on(Event::Shutdown { deadline }).check(ONE, "busy", &[]);
    bench.done(ONE).check(ONE, "draining", &["answer 1", "run 1"]);
    bench.done(ONE).check(ONE, "stopping", &["stop 1", "answer 1"]);
    bench.request();
    assert!(bench.said.contains(&"reject".to_owned()));
}

#[test]
fn a_request_that_keeps_bringing_workers_down_runs_alone() {
    let mut bench = Bench::one();
    bench.request().request().ready(ONE, 1);
    for _ in 0..2 {
        bench.check(ONE, "busy", &["run 1"]);
        bench.exited(ONE).after(ms(4000)).ready(ONE, 1);
    }
    bench.check(ONE, "busy", &["run 1"]);
    assert_eq!(bench.scheduler.outstanding().in_flight.requests, 1);
}
