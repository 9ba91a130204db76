//! Starts before the requests of regular clients.

use super::*;

/// An adapter that starts in 1 s, idles at 1 W, and a penalty of 100 J for a late request.
pub(super) fn bench() -> Bench {
    let mut bench = super::idling::bench(&[(ONE, super::idling::plain())]);
    bench.serve(profile(4));
    bench.scheduler.world.settings.early_starts = true;
    if let Policy::Cost { late_penalty_mj, .. } = &mut bench.scheduler.world.settings.policy {
        *late_penalty_mj = 100_000;
    }
    bench
}

impl Bench {
    /// Passes `seconds` seconds in small steps; each start takes 1 s.
    pub(super) fn pass(&mut self, seconds: u64) -> &mut Bench {
        for _ in 0..seconds * 4 {
            self.after(ms(250));
            if self.state(ONE) == "starting" {
                self.after(ms(1000)).opened(ONE);
            }
            if self.state(ONE) == "loading" {
                self.loaded(ONE, MODEL, &[(1, ms(10))]);
            }
            match self.state(ONE) {
                "busy" => drop(self.after(ms(10)).done(ONE)),
                "stopping" => drop(self.exited(ONE)),
                _ => {}
            }
        }
        self
    }

    /// Sends `times` requests, one every `every` seconds. Returns how many found the adapter ready.
    pub(super) fn regular(&mut self, every: u64, times: u32) -> u32 {
        let mut ready = 0;
        for _ in 0..times {
            ready += u32::from(self.state(ONE) == "idle");
            self.request();
            self.pass(every);
        }
        ready
    }
}

#[test]
fn adapter_is_ready_for_a_regular_client_and_off_between_its_requests() {
    let mut bench = bench();
    assert_eq!(bench.regular(600, 7), 0, "nothing is known of it yet");
    let ready = bench.regular(600, 10);
    assert!(ready >= 9, "{ready} of 10");
    bench.request().pass(60);
    assert_eq!(bench.state(ONE), "off", "it goes as soon as the client has gone");
}

#[test]
fn adapter_turns_off_if_the_expected_client_sends_nothing() {
    let mut bench = bench();
    bench.regular(600, 12);
    bench.pass(30);
    assert_eq!(bench.state(ONE), "off");
    bench.pass(1200);
    assert_eq!(bench.state(ONE), "off");
}

#[test]
fn early_starts_can_be_disabled() {
    let mut bench = bench();
    bench.scheduler.world.settings.early_starts = false;
    assert_eq!(bench.regular(600, 12), 0);
}

#[test]
fn minimum_does_not_turn_off_early() {
    for (min, state) in [(0, "off"), (1, "idle")] {
        let mut bench = bench();
        bench.regular(600, 10);
        bench.scheduler.world.settings.min = min;
        let incarnation = bench.request().incarnation(ONE);
        bench.pass(60);
        assert_eq!((bench.state(ONE), bench.incarnation(ONE)), (state, incarnation));
    }
}

#[test]
fn adapter_that_the_operator_keeps_on_does_not_turn_off_early() {
    let mut bench = bench();
    bench.regular(600, 10);
    bench.listed(&[(ONE, super::idling::plain()), (TWO, super::idling::plain())]);
    bench.set_mode(TWO, AdapterMode::On).opened(TWO).loaded(TWO, MODEL, &[(1, ms(10))]);
    bench.request().after(ms(10)).done(TWO).pass(60);
    assert_eq!([bench.state(ONE), bench.state(TWO)], ["off", "idle"]);
}

#[test]
fn nothing_turns_off_early_while_another_client_may_come_at_any_time() {
    let mut bench = bench();
    for pause in [90, 400, 200, 500, 130, 330, 470, 250, 60, 380] {
        bench.request().pass(pause);
        bench.request_with(|arrival| arrival.client = ClientId(7)).pass(600 - pause);
    }
    bench.request().pass(60);
    assert_eq!(bench.state(ONE), "idle");
}

#[test]
fn start_ahead_is_a_timeout() {
    let mut bench = bench();
    bench.regular(600, 10);
    bench.request().pass(60);
    let next = bench.scheduler.next_timeout().expect("it will be started").since(bench.now);
    assert!(next > ms(500_000) && next < ms(540_000), "{next:?}");
}

#[test]
fn client_with_irregular_pauses_is_not_expected() {
    use super::super::client_pattern::{ClientPattern, Costs};
    let costs = Costs { idle: 20.0, start: 65.6, miss: 5000.0, wait: 250.0 };
    let forecast = |step: u64| {
        let (mut pattern, mut at) = (ClientPattern::default(), ms(100_000));
        pattern.arrived(Time(at), false);
        for gap in 0..16 {
            at += ms(600_000 + gap * 7 % 16 * step);
            pattern.arrived(Time(at), false);
        }
        pattern.forecast(costs).is_some()
    };
    assert_eq!([forecast(5000), forecast(40_000)], [true, false]);
}
