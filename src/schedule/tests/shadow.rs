//! An adapter that computed wrongly is compared with others before it answers again.

use super::memory::OTHER;
use super::*;

/// The first adapter has computed wrongly and is back; the second served meanwhile.
fn returned() -> Bench {
    let mut bench = Bench::pair(2, (10, 11), (100, 110));
    let incarnation = bench.incarnation(ONE);
    bench.on(Event::Faulted { adapter: ONE, incarnation, fault: Fault::WrongAnswer });
    bench.exited(ONE).after(ms(500)).opened(ONE).loaded(ONE, MODEL, &[]);
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("idle", "idle"));
    bench
}

#[test]
fn adapter_repeats_batches_of_others_until_three_agreed() {
    let mut bench = returned();
    for request in 1..=3 {
        // It would be far faster.
        bench.request().check(ONE, "idle", &["run 2"]);
        assert_eq!(bench.view(ONE).shadow_batches, 4 - request);
        let answer = format!("answer {request}");
        bench.done(TWO).check(ONE, "busy", &["run 1", "collect 2", &answer]);
        bench.done(ONE).check(ONE, "idle", &["discard"]);
    }
    bench.request().check(ONE, "busy", &["run 1"]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 4"]);
}

#[test]
fn adapter_in_shadow_runs_serves_if_no_other_can() {
    let mut bench = returned();
    bench.set_mode(TWO, AdapterMode::Off).exited(TWO).request().check(ONE, "busy", &["run 1"]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
    assert_eq!(bench.view(ONE).shadow_batches, 3, "there was nothing to compare with");
}

#[test]
fn another_adapter_starts_before_one_in_shadow_runs_answers() {
    let mut bench = returned();
    bench.set_mode(TWO, AdapterMode::Off).exited(TWO).set_mode(TWO, AdapterMode::Auto);
    bench.request().check(ONE, "idle", &["start 2"]);
    // It does not answer meanwhile either.
    bench.opened(TWO).check(ONE, "idle", &["load 2 0"]);
    bench.loaded(TWO, MODEL, &[(1, ms(100))]).check(ONE, "idle", &["run 2"]);
    bench.done(TWO).check(ONE, "busy", &["run 1", "collect 2", "answer 1"]);
}

#[test]
fn adapter_in_shadow_runs_answers_if_no_other_may_start() {
    let mut bench = returned();
    bench.scheduler.world.settings.max = 1;
    bench.set_mode(TWO, AdapterMode::Off).exited(TWO).set_mode(TWO, AdapterMode::Auto);
    bench.request().check(ONE, "busy", &["run 1"]);
}

#[test]
fn adapter_without_shadow_runs_starts_first() {
    for policy in [
        Policy::Concurrency { target: 1, scale_down_delay: ms(100), scale_to_zero_delay: ms(100) },
        Policy::Cost { goal: Goal::Balanced, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 },
    ] {
        let mut bench = returned();
        bench.scheduler.world.settings.policy = policy;
        for id in [ONE, TWO] {
            bench.set_mode(id, AdapterMode::Off).exited(id).set_mode(id, AdapterMode::Auto);
        }
        bench.scheduler.world.settings.max = 1;
        bench.request();
        assert_eq!((bench.state(ONE), bench.state(TWO)), ("off", "starting"));
        // It starts when all others are on: its batches have to be compared with others.
        bench.scheduler.world.settings.max = 2;
        bench.opened(TWO).loaded(TWO, MODEL, &[(1, ms(100))]);
        for _ in 0..20 {
            bench.request();
        }
        assert_eq!(bench.state(ONE), "starting");
    }
}

#[test]
fn requests_wait_for_an_adapter_that_is_stopping() {
    let mut bench = returned();
    bench.set_mode(TWO, AdapterMode::Off).set_mode(TWO, AdapterMode::Auto).check(
        TWO,
        "stopping",
        &[],
    );
    bench.request().check(ONE, "idle", &[]);
    bench.exited(TWO).check(TWO, "starting", &["start 2"]);
}

#[test]
fn adapters_in_shadow_runs_are_not_compared_with_each_other() {
    let mut bench = returned();
    let incarnation = bench.incarnation(TWO);
    bench.on(Event::Faulted { adapter: TWO, incarnation, fault: Fault::WrongAnswer });
    bench.exited(TWO).after(ms(500)).opened(TWO).loaded(TWO, MODEL, &[]);
    bench.request().check(ONE, "busy", &["run 1"]);
    bench.done(ONE).check(TWO, "idle", &["collect 1", "answer 1"]);
}

#[test]
fn repeated_batch_answers_no_request() {
    // It fails again.
    let mut bench = returned();
    bench.request().done(TWO);
    let incarnation = bench.incarnation(ONE);
    bench.on(Event::Faulted { adapter: ONE, incarnation, fault: Fault::WrongAnswer });
    bench.check(ONE, "stopping", &["kill 1"]);
    assert_eq!(bench.view(ONE).shadow_batches, 3);
    // The model fails on what the other could do.
    let mut bench = returned();
    bench.request_with(|arrival| arrival.rows = 6).done(TWO);
    assert_eq!((bench.parts(ONE), bench.parts(TWO)), (vec![(1, 0, 2)], vec![(1, 2, 2)]));
    bench.failed(ONE).check(ONE, "idle", &[]);
    // It dies under a part of a request that goes on.
    let mut bench = returned();
    bench.request_with(|arrival| arrival.rows = 6).done(TWO).exited(ONE).done(TWO);
    assert_eq!(bench.parts(TWO), [(1, 4, 2)]);
}

#[test]
fn batch_of_cancelled_requests_is_not_repeated() {
    let mut bench = returned();
    bench.request().on(Event::Cancelled { request: RequestId(1) });
    bench.done(TWO).check(ONE, "idle", &["collect 2"]);
}

#[test]
fn only_models_that_the_adapter_has_are_repeated() {
    let mut bench = returned();
    bench.add(OTHER, profile(2)).load_failed(ONE).loaded(TWO, OTHER, &[]);
    bench.want(OTHER).check(TWO, "busy", &["run 2"]);
    bench.done(TWO).check(ONE, "idle", &["collect 2", "answer 1"]);
}

#[test]
fn faults_without_wrong_answers_cause_no_shadow_runs() {
    let mut bench = Bench::pair(2, (10, 11), (100, 110));
    bench.faulted(ONE).exited(ONE).after(ms(500)).opened(ONE).loaded(ONE, MODEL, &[]);
    bench.request().check(ONE, "busy", &["run 1"]);
}

#[test]
fn answers_in_parts_are_not_compared() {
    let mut bench = returned();
    bench.serve(ModelProfile { decoupled: true, ..profile(2) });
    bench.request().check(ONE, "idle", &["run 2"]);
    bench.done(TWO).check(ONE, "idle", &["collect 2", "answer 1"]);
}
