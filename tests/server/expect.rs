//! Clients that announce their next request.

use serde_json::json;
use testkit::images::SEVEN;
use testkit::{Folder, HANG, Server, Setup, run, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";

/// The reason of the last start in the list of decisions.
fn last_start(server: &Server) -> Option<String> {
    let decisions = server.get("/api/decisions").json();
    let decisions = decisions["decisions"].as_array()?;
    let start = decisions.iter().rev().find(|decision| decision["change"] == "start")?;
    Some(start["reason"].as_str()?.to_owned())
}

#[test]
fn an_adapter_is_started_for_an_announced_client() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let response = server.post("/api/expect", r#"{"model": "digits", "in": "1h"}"#);
    assert_eq!(response.status, 200, "{}", response.text());
    let expected = wait_until("it is expected", HANG, || {
        server.snapshot()["expected"].as_array()?.first().cloned()
    });
    let at = |name: &str| expected[name].as_u64().unwrap();
    assert!(at("start_at_ms") < at("from_ms") && at("from_ms") < at("until_ms"), "{expected:#}");
    assert_eq!(
        (&expected["adapter"], &expected["announced"], &expected["text"]),
        (&json!("cpu"), &json!(true), &json!("a client of digits announced its request"))
    );
    let response = server.post("/api/expect", r#"{"model": "digits", "in": "1s"}"#);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json(), json!({"model": "digits", "in_ms": 1000}));
    let cpu = server.wait_for_state("cpu", &["idle"], HANG);
    assert_eq!((&cpu["starts"], &cpu["requests"]), (&json!(1), &json!(0)));
    assert_eq!(last_start(&server).as_deref(), Some("expected"));
    wait_for("its model is loaded before the client comes", HANG, || {
        let cpu = server.adapter("cpu");
        cpu["replicas"].as_array().is_some_and(|all| all.iter().any(|it| it["loaded"] == true))
    });
}

#[test]
fn a_request_announces_the_next_one() {
    let config = "[adapters]\nstart_penalty_joules = 0\nlate_penalty_joules = 1\n[adapters.power.cpu]\n\
                  idle = 1000.0\nactive = 1000.0\nstart = 1.0";
    let server = Setup::cpu().config(config).start();
    server.wait_until_ready();
    let infer = |expect: &str| {
        server.send("POST", INFER, &[("x-concertina-expect", expect)], SEVEN.as_bytes())
    };
    assert_eq!(infer("4s").status, 200);
    // The snapshot may be older than the first start.
    wait_for("it starts again", HANG, || server.adapter("cpu")["starts"] == 2);
    assert_eq!(last_start(&server).as_deref(), Some("expected"));
    for (expect, what) in
        [("soon", "must be a duration such as 30s"), ("48h", "must be 24h at most")]
    {
        let refused = infer(expect);
        assert_eq!(refused.status, 400, "{expect}");
        assert!(refused.error().contains(&format!("x-concertina-expect {what}")), "{expect}");
    }
}

#[test]
fn keys_with_scope_infer_may_announce() {
    let folder = Folder::new();
    let mut file = String::new();
    let keys = ["infer", "read"].map(|scope| {
        let made = run(&["key", "--name", scope, "--scope", scope], &[]);
        file += &String::from_utf8(made.stdout).unwrap();
        String::from_utf8(made.stderr).unwrap().trim().to_owned()
    });
    let file = folder.write("keys.toml", file);
    let server = Setup::cpu().args(&["--keys", file.to_str().unwrap()]).start();
    let order = br#"{"model": "digits", "in": "1h"}"#;
    let json = ("content-type", "application/json");
    let statuses = keys
        .map(|key| server.send("POST", "/api/expect", &[json, ("x-api-key", &key)], order).status);
    assert_eq!(statuses, [200, 403]);
    assert_eq!(server.send("POST", "/api/expect", &[json], order).status, 401);
    assert_eq!(server.get("/api/expect").status, 405);
}
