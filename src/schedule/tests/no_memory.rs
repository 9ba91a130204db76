//! Lack of device memory: fewer rows at once, or another adapter.

use super::*;

/// Rows of the batch that an adapter runs; 0 if it runs none.
fn running(bench: &Bench, adapter: AdapterId) -> u32 {
    bench.parts(adapter).iter().map(|(_, _, rows)| rows).sum()
}

/// One adapter that runs a request of eight rows at once.
fn eight() -> Bench {
    let mut bench = Bench::one();
    bench.serve(profile(8)).set_mode(ONE, AdapterMode::On).request().ready(ONE, 1).done(ONE);
    bench.request_with(|arrival| arrival.rows = 8);
    assert_eq!(running(&bench, ONE), 8);
    bench
}

/// Its worker exits and another one starts.
fn revived(bench: &mut Bench) -> u32 {
    bench.exited(ONE).check(ONE, "quarantined", &[]);
    let Lifecycle::Quarantined { until, .. } = bench.view(ONE).state.lifecycle else {
        panic!("waits")
    };
    let wait = until.since(bench.now);
    bench.after(wait).check(ONE, "starting", &["start 1"]);
    bench.ready(ONE, 1);
    running(bench, ONE)
}

#[test]
fn a_batch_for_which_there_is_no_memory_runs_again_in_halves() {
    let mut bench = eight();
    bench.no_memory(ONE).check(ONE, "stopping", &["kill 1"]);
    assert_eq!(bench.view(ONE).last_fault, Some(Fault::Memory));
    assert_eq!(revived(&mut bench), 4);
    bench.done(ONE).check(ONE, "busy", &["collect 1", "run 1"]);
    assert_eq!(running(&bench, ONE), 4);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 2"]);
    // Also later.
    bench.request_with(|arrival| arrival.rows = 8);
    assert_eq!(running(&bench, ONE), 4);
}

#[test]
fn halving_is_no_retry_and_ends_where_a_single_row_does_not_fit() {
    let mut bench = eight();
    bench.scheduler.world.settings.retries_max = 0;
    for rows in [4, 2, 1] {
        bench.no_memory(ONE);
        assert_eq!(revived(&mut bench), rows);
    }
    bench.no_memory(ONE).check(ONE, "stopping", &["kill 1", "reject"]);
}

#[test]
fn batch_without_memory_runs_on_another_adapter() {
    let mut bench = Bench::pair(8, (10, 20), (50, 100));
    bench.request();
    assert_eq!(running(&bench, ONE), 1);
    bench.no_memory(ONE).check(TWO, "busy", &["kill 1", "run 2"]);
    bench.done(TWO).exited(ONE).request().check(TWO, "busy", &["run 2"]);
}

#[test]
fn a_load_for_which_there_is_no_memory_is_tried_for_fewer_rows() {
    for (rows, max_rows) in [(8, 4), (5, 4), (2, 1), (1, 8), (0, 8)] {
        let mut bench = Bench::one();
        bench.serve(profile(8)).set_mode(ONE, AdapterMode::On).opened(ONE).check(
            ONE,
            "loading",
            &["load 1 0"],
        );
        let incarnation = bench.incarnation(ONE);
        bench.on(Event::NoMemory { adapter: ONE, incarnation, model: MODEL, rows });
        bench.check(ONE, "stopping", &["kill 1"]);
        // By then there may be memory again for what does not fit at all.
        bench.exited(ONE).after(ms(500)).check(ONE, "starting", &["start 1"]);
        bench.opened(ONE).check(ONE, "loading", &["load 1 0"]);
        assert_eq!(
            estimates::max_rows(&bench.scheduler.world, ONE, MODEL),
            max_rows,
            "{rows} rows"
        );
    }
}

