//! Streams of partial answers while adapters are turned off and on.

use crate::machine::{Machine, START, adapters};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::events::Events;
use testkit::models::add_count;
use testkit::{Folder, report};

const CLIENTS: i64 = 4;
const STREAMS: i64 = 20;
const NUMBERS: i64 = 60;
const SLOW: &str = "[test.slow.vulkan-10005-0000-0]\nbatch = '5ms'\n\
                    [test.slow.vulkan-10005-0000-1]\nbatch = '5ms'\n";

/// An adapter that is turned off ends its time slice, and its streams continue on another one.
#[test]
fn streams_are_complete_while_adapters_are_turned_off_and_on() {
    let Some(machine) = Machine::get() else { return };
    let models = Folder::new();
    add_count(&models, "count", 4);
    let server = machine.serving(&models).config(SLOW).start();
    let ids = &adapters(&server)[..2];
    for id in ids {
        server.set_mode(id, "on");
        server.wait_for_state(id, &["idle"], START);
    }
    let (over, server) = (AtomicBool::new(false), &server);
    let turns = std::thread::scope(|scope| {
        let operator = scope.spawn(|| {
            let mut turns = 0;
            for id in ids.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    return turns;
                }
                std::thread::sleep(Duration::from_millis(150));
                server.set_mode(id, "off");
                server.wait_for_state(id, &["off"], START);
                server.set_mode(id, "on");
                server.wait_for_state(id, &["idle", "busy", "loading"], START);
                turns += 1;
            }
            turns
        });
        let clients: Vec<_> =
            (0..CLIENTS).map(|c| scope.spawn(move || streams(server, c))).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
        operator.join().unwrap()
    });
    report(&format!("{} streams, adapters turned off {turns} times", CLIENTS * STREAMS));
    assert!(turns >= 2, "{turns}");
}

fn streams(server: &testkit::Server, client: i64) {
    for at in 0..STREAMS {
        let start = (client * STREAMS + at) * NUMBERS;
        let body = format!("{{\"count\": {NUMBERS}, \"start\": {start}}}");
        let events = Events::open(server, "/v2/models/count/generate_stream", &body);
        let events = events.unwrap_or_else(|error| panic!("{}", error.text()));
        assert_eq!(events.count(start, NUMBERS), Ok(true));
    }
}
