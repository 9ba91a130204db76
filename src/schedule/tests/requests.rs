//! Priorities, deadlines, bisection, bounds.

use super::*;

#[test]
fn urgent_requests_run_first_and_then_by_due_time() {
    let mut bench = Bench::busy();
    bench.serve(profile(1));
    let now = bench.now;
    bench.request_with(|arrival| arrival.priority = 200);
    bench.request();
    bench.request_with(|arrival| arrival.deadline = Some(now + ms(90)));
    bench.request_with(|arrival| arrival.priority = 1);
    let mut order = Vec::new();
    for _ in 0..4 {
        bench.done(ONE);
        order.extend(bench.parts(ONE).iter().map(|part| part.0));
    }
    assert_eq!(order, [6, 5, 4, 3]);
}

#[test]
fn request_after_its_deadline_is_rejected_at_once() {
    let mut bench = Bench::idle();
    let now = bench.now;
    bench.request_with(|arrival| arrival.deadline = Some(now)).check(ONE, "idle", &["late 2"]);
}

#[test]
fn waiting_request_is_rejected_at_its_deadline() {
    let mut bench = Bench::busy();
    let deadline = bench.now + ms(50);
    bench.request_with(|arrival| arrival.deadline = Some(deadline)).check(ONE, "busy", &[]);
    assert_eq!(bench.scheduler.next_timeout(), Some(deadline));
    bench.after(ms(49)).check(ONE, "busy", &[]);
    bench.after(ms(1)).check(ONE, "busy", &["late 3"]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 2"]);
}

#[test]
fn answer_after_the_deadline_is_dropped() {
    let mut bench = Bench::idle();
    let deadline = bench.now + ms(50);
    bench.request_with(|arrival| arrival.deadline = Some(deadline)).check(ONE, "busy", &["run 1"]);
    bench.after(ms(50)).check(ONE, "busy", &["late 2"]);
    bench.done(ONE).check(ONE, "idle", &["collect 1"]);
}

/// Batches take 10 ms and 10 ms a row, and three of them were measured.
fn measured() -> Bench {
    let mut bench = Bench::idle();
    bench.serve(profile(8));
    for _ in 0..30 {
        for rows in [1, 8] {
            bench.request_with(|arrival| arrival.rows = rows);
            bench.after(ms(10 + 10 * u64::from(rows))).done(ONE);
        }
    }
    bench
}

#[test]
fn request_that_cannot_be_in_time_is_not_run() {
    let mut bench = measured();
    let deadline = bench.now + ms(5);
    bench.request_with(|arrival| arrival.deadline = Some(deadline)).check(
        ONE,
        "idle",
        &["late 62"],
    );
    let deadline = bench.now + ms(90);
    bench.request_with(|arrival| arrival.deadline = Some(deadline)).check(ONE, "busy", &["run 1"]);
}

#[test]
fn a_batch_stays_small_enough_for_its_first_request() {
    let mut bench = measured();
    bench.request();
    let deadline = bench.now + ms(75);
    bench.request_with(|arrival| arrival.deadline = Some(deadline));
    for _ in 0..6 {
        bench.request();
    }
    bench.after(ms(20)).done(ONE);
    let rows: u32 = bench.parts(ONE).iter().map(|part| part.2).sum();
    assert_eq!((bench.parts(ONE)[0].0, rows), (63, 2), "{:?}", bench.parts(ONE));
}

#[test]
fn one_bad_request_is_found_by_halves() {
    let mut bench = Bench::busy();
    bench.serve(profile(8));
    for _ in 0..8 {
        bench.request();
    }
    bench.done(ONE);
    let (mut batches, mut actions) = (0, Vec::new());
    while bench.state(ONE) == "busy" {
        batches += 1;
        assert!(batches < 20);
        if bench.parts(ONE).iter().any(|part| part.0 == 6) {
            bench.failed(ONE);
        } else {
            bench.done(ONE);
        }
        actions.extend(bench.actions.clone());
    }
    assert_eq!(actions.iter().filter(|word| word.starts_with("answer")).count(), 7);
    assert_eq!(actions.iter().filter(|word| *word == "bad 6").count(), 1);
    assert!(batches <= 8, "{batches} batches");
}

#[test]
fn a_bad_chunk_spoils_the_whole_request_once() {
    let mut bench = Bench::pair(4, (10, 40), (10, 40));
    bench.request_with(|arrival| arrival.rows = 8);
    bench.failed(TWO).check(TWO, "idle", &["bad 1"]);
    bench.done(ONE).check(ONE, "idle", &["collect 1"]);
    assert_eq!(bench.scheduler.outstanding(), Outstanding::default());
}

#[test]
fn full_queue_states_the_drain_time() {
    let mut bench = Bench::busy();
    for _ in 0..100 {
        bench.request();
    }
    bench.requests += 1;
    let arrival = arrival(RequestId(bench.requests));
    bench.scheduler.handle(bench.now, Event::Arrived(arrival));
    let Some(Action::Reject { reason: Reject::QueueFull { drain }, .. }) =
        bench.scheduler.poll_action()
    else {
        panic!("it was let in")
    };
    // Fifty batches of 11 ms each.
    assert!((ms(400)..ms(700)).contains(&drain), "{drain:?}");
}

#[test]
fn a_request_larger_than_the_queue_may_come_alone() {
    let mut bench = Bench::busy();
    bench.request_with(|arrival| arrival.rows = 500).check(ONE, "busy", &[]);
    bench.request().check(ONE, "busy", &["reject"]);
}

#[test]
fn full_queue_rejects_by_requests_as_well_as_by_rows() {
    let mut bench = Bench::bounded(2, 100);
    bench.request().ready(ONE, 1).check(ONE, "busy", &["run 1"]);
    bench.request().check(ONE, "busy", &[]);
    bench.request().check(ONE, "busy", &[]);
    bench.request().check(ONE, "busy", &["reject"]);
}

#[test]
fn request_after_its_deadline_is_rejected_as_such_even_if_the_queue_is_full() {
    let mut bench = Bench::busy();
    bench.scheduler.world.settings.queue_requests_max = 0;
    let now = bench.now;
    bench.request_with(|arrival| arrival.deadline = Some(now)).check(ONE, "busy", &["late 3"]);
}

#[test]
fn drain_time_includes_the_start() {
    let mut bench = Bench::one();
    bench.request();
    let drain = bench.scheduler.drain(bench.now);
    assert!((ms(1000)..ms(2000)).contains(&drain), "{drain:?}");
    bench.serve(ModelProfile { bytes: u64::MAX, ..profile(2) });
    assert_eq!(bench.scheduler.drain(bench.now), Duration::from_secs(3600));
}

#[test]
fn drain_time_includes_all_waiting_models() {
    let (mut bench, other) = (Bench::busy(), ModelId(1));
    bench.on(Event::ModelAdded { model: other, profile: profile(2) });
    bench.request_with(|arrival| (arrival.rows, arrival.model) = (40, MODEL));
    let before = bench.scheduler.drain(bench.now);
    // Its load alone takes longer.
    bench.request_with(|arrival| arrival.model = other);
    let drain = bench.scheduler.drain(bench.now);
    assert!(drain > before + ms(250), "{before:?} {drain:?}");
}

#[test]
fn unmeasured_model_is_tried() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1);
    let deadline = bench.now + ms(5);
    bench.request_with(|arrival| (arrival.rows, arrival.deadline) = (5, Some(deadline)));
    assert_eq!(bench.parts(ONE), [(1, 0, 2)]);
}