#[test]
fn the_limit_is_forgotten_when_memory_may_be_free_again() {
    let mut bench = eight();
    bench.no_memory(ONE);
    assert_eq!(revived(&mut bench), 4);
    bench.done(ONE).done(ONE).set_mode(ONE, AdapterMode::Off).exited(ONE);
    bench.after(ms(4000)).set_mode(ONE, AdapterMode::On).ready(ONE, 1);
    bench.request_with(|arrival| arrival.rows = 8);
    assert_eq!(running(&bench, ONE), 8);
}

#[test]
fn a_largest_batch_that_is_no_power_of_two_is_cut_to_one() {
    let mut bench = Bench::one();
    bench.serve(profile(13)).set_mode(ONE, AdapterMode::On).request().ready(ONE, 1).done(ONE);
    bench.request_with(|arrival| arrival.rows = 13);
    bench.no_memory(ONE);
    assert_eq!(revived(&mut bench), 8);
}

#[test]
fn adapter_that_failed_to_load_the_model_is_not_started_for_it() {
    let mut bench = Bench::two();
    bench.scheduler.world.settings.max = 1;
    bench.scheduler.world.settings.policy =
        Policy::Concurrency { target: 1, scale_down_delay: ms(100), scale_to_zero_delay: ms(100) };
    bench.request().opened(ONE).load_failed(ONE).check(ONE, "idle", &["reject"]);
    bench.after(ms(1000)).check(ONE, "stopping", &["stop 1"]);
    bench.exited(ONE).request().check(TWO, "starting", &["start 2"]);
}

/// Found by faults injected into a real server: the only events were arrivals, which end no wait
/// for a model.
#[test]
fn failed_load_expires_without_other_events() {
    let mut bench = Bench::idle();
    bench.request().no_memory(ONE).exited(ONE).after(ms(500));
    bench.set_mode(ONE, AdapterMode::Off).set_mode(ONE, AdapterMode::Auto);
    bench.request_with(|arrival| arrival.rows = 1);
    assert_ne!(bench.actions, ["reject"]);
    let mut bench = Bench::one();
    bench.request().opened(ONE).load_failed(ONE).set_mode(ONE, AdapterMode::Off).exited(ONE);
    bench.set_mode(ONE, AdapterMode::Auto).request().check(ONE, "off", &["reject"]);
    let due = bench.scheduler.next_timeout().expect("it wakes up");
    bench.after(due.since(bench.now)).request().check(ONE, "starting", &["start 1"]);
}

#[test]
fn a_request_waits_for_memory_as_long_as_for_an_adapter() {
    let mut bench = Bench::idle();
    bench.request().no_memory(ONE).check(ONE, "stopping", &["kill 1"]);
    bench.exited(ONE).after(ms(500)).check(ONE, "starting", &["start 1"]);
    let mut bench = Bench::idle();
    bench.scheduler.world.settings.quarantine_wait_max = ms(499);
    bench.request().no_memory(ONE).check(ONE, "stopping", &["kill 1", "reject"]);
}

#[test]
fn fewer_rows_are_remembered_until_they_have_been_tried() {
    let mut bench = eight();
    // As long as it ever waits.
    bench.scheduler.world.settings.backoff_max = ms(500);
    bench.no_memory(ONE);
    assert_eq!(revived(&mut bench), 4);
    bench.no_memory(ONE);
    assert_eq!(revived(&mut bench), 2);
}

#[test]
fn requests_do_not_wait_for_an_adapter_that_never_has_memory() {
    let mut bench = Bench::one();
    bench.serve(profile(8)).request();
    for _ in 0..20 {
        bench.opened(ONE);
        let incarnation = bench.incarnation(ONE);
        bench.on(Event::NoMemory { adapter: ONE, incarnation, model: MODEL, rows: 8 });
        if bench.actions.contains(&"reject".to_owned()) {
            return;
        }
        // It is started later than what it ran is remembered to be too much.
        bench.exited(ONE).after(ms(13_000));
    }
    panic!("it still waits");
}
