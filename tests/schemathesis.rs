//! schemathesis against the running program: random valid and invalid requests are generated from
//! the served description, and every answer is compared with it.
//!
//! `CONCERTINA_TEST_SCHEMATHESIS` is the command; `tests/run` installs it. Without it the test is
//! skipped with a message. `CONCERTINA_TEST_SCHEMATHESIS_EXAMPLES` is the number of requests of
//! each operation.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
#![allow(clippy::disallowed_methods, reason = "which command to use comes from the environment")]

use serde_json::{Value, json};
use std::process::Command;
use testkit::images::{SEVEN, digits};
use testkit::{Folder, Server, Setup, models, report};

/// The key in `tests/schemathesis.toml`.
const KEY: &str = "cnc_for_schemathesis";

/// Operations that remove models and adapters; they run after all others.
const DESTRUCTIVE: [&str; 2] = ["setAdapterMode", "unloadModel"];

/// Runs schemathesis on a description.
fn fuzz(server: &Server, folder: &Folder, described: &Value, args: &[&str]) {
    let examples = std::env::var("CONCERTINA_TEST_SCHEMATHESIS_EXAMPLES");
    let examples = examples.unwrap_or_else(|_| "30".to_owned());
    let file = folder.write("openapi.json", described.to_string());
    let command = std::env::var_os("CONCERTINA_TEST_SCHEMATHESIS").unwrap();
    let mut command = Command::new(command);
    command.arg("--config-file").arg(models::package().join("tests/schemathesis.toml"));
    command.args([
        "run",
        "--url",
        &format!("http://{}", server.address),
        "--no-color",
        "--warnings",
        "off",
    ]);
    command.args(["--seed", "1", "--max-examples", &examples, "--generation-database", "none"]);
    command.args(args).arg(file).current_dir(folder.path());
    let output = command.output().expect("CONCERTINA_TEST_SCHEMATHESIS can be run");
    let out = String::from_utf8_lossy(&output.stdout);
    eprintln!("{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("No issues found"), "{}", output.status);
}

/// The description of `POST /v2/models/echo/infer` alone, narrowed to what that model takes.
fn echo_alone(described: &Value) -> Value {
    let operation = &described["paths"]["/v2/models/{model}/infer"]["post"];
    let input = |datatype: &str, item: Value| {
        let data = json!({"type": "array", "minItems": 3, "maxItems": 3, "items": item});
        let fields = json!({"name": {"const": "x"}, "shape": {"const": [1, 3]},
            "datatype": {"const": datatype}, "data": data});
        json!({"type": "object", "required": ["name", "shape", "datatype", "data"],
            "properties": fields, "additionalProperties": false})
    };
    let bounded = |low: i64, high: i64| json!({"type": "integer", "minimum": low, "maximum": high});
    let inputs = json!([
        input("INT64", bounded(i64::MIN, i64::MAX)),
        input("UINT8", bounded(0, 255)),
        input("FP64", json!({"type": "number", "minimum": -1e300, "maximum": 1e300})),
        input("BOOL", json!({"type": "boolean"})),
        input("BYTES", json!({"type": "string"})),
    ]);
    let inputs = json!({"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": inputs}});
    let id = json!({"type": ["string", "null"]});
    let body = json!({"type": "object", "required": ["inputs"],
        "properties": {"id": id, "inputs": inputs}, "additionalProperties": false});
    let mut operation = operation.clone();
    operation["parameters"] = json!([]);
    operation["requestBody"] =
        json!({"required": true, "content": {"application/json": {"schema": body}}});
    let mut narrowed = described.clone();
    narrowed["paths"] = json!({"/v2/models/echo/infer": {"post": operation}});
    narrowed
}

#[test]
fn schemathesis_finds_no_violation() {
    if std::env::var_os("CONCERTINA_TEST_SCHEMATHESIS").is_none() {
        return report(
            "SKIPPED: CONCERTINA_TEST_SCHEMATHESIS does not name the command schemathesis; \
             tests/run installs it",
        );
    }
    let folder = Folder::new();
    models::add_digits(&folder, "models/digits");
    models::add_echo(&folder, "models/echo", 8, "0s");
    let server = Setup::cpu().models(&folder.join("models")).args(&["--api-key", KEY]).start();
    server.wait_until_ready();
    let key = [("X-API-Key", KEY), ("Content-Type", "application/json")];
    let described = testkit::openapi::document(&server, &key);
    fuzz(&server, &folder, &echo_alone(&described), &["--mode", "positive", "--phases", "fuzzing"]);
    let [mode, unload] = DESTRUCTIVE;
    let phases = "examples,coverage,fuzzing";
    let rest = ["--exclude-operation-id", mode, "--exclude-operation-id", unload];
    fuzz(&server, &folder, &described, &[&["--phases", phases][..], &rest].concat());
    let those = ["--include-operation-id", mode, "--include-operation-id", unload];
    fuzz(&server, &folder, &described, &[&["--phases", phases][..], &those].concat());
    // The server still answers.
    let on = server.send("POST", "/api/adapters/cpu", &key, b"{\"mode\":\"auto\"}");
    assert_eq!(on.status, 200, "{}", on.text());
    let loaded = server.send("POST", "/v2/repository/models/digits/load", &key, b"");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    let seven = server.send("POST", "/v2/models/digits/infer", &key, SEVEN.as_bytes());
    assert_eq!(digits(&seven), [7]);
}
