//! The `cost` policy: starts of adapters, and the time at which they turn off.

use super::*;

/// A bench under the `cost` policy. Starts take 1 s at 5 W, idling costs 1 W: break-even is 5 s.
fn bench(adapters: &[(AdapterId, AdapterProfile)]) -> Bench {
    let mut bench = Bench::new(&[]);
    let mut settings = bench.scheduler.world.settings.clone();
    settings.policy =
        Policy::Cost { goal: Goal::Balanced, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 3 };
    bench.scheduler = Scheduler::new(settings, [(MODEL, profile(1))].into());
    bench.on(Event::Discovered { adapters: adapters.to_vec() });
    bench
}

fn cheap() -> AdapterProfile {
    let power = Power { idle_mw: 1000, active_mw: 5000, start_mw: 1000 };
    AdapterProfile { power, speed: 1000, ..adapter(0, false) }
}

impl Bench {
    /// Opens after its cold start and loads; a batch takes 10 ms.
    fn starts_and_loads(&mut self, adapter: AdapterId) -> &mut Bench {
        self.after(ms(1000)).opened(adapter);
        if self.state(adapter) == "loading" {
            self.loaded(adapter, MODEL, &[(1, ms(10))]);
        }
        self
    }
}

#[test]
fn from_nothing_the_cheapest_starts_that_is_in_time_or_else_the_soonest() {
    let soon = AdapterProfile { cold_start: ms(10), ..adapter(0, false) };
    let mut late = bench(&[(ONE, cheap()), (TWO, soon)]);
    // A load takes about 300 ms and the target is 100 ms: no adapter meets it.
    late.request().check(TWO, "starting", &["start 2"]);
    let mut delayed = bench(&[(ONE, cheap()), (TWO, soon)]);
    delayed.serve(ModelProfile { slo: ms(60_000), ..profile(1) });
    delayed.request().check(ONE, "starting", &["start 1"]);
}

#[test]
fn second_adapter_starts_only_when_the_target_would_be_missed() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.request().starts_and_loads(ONE).after(ms(10)).done(ONE);
    // Rows that arrive during the start are left to it; later rows are not.
    bench.after(ms(1500));
    for _ in 0..10 {
        bench.request();
    }
    assert_eq!(bench.state(TWO), "off", "ten batches of 10 ms are done in 100 ms");
    bench.request();
    assert_eq!(bench.state(TWO), "starting");
}

#[test]
fn no_second_adapter_starts_for_rows_that_a_starting_one_can_serve() {
    let three = AdapterId(3);
    let all = [ONE, TWO, three].map(|id| (id, adapter(0, false)));
    let mut bench = bench(&all);
    for _ in 0..50 {
        bench.request();
    }
    let starting =
        |bench: &Bench| all.iter().filter(|(id, _)| bench.state(*id) == "starting").count();
    assert_eq!(starting(&bench), 1);
}

#[test]
fn two_start_together_where_one_was_not_enough_lately() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.request().starts_and_loads(ONE).after(ms(10)).done(ONE).after(ms(1500));
    for _ in 0..11 {
        bench.request();
    }
    assert_eq!(bench.state(TWO), "starting");
    for _ in 0..11 {
        bench.after(ms(10)).done(ONE);
    }
    bench.starts_and_loads(TWO);
    for _ in 0..2 {
        bench.after(ms(6000));
        for id in [ONE, TWO] {
            if bench.state(id) == "stopping" {
                bench.exited(id);
            }
        }
    }
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("off", "off"));
    // One adapter serves this many rows within 1.75 times the target.
    for _ in 0..17 {
        bench.request();
    }
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("off", "starting"));
    bench.request();
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("starting", "starting"));
}

#[test]
fn no_adapter_starts_during_shutdown_if_it_would_be_ready_too_late() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.request().starts_and_loads(ONE).after(ms(10)).done(ONE).after(ms(1500));
    let deadline = bench.now + ms(60_000);
    for _ in 0..10 {
        bench.request();
    }
    bench.on(Event::Shutdown { deadline });
    // The waiting rows are late by now, but done long before a second adapter could be ready.
    bench.after(ms(90)).done(ONE).check(ONE, "busy", &["collect 1", "answer 2", "run 1"]);
    assert_eq!(bench.state(TWO), "off");
}

