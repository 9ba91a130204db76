//! Faults and their backoff, heartbeat and progress timeouts, and restored values.

use super::*;

/// Timeouts: 100 ms for a heartbeat, 250 ms for a start, 400 ms for a batch.
fn watched(mut bench: Bench) -> Bench {
    let timeouts = &mut bench.scheduler.world.settings.timeouts;
    (timeouts.heartbeat, timeouts.start, timeouts.run) = (ms(100), ms(250), ms(400));
    bench.after(Duration::ZERO);
    bench
}

impl Bench {
    /// Sends timeouts until the scheduler kills the worker, which sends heartbeats every 40 ms if
    /// `lives`. Returns the time until then, and the fault.
    fn killed(&mut self, lives: bool) -> (Duration, Option<Fault>) {
        let (begin, mut alive) = (self.now, self.now);
        while !self.actions.contains(&"kill 1".to_owned()) {
            let next = self.scheduler.next_timeout().expect("it wakes up");
            assert!(next > self.now && next.since(begin) < ms(2000), "{next:?}");
            alive = alive + ms(40);
            if lives && alive < next {
                self.now = alive;
                self.on(Event::Heartbeat { adapter: ONE, incarnation: self.incarnation(ONE) });
            } else {
                self.now = next;
                self.on(Event::Timeout);
            }
        }
        (self.now.since(begin), self.view(ONE).last_fault)
    }

    /// Returns the length of the quarantine after one more fault; the adapter starts again after
    /// it.
    fn quarantine(&mut self) -> Duration {
        self.faulted(ONE).exited(ONE);
        let Lifecycle::Quarantined { until, .. } = self.view(ONE).state.lifecycle else {
            panic!("it is not in quarantine")
        };
        let wait = until.since(self.now);
        self.after(wait).check(ONE, "starting", &["start 1"]);
        wait
    }
}

#[test]
fn the_backoff_doubles_up_to_its_bound_and_success_ends_it() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On);
    let waits = [(); 5].map(|()| bench.quarantine());
    assert_eq!(waits, [500, 1000, 2000, 4000, 4000].map(ms));
    bench.ready(ONE, 1).request().done(ONE);
    assert_eq!(bench.quarantine(), ms(500));
    assert_eq!(quarantine::backoff(&bench.scheduler.world, u32::MAX), ms(4000));
}

#[test]
fn events_of_an_earlier_worker_are_ignored() {
    let mut bench = Bench::one();
    let incarnation = bench.set_mode(ONE, AdapterMode::On).incarnation(ONE);
    bench.quarantine();
    for event in [
        Event::Ready { adapter: ONE, incarnation, speed: 1 },
        Event::Faulted { adapter: ONE, incarnation, fault: Fault::Device },
        Event::Exited { adapter: ONE, incarnation },
    ] {
        bench.on(event).check(ONE, "starting", &[]);
    }
}

#[test]
fn faulty_worker_is_killed_once_and_its_later_events_are_ignored() {
    let mut bench = Bench::one();
    bench.request().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    bench.opened(ONE).check(ONE, "stopping", &[]);
    bench.faulted(ONE).check(ONE, "stopping", &[]);
    bench.after(ms(300)).check(ONE, "unreaped", &["reject"]);
}

#[test]
fn without_a_worker_there_are_no_models() {
    let mut bench = Bench::idle();
    assert_eq!((bench.view(ONE).replicas.len(), bench.view(ONE).bytes), (1, 10));
    bench.exited(ONE).check(ONE, "quarantined", &[]);
    assert_eq!(bench.view(ONE).replicas.len(), 0);
    let mut bench = Bench::idle();
    bench.set_mode(ONE, AdapterMode::Off).check(ONE, "stopping", &["stop 1"]);
    assert_eq!(bench.view(ONE).replicas.len(), 0);
}

#[test]
fn worker_without_heartbeat_is_killed_in_every_state() {
    let heartbeat_timeout = (ms(100), Some(Fault::HeartbeatTimeout));
    let mut starting = watched(Bench::one());
    assert_eq!(starting.request().killed(false), heartbeat_timeout);
    let mut idle = watched(Bench::idle());
    assert_eq!(idle.killed(false), heartbeat_timeout);
    let mut busy = watched(Bench::idle());
    assert_eq!(busy.request().killed(false), heartbeat_timeout);
}

#[test]
fn worker_without_progress_is_killed_despite_heartbeats() {
    let mut starting = watched(Bench::one());
    assert_eq!(starting.request().killed(true), (ms(250), Some(Fault::StartStuck)));
    let mut busy = watched(Bench::idle());
    assert_eq!(busy.request().killed(true), (ms(400), Some(Fault::RunStuck)));
}

