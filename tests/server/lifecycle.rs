use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::http::{Connection, request};
use testkit::images::{SEVEN, digits};
use testkit::process::{Signal, drivers_in, is_worker, signal, workers_of};
use testkit::{Folder, HANG, Server, Setup, models, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";

#[track_caller]
fn check_still_serves(server: &Server) {
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
}

/// The process id of the worker, from the snapshot.
#[track_caller]
fn worker(server: &Server) -> u32 {
    let pid = wait_until("the worker is known", HANG, || server.adapter("cpu")["pid"].as_u64());
    let pid = u32::try_from(pid).unwrap();
    assert!(is_worker(pid), "process {pid} is not a worker of this server");
    pid
}

#[test]
fn mode_set_by_the_operator_overrides_the_policy() {
    let server = Setup::cpu().start();
    server.set_mode_when_listed("cpu", "off");
    wait_for("nothing is ready", HANG, || server.get("/v2/health/ready").status == 503);
    let refused = server.post(INFER, SEVEN);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.error().contains("no adapter can serve now"), "{}", refused.error());
    assert_eq!(server.get("/v2/models/digits/ready").status, 503);
    assert_eq!(server.get("/v2/health/live").status, 200);
    server.set_mode("cpu", "auto");
    check_still_serves(&server);
    let pid = worker(&server);
    server.set_mode("cpu", "off");
    server.wait_for_state("cpu", &["off"], HANG);
    assert!(!is_worker(pid), "off, but its worker is still there");
    // Mode `on` starts it without a request.
    server.set_mode("cpu", "on");
    let cpu = server.wait_for_state("cpu", &["idle"], HANG);
    assert_eq!((&cpu["mode"], &cpu["starts"]), (&json!("on"), &json!(2)));
    check_still_serves(&server);
}

#[test]
fn slowed_worker_is_slow_and_the_log_reports_it() {
    let server = Setup::cpu().config("[test.slow.cpu]\nbatch = '50ms'\nrow = '100ms'").start();
    assert!(server.log().contains("slowed for a test"), "{}", server.log());
    check_still_serves(&server);
    // The adapter is on now, so that this is not a cold start.
    let begin = Instant::now();
    check_still_serves(&server);
    assert!(begin.elapsed() >= Duration::from_millis(150), "{:?}", begin.elapsed());
}

#[test]
fn no_adapter_is_on_without_requests() {
    // By default idling takes no energy on the CPU, so that it stays on for an hour.
    let config = "[adapters]\nstart_penalty_joules = 0\nlate_penalty_joules = 0\n[adapters.power.cpu]\n\
                  idle = 1.0\nactive = 60.0\nstart = 20.0";
    let server = Setup::cpu().config(config).start();
    assert_eq!(workers_of(server.pid()), [0u32; 0]);
    for starts in 1..=3 {
        check_still_serves(&server);
        let pid = worker(&server);
        let cpu = server.wait_for_state("cpu", &["off"], HANG);
        assert_eq!((&cpu["pid"], &cpu["starts"]), (&Value::Null, &json!(starts)));
        assert_eq!(cpu["fault"], Value::Null, "turning off is not a fault");
        assert!(!is_worker(pid), "off, but its worker is still there");
        assert_eq!(workers_of(server.pid()), [0u32; 0], "off, but a worker is still there");
        let decisions = server.get("/api/decisions").json();
        let last = decisions["decisions"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["change"], &last["reason"]), (&json!("drain"), &json!("break_even")));
    }
    assert_eq!(drivers_in(server.pid()), [""; 0]);
}

#[test]
fn requests_are_answered_although_their_worker_dies_and_is_replaced() {
    let server = Setup::cpu().config("[workers]\nbackoff = '200ms'").start();
    check_still_serves(&server);
    let first = worker(&server);
    signal(first, Signal::KILL);
    // While the worker is dead, quarantined or starting, the request waits.
    check_still_serves(&server);
    let second = wait_until("another worker", HANG, || {
        let pid = server.adapter("cpu")["pid"].as_u64()?;
        (pid != u64::from(first)).then_some(pid)
    });
    assert!(is_worker(u32::try_from(second).unwrap()));
    // A stopped process counts as dead after the heartbeat timeout.
    let config = "[workers]\nbackoff = '200ms'\nheartbeat_timeout = '1s'";
    let server = Setup::cpu().config(config).start();
    check_still_serves(&server);
    signal(worker(&server), Signal::STOP);
    check_still_serves(&server);
    let decisions = server.get("/api/decisions").text();
    assert!(decisions.contains("heartbeat timed out"), "{decisions}");
}

