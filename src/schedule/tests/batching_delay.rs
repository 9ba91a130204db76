//! The order of requests, shared batches, and the batching delay.

use super::*;

/// An idle adapter with batches of up to `max_rows` rows and a batching delay of 50 ms.
fn delayed(max_rows: u32) -> Bench {
    let mut bench = Bench::idle();
    bench.serve(ModelProfile { delay: ms(50), ..profile(max_rows) });
    bench
}

/// Sends a request with rows of a shape of their own.
fn shaped(bench: &mut Bench, number: u64, rows: u32) {
    bench.request_with(|arrival| (arrival.shape.number, arrival.rows) = (number, rows));
}

#[test]
fn far_deadline_does_not_delay_a_request() {
    let mut bench = Bench::busy();
    let deadline = bench.now + ms(10_000);
    bench
        .serve(profile(1))
        .request_with(|arrival| arrival.deadline = Some(deadline))
        .request()
        .done(ONE);
    assert_eq!(bench.parts(ONE), [(3, 0, 1)]);
}

#[test]
fn lost_request_keeps_its_place() {
    let mut bench = Bench::one();
    bench.serve(profile(1)).request().request().ready(ONE, 1);
    bench.exited(ONE).after(ms(500)).ready(ONE, 1);
    assert_eq!(bench.parts(ONE), [(1, 0, 1)]);
}

#[test]
fn rows_that_were_lost_go_before_the_rest_of_their_request() {
    let mut bench = Bench::one();
    bench.serve(profile(4)).request_with(|arrival| arrival.rows = 12).ready(ONE, 1);
    bench.done(ONE).exited(ONE).after(ms(500)).ready(ONE, 1);
    assert_eq!(bench.parts(ONE), [(1, 4, 4)]);
}

#[test]
fn request_that_fits_into_a_batch_is_not_split_to_fill_another() {
    let mut bench = Bench::busy();
    bench.serve(profile(4));
    for rows in [3, 3, 9] {
        bench.request_with(|arrival| arrival.rows = rows);
    }
    bench.done(ONE);
    assert_eq!(bench.parts(ONE), [(3, 0, 3)]);
    // The third has to be cut anyway.
    bench.done(ONE);
    assert_eq!(bench.parts(ONE), [(4, 0, 3), (5, 0, 1)]);
}

#[test]
fn unlike_shapes_run_apart() {
    let mut bench = Bench::busy();
    shaped(&mut bench, 1, 1);
    shaped(&mut bench, 2, 1);
    bench.done(ONE);
    assert_eq!(bench.parts(ONE), [(3, 0, 1)]);
}

#[test]
fn first_request_runs_after_the_batching_delay() {
    let mut bench = delayed(8);
    bench.request().check(ONE, "idle", &[]);
    assert_eq!(bench.scheduler.next_timeout(), Some(bench.now + ms(50)));
    bench.after(ms(50)).check(ONE, "busy", &["run 1"]);
}

#[test]
fn bisected_requests_skip_the_batching_delay() {
    let mut bench = delayed(2);
    bench.request().request().failed(ONE);
    assert_eq!(bench.parts(ONE), [(2, 0, 1)]);
    bench.done(ONE);
    assert_eq!(bench.parts(ONE), [(3, 0, 1)]);
}

#[test]
fn a_batch_that_is_no_longer_full_waits_again() {
    let mut bench = delayed(2);
    for _ in 0..4 {
        bench.request();
    }
    bench.on(Event::Cancelled { request: RequestId(5) });
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 2", "answer 3"]);
    bench.after(ms(50)).check(ONE, "busy", &["run 1"]);
}

#[test]
fn a_lower_limit_fills_batches_that_wait() {
    let mut bench = delayed(8);
    bench.request().request().check(ONE, "idle", &[]);
    let model = ModelProfile { delay: ms(50), ..profile(2) };
    bench.serve(model).check(ONE, "busy", &["run 1"]);
}

#[test]
fn full_batch_does_not_overtake_a_request_with_expired_delay() {
    let mut bench = delayed(2);
    shaped(&mut bench, 1, 2);
    shaped(&mut bench, 2, 1);
    bench.after(ms(50));
    shaped(&mut bench, 3, 2);
    bench.done(ONE);
    assert_eq!(bench.parts(ONE), [(3, 0, 1)]);
}

#[test]
fn shutdown_ends_the_batching_delay() {
    let mut bench = delayed(8);
    let deadline = bench.now + ms(60_000);
    bench.request().on(Event::Shutdown { deadline }).check(ONE, "draining", &["run 1"]);
}
