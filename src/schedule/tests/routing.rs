//! Routing: predicted completion, the hold rule, chunks, models on demand.

use super::*;

const OTHER: ModelId = ModelId(1);

#[test]
fn a_slow_adapter_leaves_a_request_to_a_fast_one_that_is_soon_free() {
    let mut bench = Bench::pair(1, (10, 10), (40, 40));
    bench.request().check(ONE, "busy", &["run 1"]);
    // The fast one will be done with both in 20 ms, the slow one with this in 40.
    bench.request().check(TWO, "idle", &[]);
    bench.after(ms(10)).done(ONE).check(ONE, "busy", &["collect 1", "answer 1", "run 1"]);
}

#[test]
fn slow_adapter_takes_requests_that_a_fast_one_would_serve_later() {
    let mut bench = Bench::pair(1, (10, 10), (45, 45));
    for _ in 0..4 {
        bench.request();
    }
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("busy", "idle"));
    // Five on the fast one would take 50 ms, one on the slow one 45: the last one is better off with the slow one.
    bench.request().check(TWO, "busy", &["run 2"]);
    assert_eq!((bench.parts(ONE), bench.parts(TWO)), (vec![(1, 0, 1)], vec![(5, 0, 1)]));
    // The fast one goes on with the first.
    bench.after(ms(10)).done(ONE);
    assert_eq!(bench.parts(ONE), [(2, 0, 1)]);
}

#[test]
fn last_request_is_not_taken_before_its_batching_delay_is_over() {
    let mut bench = Bench::pair(2, (10, 11), (45, 46));
    bench.serve(ModelProfile { delay: ms(500), ..profile(2) });
    bench.request_with(|arrival| arrival.priority = 500);
    while bench.state(TWO) == "idle" {
        assert!(bench.requests < 100);
        bench.request_with(|arrival| arrival.shape.number = 1);
    }
    assert!(bench.parts(TWO).iter().all(|part| part.0 > 1), "{:?}", bench.parts(TWO));
}

/// Two adapters that have two models, of which batches take 10 ms on the one and 45 on the other.
fn two_models() -> Bench {
    let mut bench = Bench::pair(1, (10, 10), (45, 45));
    bench.on(Event::ModelAdded { model: OTHER, profile: profile(1) });
    bench.loaded(ONE, OTHER, &[(1, ms(10))]).loaded(TWO, OTHER, &[(1, ms(45))]);
    bench
}

#[test]
fn other_models_that_wait_take_a_fast_adapters_time_too() {
    let mut bench = two_models();
    bench.request().request().request();
    // With the fourth that waits the fast one needs 50 ms.
    for _ in 0..2 {
        assert_eq!((bench.state(ONE), bench.state(TWO)), ("busy", "idle"));
        bench.request_with(|arrival| arrival.model = OTHER);
    }
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("busy", "busy"));
}

#[test]
fn model_that_waits_does_not_delay_another() {
    let mut bench = Bench::pair(1, (10, 10), (45, 45));
    bench.request().request().check(TWO, "idle", &[]);
    bench.on(Event::ModelAdded { model: OTHER, profile: profile(1) });
    bench.set_mode(ONE, AdapterMode::On).loaded(TWO, OTHER, &[(1, ms(45))]);
    // The fast one does not have it.
    bench.request_with(|arrival| arrival.model = OTHER).check(TWO, "busy", &["run 2"]);
}

#[test]
fn urgent_requests_run_before_less_served_models() {
    let mut bench = two_models();
    bench.set_mode(TWO, AdapterMode::Off).request().request_with(|arrival| arrival.model = OTHER);
    bench.request_with(|arrival| arrival.priority = 1).after(ms(10)).done(ONE);
    assert_eq!(bench.parts(ONE), [(3, 0, 1)]);
}

