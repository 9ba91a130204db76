//! Admission of requests while the queue has free places.

use super::*;

/// One adapter that takes 10 ms for each row and is busy with the first of them; 20 more wait.
fn overloaded() -> Bench {
    let mut bench = Bench::one();
    bench.serve(profile(1)).request().opened(ONE).loaded(ONE, MODEL, &[(1, ms(10)); 3]);
    for _ in 0..20 {
        bench.request();
    }
    bench
}

/// Returns the actions for a request with a deadline in `time` milliseconds.
fn with(bench: &mut Bench, time: u64, change: impl FnOnce(&mut Arrival)) -> Vec<String> {
    let deadline = bench.now + ms(time);
    bench.request_with(|arrival| {
        arrival.deadline = Some(deadline);
        change(arrival);
    });
    bench.actions.clone()
}

const NOTHING: [&str; 0] = [];
const REFUSED: [&str; 1] = ["overload 22"];

#[test]
fn request_that_cannot_be_answered_in_time_is_rejected_at_once() {
    // All but the last are due before it.
    assert_eq!(with(&mut overloaded(), 150, |_| ()), REFUSED);
    // Nor if it would just be in time as predicted.
    assert_eq!(with(&mut overloaded(), 230, |_| ()), REFUSED);
    assert_eq!(with(&mut overloaded(), 300, |_| ()), NOTHING);
    assert_eq!(with(&mut overloaded(), 300, |arrival| arrival.rows = 10), REFUSED);
}

#[test]
fn overload_rejection_states_the_drain_time() {
    let mut bench = overloaded();
    let deadline = Some(bench.now + ms(150));
    let arrival = Arrival { deadline, ..arrival(RequestId(100)) };
    bench.scheduler.handle(bench.now, Event::Arrived(arrival));
    let Some(Action::Reject { reason: Reject::Overload { drain }, .. }) =
        bench.scheduler.poll_action()
    else {
        panic!("it is not turned away")
    };
    assert!((ms(200)..ms(250)).contains(&drain), "{drain:?}");
}

#[test]
fn only_rows_served_before_the_request_count() {
    // It is due before all others.
    assert_eq!(with(&mut overloaded(), 50, |_| ()), NOTHING);
    // Its client is served before most of the others.
    assert_eq!(with(&mut overloaded(), 150, |arrival| arrival.client = ClientId(7)), NOTHING);
    // But other clients have shares as well.
    let mut bench = overloaded();
    bench.request_with(|arrival| (arrival.client, arrival.rows) = (ClientId(7), 10));
    let actions =
        with(&mut bench, 150, |arrival| (arrival.client, arrival.rows) = (ClientId(8), 8));
    assert_eq!(actions, ["overload 23"]);
    // It is urgent.
    let urgent = |arrival: &mut Arrival| {
        (arrival.client, arrival.rows, arrival.priority) = (ClientId(8), 8, 1);
    };
    assert_eq!(with(&mut bench, 150, urgent), NOTHING);
}

#[test]
fn request_that_would_be_late_alone_is_not_rejected_for_overload() {
    assert_eq!(with(&mut overloaded(), 5, |_| ()), NOTHING);
    assert_eq!(with(&mut overloaded(), 150, |arrival| arrival.rows = 40), NOTHING);
}

#[test]
fn unmeasured_model_is_tried() {
    let mut bench = Bench::one();
    bench.serve(profile(1));
    for _ in 0..21 {
        bench.request();
    }
    assert_eq!(with(&mut bench, 1400, |_| ()), NOTHING);
}

#[test]
fn adapter_that_may_be_turned_on_counts_as_capacity() {
    for (start, actions) in [(20, &NOTHING[..]), (5000, &REFUSED[..])] {
        let mut bench = Bench::two();
        bench.serve(profile(1));
        for id in [ONE, TWO] {
            bench.set_mode(id, AdapterMode::On);
            bench.now = bench.now + ms(start);
            bench.opened(id).loaded(id, MODEL, &[(1, ms(10)); 3]);
        }
        bench.set_mode(TWO, AdapterMode::Off).exited(TWO).set_mode(TWO, AdapterMode::Auto);
        bench.scheduler.world.settings.policy = Policy::Manual { goal: Goal::Latency };
        for _ in 0..21 {
            bench.request();
        }
        assert_eq!(with(&mut bench, 200, |_| ()), actions);
    }
}