#[test]
fn requests_do_not_wait_after_two_start_timeouts() {
    let mut bench = watched(Bench::one());
    bench.request().killed(true);
    bench.check(ONE, "stopping", &["kill 1"]);
    bench.exited(ONE).after(ms(500)).check(ONE, "starting", &["start 1"]);
    bench.killed(true);
    bench.check(ONE, "stopping", &["kill 1", "reject"]);
}

#[test]
fn progress_and_answers_extend_the_timeouts() {
    let mut bench = watched(Bench::one());
    bench.request().after(ms(90));
    bench.on(Event::Progress { adapter: ONE, incarnation: bench.incarnation(ONE) });
    assert_eq!(bench.killed(true), (ms(250), Some(Fault::StartStuck)));
    let mut bench = watched(Bench::busy());
    assert_eq!(
        bench.after(ms(90)).done(ONE).killed(false),
        (ms(100), Some(Fault::HeartbeatTimeout))
    );
}

#[test]
fn timeouts_expire_at_an_arrival_too() {
    let mut bench = watched(Bench::busy());
    bench.now = bench.now + ms(100);
    bench.request().check(ONE, "stopping", &["kill 1"]);
}

#[test]
fn slower_starts_move_the_estimate_more_than_faster_ones() {
    let mut bench = Bench::one();
    let mut start = |wait| {
        bench.set_mode(ONE, AdapterMode::On).after(ms(wait)).opened(ONE);
        bench.set_mode(ONE, AdapterMode::Off).exited(ONE);
        bench.view(ONE).cold_start.expect("it was measured").as_millis()
    };
    assert_eq!([start(1000), start(2000), start(500)], [1000, 1500, 1300]);
}

#[test]
fn restored_values_do_not_replace_measured_ones() {
    let line = ServiceTime { alpha_ns: 7_000_000, beta_ns: 0, spread_permille: 0 };
    let replica = LearnedReplica {
        load: Some(LearnedDuration { time: ms(7), estimated: false }),
        first_load: Some(ms(70)),
        bytes: Some(7),
        service_times: vec![(0, line), (4, line)],
    };
    let replicas = vec![(MODEL, replica.clone()), (ModelId(1), replica.clone())];
    let memory = LearnedProfile { cold_start: Some(ms(7)), replicas, ..LearnedProfile::default() };
    let mut bench = Bench::idle();
    let before = bench.scheduler.learned_profile(bench.now, ONE).expect("it is known");
    bench.on(Event::ProfileRestored { adapter: ONE, profile: memory });
    let after = bench.scheduler.learned_profile(bench.now, ONE).expect("it is known");
    assert_eq!(after.cold_start, before.cold_start);
    let known = |memory: &LearnedProfile| memory.replicas[0].1.clone();
    assert_eq!((known(&after).load, known(&after).bytes), (known(&before).load, Some(10)));
    assert_eq!(known(&after).service_times[0], known(&before).service_times[0]);
    assert_eq!(after.replicas[1].1.load, replica.load);
    assert_eq!(after.replicas[1].1.bytes, replica.bytes);
    // Values of a removed model are not kept.
    bench.on(Event::ModelRemoved { model: ModelId(1) });
    assert_eq!(
        bench.scheduler.learned_profile(bench.now, ONE).expect("it is known").replicas.len(),
        1
    );
}

#[test]
fn absent_adapter_is_not_started() {
    let mut bench = Bench::two();
    bench.listed(&[(TWO, adapter(1, false))]).request().check(TWO, "starting", &["start 2"]);
    let mut bench = Bench::one();
    bench.listed(&[]).set_mode(ONE, AdapterMode::On).check(ONE, "off", &[]);
}

#[test]
fn adapter_with_the_slower_probe_turns_off_first() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 0, false)]);
    bench
        .set_mode(ONE, AdapterMode::On)
        .set_mode(TWO, AdapterMode::On)
        .ready(TWO, 20)
        .ready(ONE, 10);
    bench.set_mode(ONE, AdapterMode::Auto).set_mode(TWO, AdapterMode::Auto).after(ms(100));
    assert_eq!([bench.state(ONE), bench.state(TWO)], ["stopping", "idle"]);
}

#[test]
fn requests_do_not_wait_for_an_adapter_that_fails_at_every_start() {
    let mut bench = Bench::one();
    bench.scheduler.world.settings.backoff_max = ms(500);
    bench.request();
    for _ in 0..3 {
        bench.faulted(ONE).check(ONE, "stopping", &["kill 1"]);
        bench.exited(ONE).after(ms(500)).check(ONE, "starting", &["start 1"]);
    }
    bench.faulted(ONE).check(ONE, "stopping", &["kill 1", "reject"]);
    // A later request starts it again.
    bench.exited(ONE).after(ms(500)).request().check(ONE, "starting", &["start 1"]);
}

