//! Requests that run in several time slices: the next one is admitted whatever waits.

use super::*;

/// One adapter that runs a request; two more wait and fill the queue.
fn full() -> Bench {
    let mut bench = Bench::bounded(2, 2);
    bench.serve(profile(1)).set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.loaded(ONE, MODEL, &[(1, ms(10))]);
    bench.request().request().request().check(ONE, "busy", &[]);
    bench
}

#[test]
fn next_time_slice_is_admitted_though_the_queue_is_full() {
    let mut bench = full();
    bench.request().check(ONE, "busy", &["reject"]);
    bench.request_with(|arrival| arrival.continues = true).check(ONE, "busy", &[]);
    bench.done(ONE).done(ONE).done(ONE);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 5"]);
}

#[test]
fn request_has_the_same_number_in_its_next_time_slice() {
    let mut bench = Bench::idle();
    for _ in 0..3 {
        bench.request_with(|arrival| {
            arrival.request = RequestId(7);
            arrival.continues = true;
        });
        bench.check(ONE, "busy", &["run 1"]);
        bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 7"]);
    }
}

#[test]
fn next_time_slice_is_no_arrival_of_a_client() {
    let mut bench = Bench::idle();
    bench.request_with(|arrival| arrival.client = ClientId(3)).done(ONE);
    let learned = |bench: &Bench| format!("{:?}", bench.scheduler.world.popularity);
    let before = learned(&bench);
    bench.request_with(|arrival| arrival.continues = true).done(ONE);
    assert_eq!(learned(&bench), before);
    bench.request();
    assert_ne!(learned(&bench), before);
}

#[test]
fn deadline_and_shutdown_hold_for_the_next_time_slice() {
    let mut bench = Bench::idle();
    let (now, late) = (bench.now, ["late 9"]);
    bench.request_with(|arrival| {
        (arrival.request, arrival.continues, arrival.deadline) = (RequestId(9), true, Some(now));
    });
    bench.check(ONE, "idle", &late);
    bench.on(Event::Shutdown { deadline: now + ms(1000) });
    bench.request_with(|arrival| arrival.continues = true);
    assert_eq!(bench.actions, ["reject"]);
}