/// A server with `count` requests to `echo` in its queue, where they wait for the batching delay.
fn with_queued_requests(count: usize) -> (Server, Folder, Vec<Connection>) {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 64, "2s");
    let server = Setup::cpu().models(repository.path()).start();
    server.set_mode_when_listed("cpu", "on");
    server.wait_for_state("cpu", &["idle"], HANG);
    let connections = (0..count).map(|n| {
        let input = json!({"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [n]});
        let body = json!({ "inputs": [input] }).to_string();
        let mut connection = server.connect();
        connection.send(&request("POST", "/v2/models/echo/infer", &[], body.as_bytes())).unwrap();
        connection
    });
    let connections = connections.collect();
    wait_for("all are admitted", HANG, || {
        let snapshot = server.snapshot();
        snapshot["queue"]["queued_requests"] == count
    });
    (server, repository, connections)
}

#[test]
fn admitted_requests_are_answered_before_the_server_stops() {
    let (mut server, _repository, connections) = with_queued_requests(8);
    let pid = worker(&server);
    server.terminate();
    for (n, mut connection) in connections.into_iter().enumerate() {
        let response = connection.receive().expect("an answer");
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()["outputs"][0]["data"], json!([n]));
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(!is_worker(pid), "the server is gone, but its worker is still there");
    assert!(Connection::open(server.address).is_err(), "the port still accepts connections");
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[test]
fn a_server_that_is_starting_a_worker_stops_cleanly() {
    for delay in [0, 5, 20, 60] {
        let mut server = Setup::cpu().start();
        let mut connection = server.connect();
        connection.send(&request("POST", INFER, &[], SEVEN.as_bytes())).unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        server.terminate();
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        // It is answered if it was admitted, and rejected otherwise.
        match connection.receive() {
            Ok(response) => assert!([200, 503].contains(&response.status), "{}", response.text()),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn workers_do_not_outlive_a_killed_server() {
    let (mut server, _repository, mut connections) = with_queued_requests(3);
    let pid = worker(&server);
    server.kill();
    wait_for("the worker is gone", Duration::from_secs(10), || !is_worker(pid));
    assert!(connections.iter_mut().all(|connection| connection.receive().is_err()));
}

#[test]
fn a_taken_port_is_an_error() {
    let first = Setup::cpu().start();
    let (status, log) = Setup::cpu().listen(first.address).fail();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains(&format!("failed to listen on {}", first.address)), "{log}");
    check_still_serves(&first);
}

/// Reads events until one of this name, and returns its data.
fn next_event(connection: &mut Connection, name: &str) -> Value {
    let wanted = format!("event:{name}\n");
    wait_until(&format!("an event '{name}'"), HANG, || {
        let line = connection.line().expect("the stream goes on");
        if line.replace(": ", ":") != wanted {
            return None;
        }
        let data = connection.line().expect("data follow");
        Some(serde_json::from_str(data.trim_start_matches("data:")).expect("data are JSON"))
    })
}

#[test]
fn event_stream_sends_snapshots_and_decisions() {
    let mut server = Setup::cpu().start();
    let mut events = server.connect();
    events.send(&request("GET", "/api/events", &[], b"")).unwrap();
    let (status, headers) = events.head().unwrap();
    assert_eq!(status, 200);
    let kind = ("content-type".to_owned(), "text/event-stream".to_owned());
    assert!(headers.contains(&kind), "{headers:?}");
    let first = next_event(&mut events, "snapshot");
    assert_eq!(first["server"]["version"], "0.1.0");
    check_still_serves(&server);
    let decision = next_event(&mut events, "decision");
    assert_eq!((&decision["adapter"], &decision["change"]), (&json!("cpu"), &json!("start")));
    assert_eq!(decision["reason"], "latency_target");
    wait_for("the snapshot shows it", HANG, || {
        let snapshot = next_event(&mut events, "snapshot");
        snapshot["adapters"][0]["requests"] == 1 && snapshot["adapters"][0]["state"] == "idle"
    });
    // An open stream does not keep the server from stopping.
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn serving_process_never_loads_a_driver() {
    let server = Setup::cpu().start();
    for _ in 0..20 {
        check_still_serves(&server);
        assert_eq!(drivers_in(server.pid()), [""; 0]);
    }
}
