use serde_json::{Value, json};
use testkit::{Folder, HANG, Server, Setup, models, run, wait_for};

/// A file of `tests/data`, all written for these tests.
fn file(name: &str) -> Vec<u8> {
    std::fs::read(models::package().join("tests/data").join(name)).unwrap()
}

fn infer(server: &Server, model: &str, shape: &[usize], data: &[f32]) -> Value {
    let input = json!({"name": "x", "datatype": "FP32", "shape": shape, "data": data});
    let body = json!({"inputs": [input]}).to_string();
    let response = server.post(&format!("/v2/models/{model}/infer"), &body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["outputs"][0].clone()
}

/// Checks the answer of `linear.onnx` to two rows: a product, a sum, and a cut at zero.
fn check_linear(server: &Server, model: &str) {
    let output = infer(server, model, &[2, 3], &[1.0, 2.0, 3.0, -9.0, 0.0, 0.0]);
    assert_eq!(output["shape"], json!([2, 2]));
    assert_eq!(output["data"], json!([4.5, 6.0, 0.0, 0.0]));
}

#[test]
fn file_added_to_the_folder_is_served() {
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    let server =
        Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "50ms"]).start();
    server.wait_until_ready();
    assert_eq!(server.get("/v2/models/linear").status, 404);
    folder.write("linear.onnx", file("linear.onnx"));
    wait_for("the model", HANG, || server.get("/v2/models/linear").status == 200);
    check_linear(&server, "linear");
    let metadata = server.get("/v2/models/linear").json();
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 3]));
    folder.write("unknown.onnx", file("unknown_operator.onnx"));
    wait_for("the reason", HANG, || server.log().contains("Magic of ai.onnx"));
    folder.write("cut.onnx", &file("linear.onnx")[..100]);
    wait_for("the reason", HANG, || server.log().contains("cut.onnx: is not an ONNX file"));
    check_linear(&server, "linear");
    std::fs::remove_file(folder.join("linear.onnx")).unwrap();
    wait_for("the end", HANG, || server.get("/v2/models/linear").status == 404);
}

#[test]
fn graphs_need_no_manifest_in_any_layout() {
    let folder = Folder::new();
    folder.write("bare.onnx", file("linear.onnx"));
    folder.write("single/model.onnx", file("linear.onnx"));
    folder.write("versioned/7/model.onnx", file("linear.onnx"));
    folder.write("described/1/model.onnx", file("linear.onnx"));
    folder.write(
        "described/model.toml",
        "kind = \"onnx\"\nlabels = [\"a\", \"b\"]\n[batch]\nmax_rows = 4\n",
    );
    let server = Setup::cpu().models(folder.path()).start();
    for model in ["bare", "single", "versioned", "described"] {
        check_linear(&server, model);
    }
    assert_eq!(server.get("/v2/models/versioned/versions/7").status, 200);
    // Five rows are more than a batch of four: they are answered in two batches.
    let many = infer(&server, "described", &[5, 3], &[1.0; 15]);
    assert_eq!(many["shape"], json!([5, 2]));
}