#[test]
fn adapter_starts_during_shutdown_if_it_can_help_in_time() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.set_mode(TWO, AdapterMode::Off).request().after(ms(1000)).opened(ONE);
    bench.loaded(ONE, MODEL, &[(1, ms(100))]).after(ms(100)).done(ONE).after(ms(1500));
    for _ in 0..50 {
        bench.request();
    }
    let deadline = bench.now + ms(60_000);
    bench.on(Event::Shutdown { deadline }).set_mode(TWO, AdapterMode::Auto);
    assert_eq!(bench.state(TWO), "starting");
}

#[test]
fn adapter_turns_off_when_idling_has_cost_as_much_as_a_start() {
    let mut bench = bench(&[(ONE, adapter(0, false))]);
    bench.serve(ModelProfile { slo: ms(60_000), ..profile(1) });
    bench.request().starts_and_loads(ONE).done(ONE);
    bench.after(ms(4990)).check(ONE, "idle", &[]);
    let next = bench.scheduler.next_timeout().expect("it will turn off");
    assert!(next.since(bench.now) < ms(30), "{next:?}");
    bench.after(ms(30)).check(ONE, "stopping", &["stop 1"]);
}

#[test]
fn unneeded_adapter_turns_off_and_the_other_stays_on() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench
        .set_mode(ONE, AdapterMode::On)
        .set_mode(TWO, AdapterMode::On)
        .starts_and_loads(ONE)
        .starts_and_loads(TWO);
    bench.set_mode(ONE, AdapterMode::Auto).set_mode(TWO, AdapterMode::Auto);
    // Requests one after another: one adapter is enough. The second took 2 s to start.
    for _ in 0..150 {
        bench.request();
        let busy = [ONE, TWO].into_iter().find(|id| bench.state(*id) == "busy");
        bench.after(ms(10)).done(busy.expect("someone runs it")).after(ms(90));
    }
    let states = [bench.state(ONE), bench.state(TWO)];
    let served = states.iter().filter(|state| **state == "idle").count();
    assert_eq!(served, 1, "{states:?}");
}

#[test]
fn needed_adapters_stay_on() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.serve(ModelProfile { slo: ms(12), ..profile(1) });
    bench
        .set_mode(ONE, AdapterMode::On)
        .set_mode(TWO, AdapterMode::On)
        .starts_and_loads(ONE)
        .starts_and_loads(TWO);
    bench.set_mode(ONE, AdapterMode::Auto).set_mode(TWO, AdapterMode::Auto);
    // Always two at once: one adapter would be late for the second.
    for _ in 0..700 {
        bench.request().request().after(ms(10)).done(ONE).done(TWO);
    }
    assert_eq!([bench.state(ONE), bench.state(TWO)], ["idle", "idle"]);
}

#[test]
fn starts_are_capped_unless_no_adapter_is_on() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.set_mode(ONE, AdapterMode::On).starts_and_loads(ONE);
    for starts in 0..5 {
        bench.after(ms(2000));
        for _ in 0..30 {
            bench.request();
        }
        let expected = if starts < 3 { "starting" } else { "off" };
        assert_eq!(bench.state(TWO), expected, "after {starts} starts");
        for _ in 0..30 {
            bench.after(ms(10)).done(ONE);
        }
        bench.set_mode(TWO, AdapterMode::Off).exited(TWO).set_mode(TWO, AdapterMode::Auto);
    }
    bench.set_mode(ONE, AdapterMode::Off).exited(ONE).request().check(
        TWO,
        "starting",
        &["start 2"],
    );
}

#[test]
fn where_a_start_makes_requests_late_their_penalty_adds_to_the_wait() {
    let mut bench = bench(&[(ONE, adapter(0, false))]);
    if let Policy::Cost { late_penalty_mj, .. } = &mut bench.scheduler.world.settings.policy {
        *late_penalty_mj = 3000;
    }
    for _ in 0..9 {
        bench.request();
    }
    // All nine miss their 100 ms.
    bench.starts_and_loads(ONE).after(ms(10));
    for _ in 0..9 {
        bench.done(ONE);
    }
    // 1 late request was assumed, 9 are known of the last start: (0.2 * 1 + 0.8 * 9) * 3 J and 5 J of
    // a start are 27.2 J, or 27.2 s at 1 W.
    bench.after(ms(27_100)).check(ONE, "idle", &[]);
    bench.after(ms(200)).check(ONE, "stopping", &["stop 1"]);
}