#[test]
fn request_is_left_to_an_adapter_that_meets_its_deadline() {
    let mut bench = Bench::two();
    bench.serve(profile(1));
    for (id, took) in [(ONE, ms(10)), (TWO, ms(60))] {
        bench.set_mode(id, AdapterMode::On).opened(id).loaded(id, MODEL, &[(1, took); 3]);
    }
    let deadline = bench.now + ms(25);
    bench.request().check(ONE, "busy", &["run 1"]);
    bench.request_with(|arrival| (arrival.priority, arrival.deadline) = (500, Some(deadline)));
    for _ in 0..10 {
        // The slow one would take it as the last, were it not for the deadline.
        bench.request().check(TWO, "idle", &[]);
    }
}

#[test]
fn a_caller_that_went_away_is_forgotten() {
    let mut bench = Bench::busy();
    bench.request().on(Event::Cancelled { request: RequestId(3) });
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 2"]);
    bench.request().on(Event::Cancelled { request: RequestId(4) });
    assert_eq!(bench.scheduler.outstanding(), Outstanding::default());
    bench.done(ONE).check(ONE, "idle", &["collect 1"]);
}

#[test]
fn end_of_an_unknown_batch_is_discarded() {
    let (mut bench, batch) = (Bench::busy(), BatchId(999));
    let incarnation = bench.incarnation(ONE);
    bench.on(Event::Done { adapter: ONE, incarnation, batch }).check(ONE, "busy", &["discard"]);
    for failure in [Failure::Device, Failure::Input] {
        bench.on(Event::Failed { adapter: ONE, incarnation, batch, failure });
        bench.check(ONE, "busy", &[]);
    }
}