#[test]
fn a_graph_of_one_row_answers_many() {
    let folder = Folder::new();
    folder.write("mean.onnx", file("mean_of_one.onnx"));
    let server = Setup::cpu().models(folder.path()).start();
    let output = infer(&server, "mean", &[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(output["shape"], json!([2, 2]));
    assert_eq!(output["data"], json!([2.0, 3.0, 6.0, 7.0]));
    // Another length needs another plan.
    let output = infer(&server, "mean", &[1, 1, 2], &[5.0, 6.0]);
    assert_eq!(output["data"], json!([5.0, 6.0]));
}

#[test]
fn models_check_reports_operators_inputs_and_launches() {
    let folder = Folder::new();
    let good = folder.write("linear.onnx", file("linear.onnx"));
    let output = run(&["models", "check", &good.display().to_string()], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for words in ["MatMul 1", "x FP32 [-1, 3]", "stacked", "1 launches, 0 on the host, 1 uploads"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let output = run(&["models", "check", "--profile", &good.display().to_string()], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for words in ["launches: none 3, ", "epilogues 1\n", "MatMul > Add Relu", " us"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let bad = folder.write("unknown.onnx", file("unknown_operator.onnx"));
    let output = run(&["models", "check", &bad.display().to_string()], &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("Magic of ai.onnx"), "{text}");
}

/// The second check of the proof: the worker computes wrongly in the step that compares rows in a
/// batch with single rows (the seventh: open, read, warm up two buckets, time two).
#[test]
fn model_is_run_whole_if_rows_give_other_results_in_a_batch() {
    let folder = Folder::new();
    folder.write("linear/model.onnx", file("linear.onnx"));
    folder.write("linear/model.toml", "kind = \"onnx\"\n[batch]\nmax_rows = 2\n");
    let faults = "[[test.faults]]\nfault = 'wrong_answer'\nat = 7";
    let server = Setup::cpu().models(folder.path()).config(faults).start();
    check_linear(&server, "linear");
    let model = server.snapshot()["models"][0].clone();
    let rows = model["rows"].as_str().unwrap_or_default();
    assert!(rows.starts_with("whole: ") && rows.contains("in one batch differ"), "{model}");
    assert_eq!(server.get("/v2/models/linear/config").json()["max_batch_size"], 0);
}

/// The request that reveals the difference through `generate` is answered, and so are those after
/// it.
#[test]
fn generate_is_answered_while_its_model_is_switched_to_whole_runs() {
    let folder = Folder::new();
    folder.write("linear/model.onnx", file("linear.onnx"));
    folder.write("linear/model.toml", "kind = \"onnx\"\n[batch]\nmax_rows = 2\n");
    let faults = "[[test.faults]]\nfault = 'wrong_answer'\nat = 7";
    let server = Setup::cpu().models(folder.path()).config(faults).start();
    let generate = || server.post("/v2/models/linear/generate", r#"{"x": [1, 2, 3]}"#);
    let (first, second) = (generate(), generate());
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["y"].as_array().map(Vec::len), Some(2), "{}", first.text());
    assert_eq!(second.json(), first.json());
    let rows = server.snapshot()["models"][0]["rows"].clone();
    assert!(rows.as_str().is_some_and(|rows| rows.starts_with("whole: ")), "{rows}");
}

/// The same while the model is reloaded through the API.
#[test]
fn reloaded_model_is_run_whole_if_rows_give_other_results_in_a_batch() {
    let folder = Folder::new();
    let faults = "[[test.faults]]\nfault = 'wrong_answer'\nat = 7";
    let setup = Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "0s"]);
    let server = setup.config(faults).start();
    folder.write("linear/model.onnx", file("linear.onnx"));
    folder.write("linear/model.toml", "kind = \"onnx\"\n[batch]\nmax_rows = 2\n");
    let load = server.post("/v2/repository/models/linear/load", "{}");
    assert_eq!(load.status, 200, "{}", load.text());
    check_linear(&server, "linear");
    let models = server.snapshot()["models"].clone();
    assert_eq!(models.as_array().map(Vec::len), Some(1), "{models}");
    assert!(models[0]["rows"].as_str().unwrap_or_default().starts_with("whole: "), "{models}");
}

/// `y` is the element of `[1, 2, 3]` at `i - 1000`, so that the graph fails on zeros.
#[test]
fn graph_that_fails_on_zeros_is_loaded_through_the_api() {
    let folder = Folder::new();
    folder.write("far.onnx", file("gather_by_difference.onnx"));
    let server = Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "0s"]).start();
    let input = json!({"name": "i", "datatype": "INT64", "shape": [2], "data": [1000, 1002]});
    let body = json!({"inputs": [input]}).to_string();
    for _ in 0..2 {
        let load = server.post("/v2/repository/models/far/load", "{}");
        assert_eq!(load.status, 200, "{}", load.text());
        let response = server.post("/v2/models/far/infer", &body);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()["outputs"][0]["data"], json!([1.0, 3.0]));
    }
    folder.write("far.onnx", "no graph");
    let load = server.post("/v2/repository/models/far/load", "{}");
    assert_eq!(load.status, 422, "{}", load.text());
    assert_eq!(server.post("/v2/models/far/infer", &body).status, 200);
}

#[test]
fn manifest_determines_how_rows_are_batched() {
    let folder = Folder::new();
    for mode in ["stacked", "each", "whole"] {
        folder.write(&format!("{mode}/model.onnx"), file("linear.onnx"));
        let manifest = format!("kind = \"onnx\"\nrows = \"{mode}\"\n");
        folder.write(&format!("{mode}/model.toml"), manifest);
    }
    let server = Setup::cpu().models(folder.path()).start();
    for mode in ["stacked", "each", "whole"] {
        check_linear(&server, mode);
        let shape = server.get(&format!("/v2/models/{mode}")).json()["inputs"][0]["shape"].clone();
        let first = if mode == "each" { 1 } else { -1 };
        assert_eq!(shape, json!([first, 3]), "{mode}");
    }
}

/// The file calls its first axis a batch, but a Reshape in it has a batch of one.
#[test]
fn a_batch_of_one_in_the_graph_is_run_row_by_row() {
    let folder = Folder::new();
    folder.write("baked.onnx", file("onnx_cases/baked_batch/model.onnx"));
    let server = Setup::cpu().models(folder.path()).start();
    let data: Vec<f32> = (0..18u8).map(f32::from).collect();
    let output = infer(&server, "baked", &[3, 2, 3], &data);
    assert_eq!(output["shape"][0], 3);
    let apart = data.chunks(6).map(|row| infer(&server, "baked", &[1, 2, 3], row));
    let apart: Vec<Value> = apart.flat_map(|row| row["data"].as_array().unwrap().clone()).collect();
    assert_eq!(output["data"].as_array().unwrap(), &apart);
}
