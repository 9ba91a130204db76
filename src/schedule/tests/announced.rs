//! Clients that announce their requests.

use super::memory::OTHER;
use super::*;

impl Bench {
    fn announce(&mut self, client: u64, seconds: u64) -> &mut Bench {
        let within = Duration::from_secs(seconds);
        self.on(Event::Announced { model: MODEL, client: ClientId(client), within })
    }
}

#[test]
fn adapter_is_ready_for_an_announced_request() {
    let mut bench = super::early_start::bench();
    bench.announce(7, 100);
    assert_eq!(bench.state(ONE), "off");
    bench.pass(98);
    assert_eq!(bench.state(ONE), "off", "a start takes one second");
    bench.pass(2);
    assert_eq!(bench.state(ONE), "idle");
    bench.request_with(|arrival| arrival.client = ClientId(7)).check(ONE, "busy", &["run 1"]);
}

#[test]
fn the_model_of_an_announced_client_is_loaded_although_another_is_in_use() {
    let mut bench = super::early_start::bench();
    bench.add(OTHER, profile(4)).want(OTHER).after(ms(1000)).opened(ONE);
    bench.loaded(ONE, OTHER, &[(1, ms(10))]).after(ms(10)).done(ONE).announce(7, 10);
    for _ in 0..100 {
        bench.after(ms(90)).want(OTHER);
        if bench.state(ONE) == "loading" {
            return;
        }
        bench.after(ms(10)).done(ONE);
    }
    panic!("it is not loaded before the client comes");
}

#[test]
fn a_client_that_is_announced_now_is_started_for_at_once() {
    let mut bench = super::early_start::bench();
    bench.announce(7, 0).check(ONE, "starting", &["start 1"]);
}

#[test]
fn adapter_turns_off_after_an_unmet_announcement() {
    let mut bench = super::early_start::bench();
    bench.announce(7, 10).pass(10);
    assert_eq!(bench.state(ONE), "idle");
    bench.pass(12);
    assert_eq!(bench.state(ONE), "idle", "it may be a little late");
    bench.pass(7);
    assert_eq!(bench.state(ONE), "off");
}

#[test]
fn announcements_are_ignored_after_three_unmet_ones_until_a_request() {
    let mut bench = super::early_start::bench();
    let started = |bench: &mut Bench| {
        let incarnation = bench.announce(7, 10).incarnation(ONE);
        bench.pass(40);
        bench.incarnation(ONE) != incarnation
    };
    for _ in 0..3 {
        assert!(started(&mut bench));
    }
    assert!(!started(&mut bench));
    // Announcements of other clients count.
    let incarnation = bench.announce(8, 10).incarnation(ONE);
    bench.pass(40);
    assert_ne!(bench.incarnation(ONE), incarnation);
    bench.request_with(|arrival| arrival.client = ClientId(7)).pass(4000);
    assert_eq!(bench.state(ONE), "off");
    assert!(started(&mut bench));
}

#[test]
fn announcements_of_many_clients_take_no_more_memory_than_those_of_some() {
    let mut bench = super::early_start::bench();
    for client in 0..2_000 {
        bench.announce(client, 1_000_000_000);
    }
    assert!(bench.scheduler.learned(bench.now).clients.len() <= 65);
    assert_eq!(bench.state(ONE), "off");
}

#[test]
fn announcements_are_ignored_if_early_starts_are_disabled() {
    let mut bench = super::early_start::bench();
    bench.scheduler.world.settings.early_starts = false;
    bench.announce(7, 0);
    assert_eq!(bench.state(ONE), "off");
    bench.on(Event::Announced { model: ModelId(99), client: ClientId(7), within: ms(0) });
    assert_eq!(bench.state(ONE), "off");
}

#[test]
fn announcement_takes_precedence_over_the_forecast() {
    let mut bench = super::early_start::bench();
    bench.regular(600, 10);
    bench.request().announce(0, 120).pass(60);
    bench.pass(62);
    assert_eq!(bench.state(ONE), "idle", "it is due in some seconds, not in eight minutes");
}

#[test]
fn announcements_postponed_again_and_again_are_ignored() {
    let mut bench = super::early_start::bench();
    for _ in 0..10 {
        bench.announce(7, 1).pass(5);
    }
    bench.pass(40);
    assert_eq!(bench.state(ONE), "off");
    bench.announce(7, 1).pass(5);
    assert_eq!(bench.state(ONE), "off");
}