#[test]
fn a_request_is_tried_as_often_as_it_may_be() {
    let mut bench = Bench::one();
    bench.request().ready(ONE, 1);
    for _ in 0..3 {
        bench.exited(ONE).after(ms(4000)).ready(ONE, 1).check(ONE, "busy", &["run 1"]);
    }
    bench.exited(ONE).check(ONE, "quarantined", &["reject"]);
}

#[test]
fn requests_lost_once_still_share_a_batch() {
    let mut bench = Bench::one();
    bench.request().request().ready(ONE, 1).exited(ONE).after(ms(500)).ready(ONE, 1);
    assert_eq!(bench.parts(ONE), [(1, 0, 1), (2, 0, 1)]);
}

#[test]
fn rest_of_a_failed_batch_runs_again_after_a_cancellation() {
    let mut bench = Bench::one();
    bench.request().request().ready(ONE, 1);
    bench.on(Event::Cancelled { request: RequestId(1) });
    bench.failed(ONE).check(ONE, "busy", &["run 1"]);
    bench.failed(ONE).check(ONE, "idle", &["bad 2"]);
}

#[test]
fn requests_of_a_removed_model_are_rejected() {
    let mut bench = Bench::busy();
    bench.request().on(Event::ModelRemoved { model: MODEL }).check(ONE, "busy", &["reject"]);
    // Nor does what comes back from its worker.
    bench.exited(ONE).check(ONE, "quarantined", &["reject"]);
    assert_eq!(bench.scheduler.outstanding(), Outstanding::default());
}

#[test]
fn request_with_two_parts_in_a_failed_batch_runs_again_once() {
    let mut bench = Bench::pair(4, (10, 20), (10, 20));
    let one = bench.scheduler.world.adapters.get_mut(&ONE).unwrap();
    one.known.entry(MODEL).or_default().rows_max = Some((2, Time::NEVER));
    bench.request_with(|arrival| arrival.rows = 3);
    assert_eq!((bench.parts(ONE), bench.parts(TWO)), (vec![(1, 0, 2)], vec![(1, 2, 1)]));
    bench.no_memory(ONE).faulted(TWO).request_with(|arrival| arrival.client = ClientId(2));
    bench.exited(TWO).after(ms(500)).opened(TWO).loaded(TWO, MODEL, &[(1, ms(10)), (4, ms(20))]);
    assert_eq!(bench.parts(TWO), [(1, 0, 2), (2, 0, 1), (1, 2, 1)]);
    bench.failed(TWO);
    assert_eq!(bench.parts(TWO), [(1, 0, 2), (1, 2, 1)]);
}