/// Returns the idle seconds of an adapter that starts in 1 s at 5 W, with this penalty in joules:
/// nine requests, each of which takes 10 ms, wait for its start.
fn stays_for(slo: u64, penalty: u64, missed_before: bool) -> u64 {
    let mut bench = bench(&[(ONE, adapter(0, false))]);
    bench.serve(ModelProfile { slo: ms(slo), ..profile(1) });
    bench.scheduler.world.settings.timeouts.heartbeat = ms(36_000_000);
    if let Policy::Cost { late_penalty_mj, .. } = &mut bench.scheduler.world.settings.policy {
        *late_penalty_mj = penalty * 1000;
    }
    if missed_before {
        // A price of e^8 J for a late request.
        let late_price = Some((8_000_000, 0));
        let policy = LearnedPolicy { late_price, ..LearnedPolicy::default() };
        bench.on(Event::PolicyRestored { policy, down: ms(0) });
    }
    (0..9).for_each(|_| {
        bench.request();
    });
    bench.starts_and_loads(ONE).after(ms(10));
    for _ in 0..9 {
        bench.done(ONE);
    }
    let begin = bench.now;
    while bench.state(ONE) == "idle" {
        bench.after(ms(1000));
    }
    bench.now.since(begin).as_secs()
}

#[test]
fn where_a_start_just_misses_the_target_late_requests_are_worth_more() {
    // 1.01 s from the request to its answer: within 2 s, of 0.6 s or of 0.1 s.
    let waits = [2000, 600, 100].map(|slo| stays_for(slo, 1000, false));
    assert_eq!(waits, [5, 3600, 3005], "break-even; at most an hour; 3000 J and a start");
    let waits = [2000, 600, 100].map(|slo| stays_for(slo, 100, true));
    assert_eq!(waits, [600, 1800, 745], "ten minutes, half an hour, a start and 7.4 penalties");
}

#[test]
fn learned_values_survive_a_restart() {
    let mut first = bench(&[(ONE, adapter(0, false))]);
    first.request().starts_and_loads(ONE).after(ms(10)).done(ONE);
    let memory = first.scheduler.learned_profile(first.now, ONE).expect("it is known");
    assert_eq!(memory.cold_start, Some(ms(1000)));
    let mut second = bench(&[(ONE, adapter(0, false))]);
    second.on(Event::ProfileRestored { adapter: ONE, profile: memory.clone() });
    let restored = second.scheduler.learned_profile(second.now, ONE).expect("it is known");
    assert_eq!(restored.cold_start, memory.cold_start);
    assert_eq!(restored.replicas[0].1.load, memory.replicas[0].1.load);
    let alpha = |memory: &LearnedProfile| memory.replicas[0].1.service_times[0].1.alpha_ns / 1000;
    assert_eq!(alpha(&restored), alpha(&memory));
}

/// One that serves at 10 ms a row, and two that are off, of this speed by their class, with this
/// power at a start and while computing.
fn choice(first: (u64, u64, u64), second: (u64, u64, u64)) -> Bench {
    let profile = |(speed, start_mw, active_mw)| {
        let power = Power { idle_mw: 1000, active_mw, start_mw };
        AdapterProfile { power, speed, ..adapter(1, false) }
    };
    let three = (AdapterId(3), profile(second));
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, profile(first)), three]);
    bench.set_mode(ONE, AdapterMode::On).starts_and_loads(ONE).after(ms(2000));
    bench
}

/// Requests `rows` rows at once; returns the starts for them.
fn started(bench: &mut Bench, rows: u32) -> Vec<String> {
    bench.request_with(|arrival| arrival.rows = rows);
    bench.actions.iter().filter(|word| word.starts_with("start")).cloned().collect()
}