#[test]
fn idle_model_saves_up_no_share() {
    let mut bench = two_models();
    bench.set_mode(TWO, AdapterMode::Off);
    for _ in 0..20 {
        bench.request().after(ms(10)).done(ONE);
    }
    for _ in 0..5 {
        bench.request();
    }
    for _ in 0..5 {
        bench.request_with(|arrival| arrival.model = OTHER);
    }
    let mut others = 0;
    for _ in 0..5 {
        bench.after(ms(10)).done(ONE);
        others += usize::from(bench.parts(ONE).iter().any(|part| part.0 > 25));
    }
    assert!((2..=3).contains(&others), "{others} of 5 are of the other model");
}

#[test]
fn earlier_due_time_decides_between_equally_served_models() {
    let mut bench = Bench::one();
    bench.on(Event::ModelAdded { model: OTHER, profile: profile(1) });
    bench.request_with(|arrival| arrival.model = OTHER).after(ms(1)).request();
    bench.opened(ONE).check(ONE, "loading", &["load 1 1"]);
}

#[test]
fn request_left_to_a_busy_adapter_is_reconsidered() {
    let mut bench = Bench::pair(1, (10, 10), (40, 40));
    bench.request().request().check(TWO, "idle", &[]);
    let mut waited = Duration::ZERO;
    while bench.state(TWO) == "idle" && waited < ms(1000) {
        let next = bench.scheduler.next_timeout().expect("it looks again");
        let wait = next.since(bench.now);
        waited += wait;
        bench.after(wait);
    }
    assert_eq!(bench.state(TWO), "busy");
    assert!(waited >= ms(10) && waited < ms(300), "{waited:?}");
}

#[test]
fn recheck_has_a_minimum_interval() {
    for took in 5..15 {
        let mut bench = Bench::pair(1, (took, took), (4 * took, 4 * took));
        bench.request().request().after(ms(took)).check(TWO, "idle", &[]);
        let next = bench.scheduler.next_timeout().expect("it looks again");
        assert!(next >= bench.now + ms(1), "{next:?}");
    }
}

#[test]
fn equal_adapters_share_the_queue() {
    let mut bench = Bench::pair(8, (10, 80), (10, 80));
    bench.request_with(|arrival| arrival.rows = 8).request_with(|arrival| arrival.rows = 8);
    for _ in 0..8 {
        bench.request();
    }
    bench.after(ms(40)).done(ONE);
    bench.after(ms(40)).done(TWO);
    let rows = |id| bench.parts(id).iter().map(|part| part.2).sum::<u32>();
    assert!(rows(ONE) > 0 && rows(TWO) > 0, "{:?} {:?}", bench.parts(ONE), bench.parts(TWO));
}

