use serde_json::{Value, json};
use testkit::http::Response;
use testkit::{Folder, HANG, Server, Setup, models, wait_for};

fn example(name: &str) -> Vec<u8> {
    std::fs::read(models::package().join("examples").join(name)).unwrap()
}

/// Posts a file as `curl --data-binary` does, or with another content type.
fn send(server: &Server, model: &str, content_type: &str, file: &[u8]) -> Response {
    let headers = [("content-type", content_type)];
    server.send("POST", &format!("/v2/models/{model}/infer"), &headers, file)
}

fn output(answer: &Value, name: &str) -> Value {
    let outputs = answer["outputs"].as_array().unwrap();
    outputs.iter().find(|output| output["name"] == name).unwrap()["data"].clone()
}

const CURL: &str = "application/x-www-form-urlencoded";

#[test]
fn ocr_answers_an_image_with_lines_of_text() {
    let server = Setup::cpu().start();
    let answer = send(&server, "ocr", CURL, &example("page.png"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let lines = [
        "Every GPU in the box",
        "turns on when it is needed",
        "and off when it is not.",
        "Invoice 2026-0417: 1280.50 EUR",
    ];
    assert_eq!(output(&answer.json(), "text"), json!(lines));
    let polygons = output(&answer.json(), "polygon");
    assert_eq!(polygons.as_array().unwrap().len(), lines.len() * 8);
    // The ensemble is counted, and so are its members.
    wait_for("the count", HANG, || {
        let snapshot = server.get("/api/snapshot").json();
        let models = snapshot["models"].as_array().unwrap();
        let requests = |name: &str| {
            models.iter().find(|model| model["name"] == name).unwrap()["requests"].clone()
        };
        requests("ocr") == 1 && requests("text-regions") == 1 && requests("text-lines") == 4
    });
    let nothing = send(&server, "ocr", "image/png", b"no image");
    assert_eq!(nothing.status, 422);
    assert!(nothing.text().contains("not a PNG"), "{}", nothing.text());
}

#[test]
fn filetype_answers_bytes_with_their_type() {
    let server = Setup::cpu().start();
    let octets = "application/octet-stream";
    for (file, label) in [
        (example("page.png"), "png"),
        (example("custom_model.rs"), "rust"),
        (std::fs::read(models::package().join("grafana/concertina.json")).unwrap(), "json"),
    ] {
        let answer = send(&server, "filetype", octets, &file);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(output(&answer.json(), "label")[0], label);
    }
    // As a tensor of the protocol, several files at once.
    let input = json!({"name": "bytes", "datatype": "BYTES", "shape": [2, 1],
                       "data": ["#!/bin/sh\necho hello\n", "<html><body>hello</body></html>"]});
    let answer =
        server.post("/v2/models/filetype/infer", &json!({ "inputs": [input] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let labels = output(&answer.json(), "label");
    assert_eq!((&labels[0], &labels[3]), (&json!("shell"), &json!("html")));
}

#[test]
fn filetype_answers_an_empty_file_with_empty() {
    let server = Setup::cpu().start();
    let empty = send(&server, "filetype", "application/octet-stream", b"");
    assert_eq!(empty.status, 200, "{}", empty.text());
    assert_eq!(output(&empty.json(), "label")[0], "empty");
    // Beside a file that is not empty.
    let input = json!({"name": "bytes", "datatype": "BYTES", "shape": [2, 1],
                       "data": ["<html><body>hello</body></html>", ""]});
    let answer =
        server.post("/v2/models/filetype/infer", &json!({ "inputs": [input] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let labels = output(&answer.json(), "label");
    assert_eq!((&labels[0], &labels[3]), (&json!("html"), &json!("empty")));
}

#[test]
fn ensemble_without_a_latency_target_has_none() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let models = server.snapshot()["models"].take();
    let target = |name: &str| {
        let model = models.as_array().unwrap().iter().find(|model| model["name"] == name);
        model.unwrap()["slo_ms"].clone()
    };
    assert_eq!((target("ocr"), target("filetype")), (Value::Null, json!(100)));
}

#[test]
fn ensemble_is_served_only_while_its_members_are() {
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    let chain = |link: &str| {
        let tensor = "name = \"x\"\ndatatype = \"FP32\"\nshape = [-1]\n";
        format!(
            "kind = \"ensemble\"\n[[inputs]]\n{tensor}[[outputs]]\n{}[[steps]]\n\
             model = \"{link}\"\ninputs = {{ x = \"x\" }}\noutputs = {{ y = \"y\" }}\n",
            tensor.replace("\"x\"", "\"y\"")
        )
    };
    folder.write("twice/model.toml", chain("echo"));
    folder.write("lost/model.toml", chain("nowhere"));
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let input =
        json!({"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]});
    let body = json!({ "inputs": [input] }).to_string();
    let answer = server.post("/v2/models/twice/infer", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(output(&answer.json(), "y"), json!([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let lost = server.post("/v2/models/lost/infer", &body);
    assert_eq!(lost.status, 503);
    assert!(lost.text().contains("needs model 'nowhere', which is not served"), "{}", lost.text());
    assert_eq!(server.get("/v2/models/lost/ready").status, 503);
    assert_eq!(server.get("/v2/models/twice/ready").status, 200);
    server.post("/v2/repository/models/echo/unload", "");
    assert_eq!(server.post("/v2/models/twice/infer", &body).status, 503);
    let load = server.post("/v2/repository/models/twice/load", "");
    assert!(load.text().contains("needs model 'echo'"), "{}", load.text());
}
