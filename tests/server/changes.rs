use serde_json::Value;
use std::time::Duration;
use testkit::http::Connection;
use testkit::images::{SEVEN, digits};
use testkit::process::{Signal, is_worker, signal};
use testkit::{HANG, Server, Setup, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";

/// Rewrites the settings and sends SIGHUP.
fn reconfigure(server: &Server, lines: &str) {
    server.write_config(lines);
    signal(server.pid(), Signal::HUP);
}

#[track_caller]
fn wait_for_log(server: &Server, words: &str) {
    wait_for(&format!("the log contains: {words}"), HANG, || server.log().contains(words));
}

#[test]
fn settings_are_read_again_on_sighup() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    assert_eq!(server.adapter("cpu")["state"], "off");
    reconfigure(
        &server,
        "latency_target = '7s'\n[adapters]\nmin = 1\n[adapters.memory]\ncpu = 12345678",
    );
    wait_for_log(&server, "changed: adapters.memory.cpu, adapters.min, latency_target");
    server.wait_for_state("cpu", &["idle"], HANG);
    assert_eq!(server.snapshot()["models"][0]["slo_ms"], 7000);
    wait_for("the budget is the new one", HANG, || {
        server.adapter("cpu")["memory_budget_bytes"] == 12_345_678
    });
    // A file that cannot be read or contradicts itself changes nothing.
    for (broken, why) in [("[adapters", "TOML"), ("[adapters]\nmax = 0", "adapters.max is 0")] {
        reconfigure(&server, broken);
        wait_for_log(&server, "failed to reload the settings");
        wait_for_log(&server, why);
        assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
    }
    assert_eq!(server.adapter("cpu")["memory_budget_bytes"], 12_345_678);
    // Settings that need a restart are logged.
    reconfigure(&server, "listen = '127.0.0.1:1'\n[adapters]\nmin = 1\n[limits]\nconnections = 7");
    wait_for_log(&server, "in force only after a restart: limits.connections");
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
}

#[test]
fn adapters_are_excluded_and_included_again_by_a_reload() {
    let server = Setup::cpu().start();
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
    // In this mode it does not turn off by itself.
    server.set_mode("cpu", "on");
    reconfigure(&server, "[adapters]\nexclude = ['cpu']");
    server.wait_for_state("cpu", &["off"], HANG);
    wait_for("nothing can serve", HANG, || server.post(INFER, SEVEN).status == 503);
    assert_ne!(server.adapter("cpu")["reason"], Value::Null);
    reconfigure(&server, "");
    wait_for("it serves again", HANG, || server.post(INFER, SEVEN).status == 200);
    assert_eq!(server.adapter("cpu")["reason"], Value::Null);
}

#[test]
fn server_restarts_on_its_port_while_clients_hold_connections_open() {
    let mut server = Setup::cpu().start();
    let address = server.address;
    for end in [Signal::TERM, Signal::KILL] {
        // One idle connection and one in the middle of a request: of each, both sides have to
        // close.
        let mut idle = server.connect();
        idle.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(idle.receive().unwrap().status, 200);
        let mut half = server.connect();
        half.send(b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Le").unwrap();
        signal(server.pid(), end);
        server.wait();
        server = Setup::cpu().listen(address).start();
        assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
        drop((idle, half));
    }
}

/// A server with requests that take longer than the test runs, and the pid of its worker.
fn with_endless_requests(config: &str) -> (Server, Vec<Connection>, u32) {
    let slow = format!("{config}\n[test.slow.cpu]\nbatch = '3s'\n");
    let server = Setup::cpu().config(&slow).start();
    let connections = (0..3).map(|_| {
        let mut connection = server.connect();
        let headers = [("Content-Type", "application/json")];
        let request = testkit::http::request("POST", INFER, &headers, SEVEN.as_bytes());
        connection.send(&request).unwrap();
        connection
    });
    let connections = connections.collect();
    wait_for("all are with the worker or wait for it", HANG, || {
        let queue = &server.snapshot()["queue"];
        let count = |name: &str| queue[name].as_u64().unwrap_or_default();
        count("queued_requests") + count("in_flight_requests") == 3
    });
    let pid = wait_until("the worker is known", HANG, || server.adapter("cpu")["pid"].as_u64());
    (server, connections, u32::try_from(pid).unwrap())
}

#[test]
fn second_sigterm_after_a_second_ends_at_once_and_logs_the_requests_that_were_cut() {
    let (mut server, mut connections, pid) = with_endless_requests("");
    server.terminate();
    wait_for_log(&server, "stopping");
    // A second signal at once counts as the first: some launchers signal a process and then its
    // group.
    server.terminate();
    std::thread::sleep(Duration::from_millis(1200));
    assert!(!server.log().contains("stopped at once"), "{}", server.log());
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("stopped at once; aborted requests: 3"), "{}", server.log());
    wait_for("the worker is gone", HANG, || !is_worker(pid));
    assert!(connections.iter_mut().all(|connection| connection.receive().is_err()));
}

#[test]
fn requests_unfinished_after_the_grace_period_get_an_error() {
    let (mut server, connections, pid) =
        with_endless_requests("[limits]\nshutdown_grace = '300ms'");
    server.terminate();
    for mut connection in connections {
        let answer = connection.receive().expect("an answer");
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(
        server.log().contains("3 requests were rejected during the shutdown"),
        "{}",
        server.log()
    );
    assert!(!is_worker(pid), "the server is gone, but its worker is still there");
}

/// Bytes that models may take on the CPU.
fn budget(server: &Server) -> u64 {
    server.adapter("cpu")["memory_budget_bytes"].as_u64().expect("Linux reports it")
}

/// A line of `/proc/meminfo`, in bytes.
fn memory(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn memory_used_by_other_programs_reduces_the_budget_of_models() {
    const TAKEN: u64 = 1 << 30;
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let (total, free) = (memory("MemTotal:"), memory("MemAvailable:"));
    // The budget is four fifths of the memory, or the available memory less a tenth of all where
    // that is less: it shrinks only after others use more than a tenth.
    let others = total - free;
    let unnoticed = (total / 10).saturating_sub(others);
    let taken = usize::try_from(unnoticed + 2 * TAKEN).unwrap();
    if (taken as u64) > free / 2 {
        eprintln!("SKIPPED: this machine has too much, or too little, memory");
        return;
    }
    let known = total.saturating_sub(total / 10).saturating_sub(others) + TAKEN / 4;
    wait_for("what others use is known", HANG, || budget(&server) <= known);
    let before = budget(&server);
    let held = vec![1u8; taken];
    wait_for("what is taken here is not for models", HANG, || budget(&server) + TAKEN < before);
    assert_eq!(held.iter().map(|byte| u64::from(*byte)).sum::<u64>(), taken as u64);
    drop(held);
    wait_for("it is for models again", HANG, || budget(&server) + TAKEN / 2 > before);
}
