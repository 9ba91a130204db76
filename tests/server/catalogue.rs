use serde_json::{Value, json};
use testkit::http::request;
use testkit::images::{SEVEN, digits};
use testkit::load::Load;
use testkit::{Folder, HANG, Response, Server, Setup, models, wait_for};

const ECHO: &str = r#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1,1],"data":[-3]}]}"#;

fn load(server: &Server, name: &str) -> Response {
    server.post(&format!("/v2/repository/models/{name}/load"), "{}")
}

fn unload(server: &Server, name: &str) -> Response {
    server.post(&format!("/v2/repository/models/{name}/unload"), "{}")
}

/// Name, version and state of every entry of the index.
fn index(server: &Server) -> Vec<String> {
    let response = server.send("POST", "/v2/repository/index", &[], b"");
    let entries = response.json();
    let field = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let line = |entry: &Value| {
        format!("{}/{} {}", field(entry, "name"), field(entry, "version"), field(entry, "state"))
    };
    entries.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn models_are_loaded_and_unloaded_while_the_server_runs() {
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    assert_eq!(index(&server), ["digits/1 READY"]);
    models::add_echo(&folder, "echo", 8, "0s");
    assert_eq!(index(&server), ["digits/1 READY", "echo/ UNAVAILABLE"]);
    assert_eq!(server.post("/v2/models/echo/infer", ECHO).status, 404);

    let loaded = load(&server, "echo");
    assert_eq!((loaded.status, loaded.text().as_ref()), (200, ""));
    assert_eq!(server.get("/v2/models/echo/ready").status, 200);
    assert_eq!(index(&server), ["digits/1 READY", "echo/1 READY"]);
    assert_eq!(server.post("/v2/models/echo/infer", ECHO).status, 200);

    assert_eq!(unload(&server, "echo").status, 200);
    assert_eq!(server.get("/v2/models/echo/ready").status, 404);
    assert_eq!(server.post("/v2/models/echo/infer", ECHO).status, 404);
    assert_eq!(index(&server), ["digits/1 READY", "echo/ UNAVAILABLE"]);
    assert_eq!(unload(&server, "echo").status, 404);
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
    wait_for("the worker has dropped it", HANG, || {
        let cpu = server.adapter("cpu");
        cpu["replicas"].as_array().unwrap().iter().all(|replica| replica["model"] == "digits")
    });
    assert_eq!(server.adapter("cpu")["starts"], 1);
}

#[test]
fn server_starts_when_no_model_can_be_served() {
    let folder = Folder::new();
    folder.write("digits/model.toml", "kind = 3");
    let server =
        Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "100ms"]).start();
    server.wait_until_ready();
    assert_eq!(index(&server), ["digits/ UNAVAILABLE"]);
    assert_eq!(server.post("/v2/models/digits/infer", SEVEN).status, 422);
    models::add_digits(&folder, "digits");
    wait_for("it is served", HANG, || index(&server) == ["digits/1 READY"]);
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
}

#[test]
fn newer_version_is_served_after_a_load_and_the_older_one_after_its_removal() {
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    folder.make_dir("echo/2");
    assert_eq!(load(&server, "echo").status, 200);
    assert_eq!(index(&server), ["echo/2 READY"]);
    assert_eq!(server.get("/v2/models/echo/versions/1").status, 404);
    std::fs::remove_dir(folder.join("echo/2")).unwrap();
    assert_eq!(load(&server, "echo").status, 200);
    assert_eq!(index(&server), ["echo/1 READY"]);
}

#[test]
fn failed_reload_keeps_the_old_model() {
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    let server = Setup::cpu().models(folder.path()).start();
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
    let toml = std::fs::read(folder.join("digits/model.toml")).unwrap();
    let weights = std::fs::read(folder.join("digits/1/weights.safetensors")).unwrap();
    let golden = std::fs::read_to_string(folder.join("digits/1/golden.json")).unwrap();
    // Faults that the scan finds, that only the worker finds, and that only the sample finds.
    let wrong = golden.replace("\"data\": [7]", "\"data\": [8]");
    let spoilt: [(&str, &[u8], &[u8], &str); 3] = [
        ("digits/model.toml", b"kind = ", &toml, "line 1"),
        ("digits/1/weights.safetensors", &weights[..1000], &weights, "weights.safetensors"),
        ("digits/1/golden.json", wrong.as_bytes(), golden.as_bytes(), "golden"),
    ];
    for (file, broken, good, part) in spoilt {
        // Either the golden sample or the adapter is wrong.
        let status = if part == "golden" { 500 } else { 422 };
        folder.write(file, broken);
        let response = load(&server, "digits");
        assert_eq!(response.status, status, "{file}: {}", response.text());
        assert!(response.error().contains(part), "{file}: {}", response.error());
        assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7], "{file}");
        let models = server.snapshot()["models"].clone();
        assert_eq!(models.as_array().unwrap().len(), 1, "{models:#}");
        assert_eq!(models[0]["state"], "ready");
        assert!(models[0]["reason"].as_str().unwrap().contains(part), "{models:#}");
        folder.write(file, good);
    }
    assert_eq!(load(&server, "digits").status, 200);
    assert_eq!(server.snapshot()["models"][0]["reason"], Value::Null);
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
    let cpu = server.adapter("cpu");
    assert_eq!(cpu["starts"], 1, "a broken reload cost the adapter its worker: {cpu:#}");
}

