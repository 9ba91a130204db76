//! Names in any script, and layouts of Hugging Face and Triton: the models that are found and the
//! URLs under which they are served.

use serde_json::{Value, json};
use std::fmt::Write;
use testkit::{Folder, HANG, Server, Setup, models, wait_for};

const ROW: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#;

fn linear() -> Vec<u8> {
    std::fs::read(models::package().join("tests/data/linear.onnx")).unwrap()
}

/// A name for a URL: all bytes but ASCII letters and digits are percent-encoded.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        let _ = match byte.is_ascii_alphanumeric() {
            true => write!(text, "{}", char::from(byte)),
            false => write!(text, "%{byte:02X}"),
        };
        text
    })
}

#[track_caller]
fn check(server: &Server, model: &str) {
    let response = server.post(&format!("/v2/models/{}/infer", encoded(model)), ROW);
    assert_eq!(response.status, 200, "{model}: {}", response.text());
    assert_eq!(response.json()["model_name"], model);
    assert_eq!(response.json()["outputs"][0]["data"], json!([4.5, 6.0]), "{model}");
}

#[test]
fn names_are_of_any_script() {
    let names = ["yolov8n (1)", "模型", "мои\u{306}", "50% off", "q\"uo'te", "a+b & c=d?#"];
    let folder = Folder::new();
    for name in names {
        folder.write(&format!("{name}.onnx"), linear());
    }
    folder.write("папка 1/1/model.onnx", linear());
    let long = "ä".repeat(100);
    folder.write(&format!("{long}/model.onnx"), linear());
    let server =
        Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "50ms"]).start();
    for name in names.into_iter().chain(["папка 1", long.as_str()]) {
        check(&server, name);
        assert_eq!(server.get(&format!("/v2/models/{}/ready", encoded(name))).status, 200);
        let load = server.post(&format!("/v2/repository/models/{}/load", encoded(name)), "{}");
        assert_eq!(load.status, 200, "{name}: {}", load.text());
    }
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("model=\"模型\""), "{metrics}");
    assert!(metrics.contains("model=\"q\\\"uo'te\""), "{metrics}");
    std::fs::remove_file(folder.join("模型.onnx")).unwrap();
    let path = format!("/v2/models/{}", encoded("模型"));
    wait_for("it is gone", HANG, || server.get(&path).status == 404);
}

#[test]
fn names_with_control_characters_or_excessive_length_are_rejected() {
    let folder = Folder::new();
    for name in ["a\u{202e}b", "new\nline", "-flag", &"a".repeat(201)] {
        folder.write(&format!("{name}.onnx"), linear());
    }
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let entries = server.send("POST", "/v2/repository/index", &[], b"").json();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 4, "{entries:#?}");
    for entry in entries {
        assert_eq!(entry["state"], "UNAVAILABLE", "{entry}");
        assert!(entry["reason"].as_str().unwrap().contains("names have 1 to 200 bytes"), "{entry}");
    }
    assert!(!server.log().contains('\u{202e}'), "{}", server.log());
}

#[test]
fn folders_in_the_layouts_of_other_tools_are_found() {
    let folder = Folder::new();
    folder.write("hugging/config.json", "{}");
    folder.write("hugging/onnx/model.onnx", linear());
    folder.write("hugging/onnx/model_quantized.onnx", "not read beside model.onnx");
    folder.write("quantized/onnx/model_quantized.onnx", linear());
    folder.write("other/net.onnx", linear());
    folder.write("many/onnx/decoder_model.onnx", linear());
    folder.write("many/onnx/encoder_model.onnx", linear());
    folder.write("beside/onnx/model.onnx", models::external_linear("model.onnx_data"));
    folder.write("beside/onnx/model.onnx_data", models::external_weights());
    let server = Setup::cpu().models(folder.path()).start();
    for model in ["hugging", "quantized", "other", "beside"] {
        check(&server, model);
    }
    let response = server.post("/v2/models/many/infer", ROW);
    assert_eq!(response.status, 422, "{}", response.text());
    let names = "decoder_model.onnx, encoder_model.onnx";
    assert!(response.error().contains(names), "{}", response.error());
}

const CONFIG: &str = r#"
name: "triton"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
dynamic_batching { max_queue_delay_microseconds: 250 preferred_batch_size: [ 4 ] }
version_policy { latest { num_versions: 2 } }
instance_group [ { count: 2 kind: KIND_GPU } ]
default_model_filename: "net.onnx"
"#;

#[test]
fn triton_repository_is_served_according_to_its_configuration() {
    let folder = Folder::new();
    for version in [1, 2, 3] {
        folder.write(&format!("triton/{version}/net.onnx"), linear());
    }
    folder.write("triton/config.pbtxt", CONFIG);
    folder.write("triton/labels.txt", "no\nyes\n");
    folder.write("other/1/model.onnx", linear());
    folder.write("other/config.pbtxt", "backend: \"tensorrt\"");
    folder.write("renamed/1/model.onnx", linear());
    folder.write("renamed/config.pbtxt", "input [ { name: \"input__0\" } ] foo { bar: 1e-3 }");
    folder.write("both/1/model.onnx", linear());
    folder.write("both/config.pbtxt", "backend: \"tensorrt\"");
    folder.write("both/model.toml", "kind = \"onnx\"\n[batch]\nmax_rows = 2\n");
    let server = Setup::cpu().models(folder.path()).start();
    check(&server, "triton");
    check(&server, "both");
    let config = server.get("/v2/models/triton/config").json();
    assert_eq!(config["max_batch_size"], 4);
    assert_eq!(config["dynamic_batching"]["max_queue_delay_microseconds"], 250);
    let status = |version: u64| server.get(&format!("/v2/models/triton/versions/{version}")).status;
    assert_eq!([1, 2, 3].map(status), [404, 200, 200]);
    let log = server.log();
    let ignored = "ignored in config.pbtxt: dynamic_batching.preferred_batch_size, instance_group";
    assert_eq!(log.matches(ignored).count(), 1, "{log}");
    check(&server, "renamed");
    assert!(log.contains("ignored in config.pbtxt: foo"), "{log}");
    assert!(log.contains("ignored in config.pbtxt: input__0; the graph has x, y"), "{log}");
    let response = server.post("/v2/models/other/infer", ROW);
    assert_eq!(response.status, 422, "{}", response.text());
    assert!(response.error().contains("backend: 'tensorrt'"), "{}", response.error());
    assert_eq!(server.get("/v2/models/both/config").json()["max_batch_size"], Value::from(2));
}
