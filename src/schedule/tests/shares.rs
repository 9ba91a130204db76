//! Fair shares between clients.

use super::super::lists::End;
use super::super::queue_key::QueueKey;
use super::memory::OTHER;
use super::*;

const MUCH: ClientId = ClientId(1);
const LITTLE: ClientId = ClientId(2);
const OTHERS: ClientId = ClientId(3);

impl Bench {
    fn of(&mut self, client: ClientId) -> &mut Bench {
        self.request_with(|arrival| arrival.client = client)
    }

    fn waiting(&self) -> Vec<u64> {
        let mut ids: Vec<_> = self.scheduler.world.queue.ids().iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the requests answered by the next batches, one text per batch.
    fn answers(&mut self, batches: usize) -> Vec<String> {
        let answered = |actions: &Vec<String>| {
            let answers = actions.iter().filter_map(|word| word.strip_prefix("answer "));
            answers.collect::<Vec<_>>().join(" ")
        };
        (0..batches).map(|_| answered(&self.done(ONE).actions)).collect()
    }
}

/// One adapter that runs a row at a time, busy with the first request, of the default client.
fn single() -> Bench {
    let mut bench = Bench::one();
    bench.serve(profile(1)).request().opened(ONE).loaded(ONE, MODEL, &[(1, ms(10))]);
    bench
}

#[test]
fn client_with_few_requests_does_not_wait_for_one_with_many() {
    let mut bench = single();
    for _ in 0..4 {
        bench.of(MUCH);
    }
    bench.of(LITTLE).of(LITTLE);
    assert_eq!(bench.answers(7), ["1", "2", "6", "3", "7", "4", "5"]);
}

#[test]
fn batch_holds_rows_of_all_clients() {
    let mut bench = Bench::busy();
    for _ in 0..4 {
        bench.of(MUCH);
    }
    bench.of(LITTLE);
    assert_eq!(bench.answers(4), ["2", "3 7", "4 5", "6"]);
}

#[test]
fn idle_client_saves_up_no_share() {
    let mut bench = single();
    for _ in 0..7 {
        bench.of(MUCH);
    }
    assert_eq!(bench.answers(4), ["1", "2", "3", "4"]);
    for _ in 0..3 {
        bench.of(LITTLE);
    }
    assert_eq!(bench.answers(7), ["5", "6", "9", "7", "10", "8", "11"]);
}

#[test]
fn share_of_a_client_is_remembered_over_a_short_pause() {
    let mut bench = single();
    for _ in 0..5 {
        bench.of(MUCH);
    }
    let shape = Shape { number: 1, size: 2 };
    bench.request_with(|arrival| (arrival.client, arrival.shape) = (LITTLE, shape));
    assert_eq!(bench.answers(3), ["1", "2", "7"]);
    // It was served as much as four of the others take.
    bench.of(LITTLE);
    assert_eq!(bench.answers(5), ["3", "4", "5", "6", "8"]);
}

#[test]
fn single_client_is_served_by_due_time() {
    let mut bench = single();
    bench.of(MUCH);
    let soon = bench.now + ms(50);
    bench.request_with(|arrival| (arrival.client, arrival.deadline) = (MUCH, Some(soon)));
    assert_eq!(bench.answers(3), ["1", "3", "2"]);
}

#[test]
fn priority_takes_precedence_over_shares() {
    let mut bench = single();
    bench.of(LITTLE);
    for _ in 0..2 {
        bench.request_with(|arrival| (arrival.client, arrival.priority) = (MUCH, 1));
    }
    assert_eq!(bench.answers(4), ["1", "3", "4", "2"]);
}

#[test]
fn rows_and_their_sizes_count() {
    let mut bench = single();
    let sized = |size| Shape { number: u64::from(size), size };
    for _ in 0..2 {
        bench.request_with(|arrival| (arrival.client, arrival.shape) = (MUCH, sized(2)));
    }
    for _ in 0..5 {
        bench.request_with(|arrival| (arrival.client, arrival.shape) = (LITTLE, sized(1)));
    }
    assert_eq!(bench.answers(8), ["1", "2", "4", "5", "3", "6", "7", "8"]);
}

#[test]
fn every_row_counts() {
    let mut bench = Bench::busy();
    for (client, rows) in [(MUCH, 2), (MUCH, 2), (LITTLE, 1), (LITTLE, 1), (LITTLE, 1)] {
        bench.request_with(|arrival| (arrival.client, arrival.rows) = (client, rows));
    }
    assert_eq!(bench.answers(5), ["2", "3", "5 6", "4", "7"]);
}

#[test]
fn shares_are_those_of_one_model() {
    let mut bench = single();
    bench.add(OTHER, profile(1)).of(MUCH).of(MUCH);
    assert_eq!(bench.answers(2), ["1", "2"]);
    // Service of the first model does not count for the other.
    bench.request_with(|arrival| (arrival.client, arrival.model) = (LITTLE, OTHER));
    bench.request_with(|arrival| (arrival.client, arrival.model) = (MUCH, OTHER));
    bench.done(ONE).took(OTHER, 10, 10);
    assert_eq!(bench.answers(2), ["4", "5"]);
}

#[test]
fn models_share_the_time_of_an_adapter_too() {
    let mut bench = single();
    bench.add(OTHER, profile(1)).want(OTHER).done(ONE).took(OTHER, 10, 10);
    for model in [MODEL, MODEL, MODEL, MODEL, OTHER, OTHER] {
        bench.want(model);
    }
    assert_eq!(bench.answers(7), ["2", "3", "7", "4", "8", "5", "6"]);
}

#[test]
fn first_arrival_decides_between_equally_served_models() {
    let mut bench = Bench::one();
    bench.add(OTHER, profile(1)).want(OTHER).request().opened(ONE);
    bench.check(ONE, "loading", &["load 1 1"]);
}

#[test]
fn lost_batches_do_not_count_as_served() {
    let mut bench = single();
    bench.of(MUCH).of(MUCH).of(LITTLE);
    bench.done(ONE).exited(ONE).after(ms(500)).opened(ONE).loaded(ONE, MODEL, &[]);
    assert_eq!(bench.answers(3), ["2", "4", "3"]);
}

#[test]
fn late_rows_are_counted_in_turn() {
    let mut bench = single();
    for client in [MUCH, MUCH, MUCH, LITTLE] {
        bench.after(ms(1)).of(client);
    }
    let key = QueueKey { model: MODEL, shape: Shape::default(), group: 0 };
    let now = bench.now + ms(100);
    let before: Vec<_> =
        bench.scheduler.world.queue.dues(key).map(|(due, _)| now.since(due)).collect();
    assert_eq!(before, [3, 0, 2, 1].map(ms));
}

#[test]
fn back_of_the_queue_is_the_last_request_of_all_clients() {
    let mut bench = single();
    bench.of(MUCH).of(LITTLE).of(MUCH);
    let key = QueueKey { model: MODEL, shape: Shape::default(), group: 0 };
    let at = |bench: &Bench, end| bench.scheduler.world.queue.at(key, end);
    assert_eq!(at(&bench, End::Back), Some(RequestId(3)));
    bench.done(ONE);
    assert_eq!(
        (at(&bench, End::Front), at(&bench, End::Back)),
        (Some(RequestId(3)), Some(RequestId(4)))
    );
}

#[test]
fn share_counts_in_every_queue() {
    let mut bench = single();
    for number in [0, 1, 0, 1] {
        let shape = Shape { number, size: 0 };
        bench.request_with(|arrival| (arrival.client, arrival.shape) = (MUCH, shape));
    }
    for number in [1, 0] {
        let shape = Shape { number, size: 0 };
        bench.request_with(|arrival| (arrival.client, arrival.shape) = (LITTLE, shape));
    }
    assert_eq!(bench.answers(7), ["1", "2", "6", "3", "7", "4", "5"]);
}

/// A queue that four requests or 20 rows fill; one adapter that is busy with the first request.
fn small() -> Bench {
    let mut bench = Bench::bounded(4, 20);
    bench.serve(profile(1)).request().opened(ONE).loaded(ONE, MODEL, &[(1, ms(10))]);
    bench
}

#[test]
fn client_with_the_largest_share_loses_its_newest_request() {
    let mut bench = small();
    for _ in 0..4 {
        bench.of(MUCH);
    }
    bench.of(LITTLE).check(ONE, "busy", &["reject"]);
    assert_eq!(bench.waiting(), [2, 3, 4, 6]);
    bench.of(LITTLE).check(ONE, "busy", &["reject"]);
    assert_eq!(bench.waiting(), [2, 3, 6, 7]);
    // Now both hold as much.
    bench.of(LITTLE).of(MUCH).check(ONE, "busy", &["reject"]);
    assert_eq!(bench.waiting(), [2, 3, 6, 7]);
}

#[test]
fn client_with_an_equal_share_loses_nothing() {
    let mut bench = small();
    bench.of(MUCH).of(MUCH).of(LITTLE).of(OTHERS).of(LITTLE).check(ONE, "busy", &["reject"]);
    assert_eq!(bench.waiting(), [2, 3, 4, 5]);
}

#[test]
fn requests_that_left_the_queue_do_not_count() {
    let mut bench = small();
    bench.of(MUCH).of(MUCH).of(MUCH).of(MUCH).done(ONE).done(ONE).done(ONE);
    bench.of(LITTLE).of(LITTLE).of(LITTLE);
    assert_eq!(bench.waiting(), [5, 6, 7, 8]);
    bench.of(OTHERS);
    assert_eq!(bench.waiting(), [5, 6, 7, 9]);
}

#[test]
fn client_with_the_most_rows_loses_requests_too() {
    let mut bench = small();
    bench.of(LITTLE);
    for (client, rows) in [(MUCH, 9), (MUCH, 9), (LITTLE, 5)] {
        bench.request_with(|arrival| (arrival.client, arrival.rows) = (client, rows));
    }
    bench.check(ONE, "busy", &["reject"]);
    assert_eq!(bench.waiting(), [2, 3, 5]);
    // No request is evicted for a client that would hold more.
    bench.request_with(|arrival| (arrival.client, arrival.rows) = (LITTLE, 9));
    assert_eq!(bench.waiting(), [2, 3, 5]);
}

#[test]
fn request_that_runs_in_part_is_not_evicted() {
    let mut bench = small();
    bench.request_with(|arrival| (arrival.client, arrival.rows) = (MUCH, 20)).done(ONE);
    assert_eq!(bench.parts(ONE), [(2, 0, 1)]);
    bench.request_with(|arrival| (arrival.client, arrival.rows) = (LITTLE, 5));
    assert_eq!(bench.waiting(), [2]);
}