#[test]
fn adapter_that_starts_can_serve_the_load() {
    // In its start of 1 s the cheap one would serve 10 rows of 100 ms, the other 100.
    let mut few = choice((10, 100, 10), (100, 5000, 5000));
    assert_eq!(started(&mut few, 15), ["start 2"]);
    let mut many = choice((10, 100, 10), (100, 5000, 5000));
    assert_eq!(started(&mut many, 40), ["start 3"]);
}

#[test]
fn fastest_adapter_starts_if_none_can_serve_the_load() {
    let mut bench = choice((10, 100, 10), (50, 5000, 5000));
    assert_eq!(started(&mut bench, 95)[0], "start 3");
}

#[test]
fn a_start_costs_energy_and_so_does_running() {
    let mut short = choice((100, 10_000, 1000), (100, 1000, 2000));
    assert_eq!(started(&mut short, 15), ["start 3"]);
    let mut long = choice((100, 1000, 100_000), (100, 2000, 1000));
    assert_eq!(started(&mut long, 90), ["start 3"]);
}

#[test]
fn adapter_that_is_in_time_starts_before_a_cheaper_one() {
    let soon = AdapterProfile { cold_start: ms(10), ..adapter(0, false) };
    let mut bench = bench(&[(ONE, cheap()), (TWO, soon)]);
    bench.serve(ModelProfile { slo: ms(600), ..profile(1) });
    bench.request().check(TWO, "starting", &["start 2"]);
}

#[test]
fn adapter_does_not_start_for_a_model_that_does_not_fit() {
    let small = AdapterProfile { memory: Some(15), ..adapter(0, false) };
    let large = ModelProfile { bytes: 20, ..profile(1) };
    let mut off = bench(&[(ONE, small), (TWO, adapter(0, false))]);
    off.serve(large).request().check(TWO, "starting", &["start 2"]);
    // Nor does it resume for it: the first adapter holds one of the models only.
    let other = ModelId(1);
    let mut bench = bench(&[(ONE, small), (TWO, adapter(0, false))]);
    bench.serve(large).on(Event::ModelAdded { model: other, profile: profile(1) });
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).loaded(ONE, other, &[]);
    bench.request_with(|arrival| arrival.model = other).check(ONE, "busy", &["run 1"]);
    bench.set_mode(ONE, AdapterMode::Off).set_mode(ONE, AdapterMode::Auto).check(
        ONE,
        "draining",
        &[],
    );
    bench.request().check(ONE, "draining", &["start 2"]);
}

#[test]
fn no_more_adapters_start_than_the_maximum() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.scheduler.world.settings.max = 1;
    bench.request().starts_and_loads(ONE).after(ms(2000));
    for _ in 0..90 {
        bench.request();
    }
    assert_eq!(bench.state(TWO), "off");
}

#[test]
fn the_target_counts_from_the_arrival() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    bench.request().starts_and_loads(ONE).after(ms(10)).done(ONE).after(ms(1500));
    for _ in 0..6 {
        bench.request();
    }
    // Five of 10 ms would be done in 100 ms, but half of that goes by without an answer.
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("busy", "off"));
    bench.after(ms(50)).check(TWO, "starting", &["start 2"]);
}

#[test]
fn models_share_the_time_of_an_adapter() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(0, false))]);
    let other = ModelId(1);
    bench.on(Event::ModelAdded { model: other, profile: profile(1) });
    bench
        .set_mode(ONE, AdapterMode::On)
        .starts_and_loads(ONE)
        .loaded(ONE, other, &[(1, ms(10))])
        .after(ms(2000));
    for _ in 0..7 {
        bench.request();
    }
    bench
        .request_with(|arrival| arrival.model = other)
        .request_with(|arrival| arrival.model = other);
    assert_eq!(bench.state(TWO), "off", "six and two are done in time");
    for _ in 0..3 {
        bench.request_with(|arrival| arrival.model = other);
    }
    assert_eq!(bench.state(TWO), "starting");
}

#[test]
fn adapter_replaced_by_a_fallback_starts_again() {
    let mut bench = bench(&[(ONE, adapter(0, false)), (TWO, adapter(9, true))]);
    bench.request().faulted(ONE).exited(ONE).check(TWO, "starting", &[]);
    // The fallback would be in time for it.
    bench.starts_and_loads(TWO);
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("starting", "busy"));
}
