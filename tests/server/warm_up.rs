//! Sources of shapes for warming up: `model.toml`, the golden sample, the last answered request.

use serde_json::{Value, json};
use testkit::{Folder, HANG, Server, Setup, models, wait_for};

/// Samples of a request; the convolution of `mel_kernel` takes 400 or more, so that invented
/// lengths are too short.
const SAMPLES: usize = 1600;
/// Elements of the answer to a request.
const ANSWER: usize = 4 * 8;

fn add_mel(folder: &Folder) {
    let path = models::package().join("tests/data/onnx_cases/mel_kernel/model.onnx");
    folder.write("mel/1/model.onnx", std::fs::read(path).unwrap());
}

fn server(folder: &Folder, cache: &Folder) -> Server {
    Setup::cpu().models(folder.path()).cache_dir(cache.path()).start()
}

fn tensor(name: &str, shape: &[usize]) -> Value {
    let count = shape.iter().product();
    json!({"name": name, "datatype": "FP32", "shape": shape, "data": vec![0.5; count]})
}

/// The note of the model in the snapshot after a request.
fn note_after_a_request(server: &Server) -> Value {
    let body = json!({"inputs": [tensor("x", &[1, SAMPLES])]}).to_string();
    let answer = server.post("/v2/models/mel/infer", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["outputs"][0]["data"].as_array().unwrap().len(), ANSWER);
    // The snapshot may be older than the answer.
    let mut model = Value::Null;
    wait_for("the request is counted", HANG, || {
        model = server.snapshot()["models"][0].clone();
        model["requests"] == 1
    });
    model["note"].clone()
}

#[test]
fn the_shapes_of_the_last_answer_warm_the_next_start() {
    let (folder, cache) = (Folder::new(), Folder::new());
    add_mel(&folder);
    let mut first = server(&folder, &cache);
    let note = note_after_a_request(&first);
    assert!(note.as_str().is_some_and(|note| note.contains("failed to warm up")), "{note}");
    first.terminate();
    assert!(first.wait().success());
    let mut second = server(&folder, &cache);
    assert_eq!(note_after_a_request(&second), Value::Null);
    second.terminate();
    assert!(second.wait().success());
    // Lengths in `model.toml` are used nevertheless.
    let inputs = "[[inputs]]\nname = 'x'\ndatatype = 'FP32'\nshape = [-1]\nwarm_up = [20]\n";
    let outputs = "[[outputs]]\nname = 'y'\ndatatype = 'FP32'\nshape = [4, -1]\n";
    folder.write("mel/model.toml", format!("kind = 'onnx'\n{inputs}{outputs}"));
    let third = server(&folder, &cache);
    let note = note_after_a_request(&third);
    assert!(note.as_str().is_some_and(|note| note.contains("failed to warm up")), "{note}");
}

#[test]
fn a_golden_sample_warms_up() {
    let (folder, cache) = (Folder::new(), Folder::new());
    add_mel(&folder);
    let plain = server(&folder, &cache);
    let body = json!({"inputs": [tensor("x", &[1, SAMPLES])]}).to_string();
    let answer = plain.post("/v2/models/mel/infer", &body).json();
    drop(plain);
    let output = &answer["outputs"][0];
    let golden = json!({"inputs": [tensor("x", &[1, SAMPLES])], "outputs": [output]});
    folder.write("mel/1/golden.json", golden.to_string());
    folder.write("mel/model.toml", "kind = 'onnx'\n[golden]\n");
    let golden = server(&folder, &Folder::new());
    assert_eq!(note_after_a_request(&golden), Value::Null);
}