#[test]
fn reload_under_load_loses_no_request() {
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    models::add_digits(&folder, "digits");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let headers = [("Content-Type", "application/json")];
    let body = |_| request("POST", "/v2/models/echo/infer", &headers, ECHO.as_bytes());
    let check = |_, response: &Response| match response.status {
        200 if response.json()["outputs"][0]["data"] == json!([-3]) => Ok(()),
        status => Err(format!("{status}: {}", response.text())),
    };
    let clients = Load::start(server.address, 4, body, check);
    for _ in 0..10 {
        assert_eq!(load(&server, "echo").status, 200);
        assert_eq!(load(&server, "digits").status, 200);
    }
    let seen = clients.stop();
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    assert!(seen.answers > 20, "{}", seen.answers);
    assert_eq!(server.adapter("cpu")["starts"], 1);
}

#[test]
fn invalid_loads_are_rejected() {
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    folder.make_dir("empty");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    for (name, status) in [
        ("nope", 404),
        ("..", 404),
        ("%2e%2e%2fecho", 404),
        ("empty", 422),
        (&"a".repeat(5000), 404),
    ] {
        assert_eq!(load(&server, name).status, status, "{name:.20}");
    }
    let path = "/v2/repository/models/echo/load";
    let config = r#"{"parameters": {"config": "{}"}}"#;
    assert_eq!(server.post(path, config).status, 422);
    assert_eq!(server.post(path, "[").status, 400);
    assert_eq!(server.get(path).status, 405);
    let foreign = [("Origin", "http://evil.example")];
    assert_eq!(server.send("POST", path, &foreign, b"").status, 403);
    assert_eq!(server.send("POST", path, &[("Content-Type", "text/plain")], b"{}").status, 415);
    assert_eq!(server.post("/v2/repository/index", r#"{"ready": 3}"#).status, 400);
    assert_eq!(index(&server).len(), 2);
}

#[test]
fn statistics_and_metrics_count_requests_rows_and_batches() {
    let server = Setup::cpu().start();
    for _ in 0..3 {
        assert_eq!(server.post("/v2/models/digits/infer", SEVEN).status, 200);
    }
    let late =
        SEVEN.trim_end().strip_suffix('}').unwrap().to_owned() + r#","parameters":{"timeout":1}}"#;
    assert_eq!(server.post("/v2/models/digits/infer", &late).status, 504);
    for path in ["/v2/models/digits/stats", "/v2/models/digits/versions/1/stats"] {
        let stats = server.get(path).json()["model_stats"][0].clone();
        assert_eq!((&stats["name"], &stats["version"]), (&json!("digits"), &json!("1")));
        assert_eq!(stats["inference_count"], 3, "{stats:#}");
        assert_eq!(stats["execution_count"], 3);
        let times = &stats["inference_stats"];
        assert_eq!((&times["success"]["count"], &times["fail"]["count"]), (&json!(3), &json!(1)));
        let ns = |what: &str| times[what]["ns"].as_u64().unwrap();
        let parts = ["queue", "compute_input", "compute_infer", "compute_output"].map(ns);
        assert!(ns("compute_infer") > 0 && ns("success") == parts.iter().sum::<u64>(), "{stats:#}");
        assert_eq!(stats["batch_stats"][0]["batch_size"], 1);
    }
    assert_eq!(server.get("/v2/models/nope/stats").status, 404);
    assert_eq!(server.get("/v2/models/stats").json()["model_stats"].as_array().unwrap().len(), 5);
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    for line in [
        "concertina_requests_total{model=\"digits\",version=\"1\"} 3",
        "concertina_requests_failed_total{model=\"digits\",version=\"1\",cause=\"deadline\"} 1",
        "concertina_adapter_starts_total{adapter=\"cpu\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let on = |line: &str| line.starts_with("concertina_adapter_on_seconds_total{adapter=\"cpu\"}");
    assert!(text.lines().any(on), "{text}");
}

#[test]
fn model_configuration_has_the_fields_that_clients_read() {
    let server = Setup::cpu().start();
    let config = server.get("/v2/models/digits/config").json();
    assert_eq!(config["name"], "digits");
    assert_eq!(config["max_batch_size"], 8);
    let image = json!({"name": "image", "data_type": "TYPE_FP32", "dims": [28, 28],
        "allow_ragged_batch": false, "is_shape_tensor": false, "optional": false});
    assert_eq!(config["input"], json!([image]));
    assert_eq!(server.get("/v2/models/digits/versions/2/config").status, 404);
}
