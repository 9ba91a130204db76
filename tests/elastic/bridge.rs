use crate::machine::{Machine, START, adapters};
use crate::numbers::INFER;
use std::thread;
use std::time::Duration;
use testkit::http::{Connection, request};
use testkit::images::{as_uint8, variants};
use testkit::{Server, wait_for};

/// Requests that are sent within one second.
const REQUESTS: usize = 20;

/// Waits until the CPU is ready and has measured `digits`.
fn measured(server: &Server) {
    wait_for("the CPU has measured digits", START, || {
        let cpu = server.adapter("cpu");
        let known = cpu["replicas"].as_array().is_some_and(|replicas| {
            replicas.iter().any(|it| it["model"] == "digits" && it["row_ms"].is_number())
        });
        known && cpu["state"] == "idle"
    });
}

/// Sends a request every twentieth of a second; returns the adapter that answered each.
fn send(server: &Server) -> Vec<String> {
    let images = variants(REQUESTS);
    let address = server.address;
    let threads: Vec<_> = images
        .into_iter()
        .map(|image| {
            let bytes = request("POST", INFER, &[], as_uint8(&image).as_bytes());
            let answer = thread::spawn(move || {
                let response = Connection::open(address)
                    .and_then(|mut it| it.exchange(&bytes))
                    .expect("an answer");
                assert_eq!(response.status, 200);
                response.header("x-concertina-adapter").unwrap_or("none").to_owned()
            });
            thread::sleep(Duration::from_millis(1000 / REQUESTS as u64));
            answer
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn cpu_answers_while_all_other_adapters_are_off() {
    let Some(machine) = Machine::get() else { return };
    let server = machine.embedded().env("CONCERTINA_CPU", "auto").start();
    adapters(&server);
    measured(&server);
    let served = send(&server);
    let by_cpu = served.iter().filter(|adapter| *adapter == "cpu").count();
    // Without the bridge the CPU answers none. On a busy machine it starts slowly, so that an
    // adapter answers some of them.
    assert!(by_cpu > REQUESTS / 2, "{served:?}");
}

#[test]
fn cpu_keeps_serving_while_an_adapter_starts_for_the_excess_load() {
    let Some(machine) = Machine::get() else { return };
    let slow = "latency_target = '200ms'\n[test.slow.cpu]\nrow = '80ms'";
    let server = machine.embedded().config(slow).env("CONCERTINA_CPU", "auto").start();
    let ids = adapters(&server);
    measured(&server);
    let served = send(&server);
    assert!(served.iter().filter(|adapter| *adapter == "cpu").count() >= 3, "{served:?}");
    let starts = |id: &String| server.adapter(id)["starts"].as_u64().unwrap_or(0);
    assert!(ids.iter().map(starts).sum::<u64>() >= 1, "no adapter was started");
}