/// Fails every adapter that is starting or loading, until a request is rejected.
fn fail_all(bench: &mut Bench) {
    for _ in 0..100 {
        let starting = [ONE, TWO].into_iter().find(|id| bench.view(*id).state.warms_up());
        match starting {
            Some(id) => {
                bench.faulted(id);
                let rejected = bench.actions.iter().any(|word| word == "reject");
                bench.exited(id);
                if rejected {
                    return;
                }
            }
            None => {
                bench.after(ms(100));
            }
        }
    }
    panic!("the request waits without end");
}

#[test]
fn requests_do_not_wait_if_all_adapters_fail_at_every_start() {
    let mut bench = Bench::two();
    // They are never all in quarantine at once.
    bench.scheduler.world.settings.backoff_max = ms(500);
    bench.request();
    fail_all(&mut bench);
    let consecutive_faults =
        |bench: &Bench, id| bench.scheduler.world.adapters[&id].consecutive_faults;
    assert!(
        consecutive_faults(&bench, ONE) > 3 && consecutive_faults(&bench, TWO) > 3,
        "each had its tries"
    );
    // The next request causes one more attempt, if one is due.
    bench.after(ms(1000)).request();
    assert_eq!(bench.actions, ["start 1"]);
    bench.faulted(ONE);
    assert!(bench.actions.contains(&"reject".to_owned()), "{:?}", bench.actions);
}

#[test]
fn requests_wait_for_a_serving_adapter_despite_earlier_faults() {
    let mut bench = Bench::two();
    bench.scheduler.world.settings.backoff_max = ms(500);
    bench.request();
    fail_all(&mut bench);
    bench.after(ms(1000)).request().ready(ONE, 1).request().check(TWO, "starting", &["start 2"]);
    bench.faulted(TWO);
    assert!(!bench.actions.contains(&"reject".to_owned()), "{:?}", bench.actions);
}

#[test]
fn earlier_faults_do_not_reject_a_later_request() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On);
    for _ in 0..4 {
        bench.faulted(ONE).exited(ONE).after(ms(4000));
    }
    bench.faulted(ONE).exited(ONE).after(ms(4000)).request();
    assert!(bench.actions.is_empty(), "{:?}", bench.actions);
    bench.ready(ONE, 1).check(ONE, "busy", &["run 1"]);
}

#[test]
fn a_fallback_stays_until_another_has_a_model() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 1, true)]);
    bench.request().faulted(ONE).check(TWO, "starting", &["kill 1", "start 2"]);
    bench.exited(ONE).opened(TWO).check(TWO, "loading", &["load 2 0"]);
    bench.after(ms(500)).opened(ONE).check(ONE, "loading", &["load 1 0"]);
    assert_eq!(bench.state(TWO), "loading", "the other may fail again");
    bench.loaded(ONE, MODEL, &[(1, ms(10))]);
    assert!(!bench.view(TWO).state.is_on(), "{}", bench.state(TWO));
}

#[test]
fn fallback_stays_on_while_the_regular_adapter_drains() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 1, true)]);
    bench.request().ready(ONE, 1).set_mode(ONE, AdapterMode::Off);
    bench.check(ONE, "draining", &["start 2"]);
    bench.request().opened(TWO).check(TWO, "loading", &["load 2 0"]);
}

#[test]
fn adapter_that_fails_repeatedly_gives_way_to_an_untried_one() {
    const THREE: AdapterId = AdapterId(3);
    for policy in [
        Policy::Concurrency { target: 1, scale_down_delay: ms(100), scale_to_zero_delay: ms(100) },
        Policy::Cost {
            goal: Goal::Balanced,
            price_mj: 0,
            late_penalty_mj: 0,
            starts_per_hour: 3000,
        },
    ] {
        let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 1, false), (THREE, 2, false)]);
        (bench.scheduler.world.settings.policy, bench.scheduler.world.settings.max) = (policy, 1);
        // The first two are never in quarantine at once.
        (bench.scheduler.world.settings.backoff, bench.scheduler.world.settings.backoff_max) =
            (ms(50), ms(50));
        bench.request();
        for _ in 0..20 {
            let failing = [ONE, TWO].into_iter().find(|id| bench.view(*id).state.is_on());
            let Some(id) = failing else { break };
            bench.after(ms(60)).faulted(id).exited(id);
        }
        assert_eq!(bench.state(THREE), "starting");
    }
}