#[test]
fn an_announced_client_is_not_forgotten_for_others_that_were_seen_long_ago() {
    let mut bench = super::early_start::bench();
    for client in 100..170 {
        bench.request_with(|arrival| arrival.client = ClientId(client)).pass(20);
    }
    bench.pass(4000).announce(7, 100);
    bench.request_with(|arrival| arrival.client = ClientId(99)).pass(60);
    assert!(bench.scheduler.world.clients.expected_late_requests(MODEL, ClientId(7)).is_some());
    let known = bench.scheduler.learned(bench.now).clients;
    assert!(known.iter().any(|it| it.client == Some(ClientId(7))), "{}", known.len());
}

#[test]
fn adapter_that_served_others_stays_on_after_an_unmet_announcement() {
    let mut bench = super::early_start::bench();
    bench.announce(7, 5).pass(5);
    bench.request_with(|arrival| arrival.client = ClientId(7)).pass(2);
    // The start makes one request late, at 100 J: 105 s of idling.
    bench.announce(8, 1).pass(60);
    assert_eq!(bench.state(ONE), "idle");
}

/// A client that announces its request, is served, and announces the next one or none.
fn served(next: Option<u64>) -> Bench {
    let mut bench = super::early_start::bench();
    bench.announce(7, 10).pass(10);
    bench.request_with(|arrival| arrival.client = ClientId(7)).pass(1);
    if let Some(next) = next {
        bench.announce(7, next);
    }
    bench
}

#[test]
fn adapter_turns_off_early_after_an_announced_client_was_served() {
    // It makes one request late, at 100 J: 105 s of idling without the announcement.
    for next in [None, Some(300)] {
        let mut bench = served(next);
        bench.pass(12);
        assert_eq!(bench.state(ONE), "idle", "the client may have more requests: {next:?}");
        bench.pass(4);
        assert_eq!(bench.state(ONE), "off", "{next:?}");
        bench.pass(300 - 17);
        assert_eq!(bench.state(ONE), if next.is_some() { "idle" } else { "off" });
    }
}

#[test]
fn early_release_is_a_timeout() {
    let bench = served(None);
    let next = bench.scheduler.next_timeout().expect("it will be released").since(bench.now);
    assert!(next > ms(13_000) && next < ms(15_000), "{next:?}");
}

#[test]
fn adapter_stays_on_for_an_announcement_in_the_near_future() {
    let mut bench = served(Some(50));
    let incarnation = bench.incarnation(ONE);
    bench.pass(49);
    assert_eq!((bench.state(ONE), bench.incarnation(ONE)), ("idle", incarnation));
}

#[test]
fn adapter_stays_on_for_clients_that_announce_nothing() {
    let mut bench = super::early_start::bench();
    bench.request_with(|arrival| arrival.client = ClientId(8)).pass(100).announce(7, 10).pass(10);
    bench.request_with(|arrival| arrival.client = ClientId(7)).pass(30);
    assert_eq!(bench.state(ONE), "idle");
    // Nor after a client with a last busy period that was not announced.
    let mut bench = served(None);
    bench.pass(40).request_with(|arrival| arrival.client = ClientId(7)).pass(40);
    assert_eq!(bench.state(ONE), "idle");
}

#[test]
fn adapters_in_use_and_the_minimum_do_not_turn_off_early() {
    let mut bench = served(None);
    bench.pass(10).request_with(|arrival| arrival.client = ClientId(7)).pass(10);
    assert_eq!(bench.state(ONE), "idle", "it paused for 10 s only");
    let mut bench = served(None);
    bench.scheduler.world.settings.min = 1;
    bench.pass(60);
    assert_eq!(bench.state(ONE), "idle");
}

#[test]
fn request_within_a_busy_period_meets_its_announcement() {
    let mut bench = served(Some(8));
    bench.pass(8).request_with(|arrival| arrival.client = ClientId(7)).pass(60);
    let entries = &bench.scheduler.world.clients.entries;
    let entry = entries.get(&Some((MODEL, ClientId(7)))).unwrap();
    assert_eq!((entry.missed_announcements, entry.plan.is_none()), (0, true));
    assert_eq!(bench.state(ONE), "off");
}