#[test]
fn a_large_request_is_cut_in_proportion_to_speeds() {
    let mut bench = Bench::pair(256, (1, 256), (1, 256));
    bench.request_with(|arrival| arrival.rows = 256);
    assert_eq!((bench.parts(ONE), bench.parts(TWO)), (vec![(1, 0, 128)], vec![(1, 128, 128)]));
    bench.after(ms(128)).done(TWO).check(TWO, "idle", &["collect 2"]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
    let mut bench = Bench::pair(256, (1, 256), (3, 768));
    bench.request_with(|arrival| arrival.rows = 256);
    let rows = [ONE, TWO].map(|id| bench.parts(id).iter().map(|part| part.2).sum::<u32>());
    assert_eq!(rows, [128, 64], "as buckets allow; the rest follows on the fast one");
}

#[test]
fn request_is_not_split_for_a_small_gain() {
    // 5 ms for nothing, 0.1 ms a row: two halves take 5.4 ms, the whole 5.8.
    let mut bench = Bench::pair(8, (51, 58), (51, 58));
    bench.request_with(|arrival| arrival.rows = 8);
    assert_eq!((bench.parts(ONE), bench.state(TWO)), (vec![(1, 0, 8)], "idle"));
}

#[test]
fn request_larger_than_a_batch_runs_in_several() {
    let mut bench = Bench::pair(4, (10, 40), (10, 40));
    bench.set_mode(TWO, AdapterMode::Off).exited(TWO);
    bench.request_with(|arrival| arrival.rows = 10);
    assert_eq!(bench.parts(ONE), [(1, 0, 4)]);
    bench.done(ONE).check(ONE, "busy", &["collect 1", "run 1"]);
    bench.done(ONE).check(ONE, "busy", &["collect 1", "run 1"]);
    assert_eq!(bench.parts(ONE), [(1, 8, 2)]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
}

#[test]
fn lost_chunk_runs_again_and_the_request_is_answered_once() {
    let mut bench = Bench::pair(4, (10, 40), (10, 40));
    bench.request_with(|arrival| arrival.rows = 8);
    assert_eq!((bench.parts(ONE), bench.parts(TWO)), (vec![(1, 0, 4)], vec![(1, 4, 4)]));
    bench.exited(TWO).check(TWO, "quarantined", &[]);
    bench.done(ONE).check(ONE, "busy", &["collect 1", "run 1"]);
    assert_eq!(bench.parts(ONE), [(1, 4, 4)]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
}

#[test]
fn model_is_loaded_on_request() {
    let other = ModelId(1);
    let mut bench = Bench::idle();
    bench.on(Event::ModelAdded { model: other, profile: profile(2) });
    bench.request_with(|arrival| arrival.model = other).check(ONE, "loading", &["load 1 1"]);
    bench.loaded(ONE, other, &[(1, ms(1))]).check(ONE, "busy", &["run 1"]);
}

/// An adapter with memory for one of two models.
fn narrow() -> Bench {
    let mut bench = Bench::idle();
    let profile = AdapterProfile { memory: Some(15), ..adapter(0, false) };
    bench.on(Event::Discovered { adapters: vec![(ONE, profile)] });
    bench.on(Event::ModelAdded { model: ModelId(1), profile: super::profile(2) });
    bench
}

#[test]
fn model_is_evicted_for_another_but_not_at_once() {
    let mut bench = narrow();
    bench.request_with(|arrival| arrival.model = ModelId(1)).check(ONE, "idle", &[]);
    let next = bench.scheduler.next_timeout().expect("it looks again");
    assert_eq!(next, bench.now + ms(1000));
    bench.after(ms(999)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "loading", &["unload 1 0", "load 1 1"]);
}

#[test]
fn removed_model_is_unloaded() {
    let mut bench = Bench::idle();
    bench.on(Event::ModelRemoved { model: MODEL }).check(ONE, "idle", &["unload 1 0"]);
    bench.request().check(ONE, "idle", &["reject"]);
}

#[test]
fn failed_load_is_retried_later() {
    let mut bench = Bench::one();
    bench.request().opened(ONE).check(ONE, "loading", &["load 1 0"]);
    bench.load_failed(ONE).check(ONE, "idle", &["reject"]);
    bench.request().check(ONE, "idle", &["reject"]);
    bench.after(ms(900)).request().check(ONE, "idle", &["reject"]);
    bench.after(ms(4000));
    bench.request();
    assert!(!bench.actions.contains(&"reject".to_owned()), "{:?}", bench.actions);
}

#[test]
fn models_share_an_adapter_by_time() {
    let other = ModelId(1);
    let mut bench = Bench::idle();
    bench.serve(profile(1)).on(Event::ModelAdded { model: other, profile: profile(1) });
    bench.request_with(|arrival| arrival.model = other).loaded(ONE, other, &[(1, ms(10))]);
    for _ in 0..20 {
        bench.request();
    }
    for _ in 0..3 {
        bench.request_with(|arrival| arrival.model = other);
    }
    // The few do not wait behind the many that came before them.
    let mut served = 0;
    for _ in 0..8 {
        bench.after(ms(10)).done(ONE);
        served += u64::from(bench.parts(ONE).iter().any(|part| part.0 > 22));
    }
    assert_eq!(served, 3);
}
