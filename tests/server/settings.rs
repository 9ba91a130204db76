use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::images::{SEVEN, digits};
use testkit::process::{Signal, signal};
use testkit::{Folder, HANG, Response, Server, Setup, run, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A start takes longer than the target (64 ms on a quiet machine), and idling costs more than
/// starts: every request is late unless the adapter is always on.
const SELDOM: &str = "latency_target = '40ms'\n[adapters]\nlate_penalty_joules = 0\n[test.slow.cpu]\n\
    row = '3ms'\n[adapters.power.cpu]\nidle = 500\nactive = 600\nstart = 1\n";

fn apply(server: &Server, line: &str) -> Response {
    server.post("/api/settings", &json!({ "setting": line }).to_string())
}

fn changed(server: &Server) -> Value {
    server.get("/api/settings").json()["changed"].clone()
}

/// The output of `simulate --recorded` once the CPU is measured.
fn simulated(server: &Server) -> String {
    let url = format!("http://{}", server.address);
    wait_until("the CPU is measured", HANG, || {
        let output = run(&["simulate", "--recorded", &url, "--latency-target", "10ms"], &[]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

fn attainment_now(server: &Server) -> f64 {
    let answer = wait_until("it is computed", HANG, || {
        let answer = server.get("/api/whatif").json();
        Some(answer).filter(|answer| answer["state"] == "ready")
    });
    answer["cases"][0]["attainment"].as_f64().unwrap()
}

#[test]
fn the_best_other_setting_is_printed_applied_and_undone() {
    let server = Setup::cpu().config(SELDOM).start();
    for _ in 0..3 {
        assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
        server.wait_for_state("cpu", &["off"], HANG);
    }
    let text = simulated(&server);
    let command = format!(
        "curl -X POST -H 'content-type: application/json' -d '{{\"setting\":\"adapters.min = 1\"}}' \
         'http://{}/api/settings'",
        server.address
    );
    assert!(text.contains("with every adapter on") && text.contains(&command), "{text}");
    assert_eq!(attainment_now(&server), 0.0);
    let answer = apply(&server, "adapters.min = 1");
    let change = json!({
        "name": "adapters.min", "setting": "adapters.min = 1", "before": "adapters.min = 0"
    });
    assert_eq!((answer.status, answer.json()), (200, change.clone()), "{}", server.log());
    assert_eq!(changed(&server), json!([change]));
    // The first request still waits for the start.
    wait_for("the comparison is computed anew", HANG, || attainment_now(&server) > 0.6);
    server.wait_for_state("cpu", &["idle"], HANG);
    assert_eq!(apply(&server, "adapters.min = 0").json()["before"], "adapters.min = 1");
    assert_eq!(changed(&server), json!([]));
    assert!(simulated(&server).contains("adapters.min = 1"));
    // The same after the file is read again.
    assert_eq!(apply(&server, "adapters.min = 1").status, 200);
    attainment_now(&server);
    let reload = Instant::now();
    signal(server.pid(), Signal::HUP);
    wait_for("the answer is younger than that", HANG, || {
        let answer = server.get("/api/whatif").json();
        let age = answer["age_ms"].as_u64().map(Duration::from_millis);
        age.is_some_and(|age| age < reload.elapsed())
    });
}

#[test]
fn targets_and_the_rule_of_the_cpu_are_changed_until_the_file_is_read_again() {
    let server = Setup::cpu().start();
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
    assert_eq!(
        apply(&server, "latency_target = \"1.3s\"").json()["before"],
        "latency_target = \"100ms\""
    );
    wait_for("the target is the new one", HANG, || {
        server.snapshot()["models"][0]["slo_ms"] == 1300
    });
    assert_eq!(apply(&server, "adapters.cpu = 'never'").status, 200);
    server.wait_for_state("cpu", &["off", "unused"], HANG);
    wait_for("nothing can serve", HANG, || server.post(INFER, SEVEN).status == 503);
    let names = ["adapters.cpu", "latency_target"].map(|name| json!(name));
    let changed_now = changed(&server);
    let listed = changed_now.as_array().unwrap().iter().map(|it| it["name"].clone());
    assert_eq!(listed.collect::<Vec<_>>(), names);
    signal(server.pid(), Signal::HUP);
    wait_for("the file is read again", HANG, || {
        server.log().contains("changed: adapters.cpu, latency_target")
    });
    assert_eq!(changed(&server), json!([]));
    wait_for("it serves again", HANG, || server.post(INFER, SEVEN).status == 200);
}

#[test]
fn lines_that_cannot_be_applied_change_nothing() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    for (line, reason) in [
        ("adapters.min = 65", "adapters.min is 65, but adapters.max is 64"),
        ("adapters.min = 'a'", "adapters.min: invalid type"),
        (
            "workers.confine = false",
            "workers.confine: only adapters.cpu, adapters.min, latency_target",
        ),
        ("workers.run = '1s'", "workers.run is now workers.run_timeout"),
        ("listen = '0.0.0.0:80'", "to the configuration file and restart the server"),
        ("latency_target = '1s'\nadapters.min = 1", "must be one line"),
    ] {
        let answer = apply(&server, line);
        assert_eq!(answer.status, 422, "{line}: {}", answer.text());
        assert!(answer.text().contains(reason), "{line}: {}", answer.text());
    }
    assert_eq!(server.post("/api/settings", "{}").status, 400);
    assert_eq!(changed(&server), json!([]));
}

#[test]
fn only_keys_with_the_scope_admin_change_settings() {
    let folder = Folder::new();
    let make = |scope: &str| {
        let output = run(&["key", "--name", scope, "--scope", scope], &[]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stderr).trim().to_owned(), text(&output.stdout))
    };
    let (read, admin) = (make("read"), make("admin"));
    let keys = folder.write("keys.toml", format!("{}\n{}", read.1, admin.1));
    let keys = format!("keys = {:?}", keys.to_str().unwrap());
    let server = Setup::cpu().config(&keys).start();
    let send = |key: &str| {
        let key = format!("Bearer {key}");
        let headers = [JSON, ("Authorization", key.as_str())];
        let body = br#"{"setting": "adapters.min = 1"}"#;
        let changes = server.send("POST", "/api/settings", &headers, body).status;
        (changes, server.send("GET", "/api/settings", &headers, b"").status)
    };
    assert_eq!(send(&read.0), (403, 200), "{}", server.log());
    assert_eq!(send(&admin.0), (200, 200), "{}", server.log());
    assert_eq!(send("none"), (401, 401));
}
