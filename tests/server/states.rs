//! Consistent states of a model: one that cannot be loaded is not ready, with the reason in the
//! index and in errors.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use testkit::{Folder, HANG, Server, Setup, models, run, wait_for};

fn data(name: &str) -> Vec<u8> {
    std::fs::read(models::package().join("tests/data").join(name)).unwrap()
}

const ROW: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#;

fn index(server: &Server, model: &str) -> Value {
    let entries = server.send("POST", "/v2/repository/index", &[], b"").json();
    let found = entries.as_array().unwrap().iter().find(|entry| entry["name"] == model).cloned();
    found.unwrap_or_default()
}

/// Checks that the index, readiness and inference report a model as unavailable, with the reason.
#[track_caller]
fn check_unready(server: &Server, model: &str, status: u16, reason: &str) {
    let entry = index(server, model);
    assert_eq!(entry["state"], "UNAVAILABLE", "{model}: {entry}");
    assert!(entry["reason"].as_str().unwrap().contains(reason), "{model}: {entry}");
    for response in [
        server.post(&format!("/v2/models/{model}/infer"), ROW),
        server.get(&format!("/v2/models/{model}/ready")),
    ] {
        assert_eq!(response.status, status, "{model}: {}", response.text());
        assert!(response.error().contains(reason), "{model}: {}", response.text());
    }
}

/// `linear.onnx` with a matrix that has more elements by its shape than by its data.
fn short_weights() -> Vec<u8> {
    let mut data = data("linear.onnx");
    let at = data.windows(4).position(|bytes| bytes == [8, 3, 8, 2]).expect("the shape");
    data[at + 3] = 3;
    data
}

/// A sample of `linear.onnx` that expects these numbers.
fn golden(expected: [f64; 2]) -> String {
    let sample = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": expected}],
    });
    sample.to_string()
}

#[test]
fn file_that_cannot_be_served_is_unavailable_before_the_first_request() {
    let folder = Folder::new();
    folder.write("unknown.onnx", data("unknown_operator.onnx"));
    folder.write("cut.onnx", &data("linear.onnx")[..100]);
    folder.write("dataless.onnx", models::external_linear("w.bin"));
    folder.write("short.onnx", models::external_linear("./data/short.bin"));
    folder.write("data/short.bin", b"1234");
    folder.write("few.onnx", short_weights());
    folder.write("outside.onnx", models::external_linear("../w.bin"));
    folder.write("several/a.onnx", data("linear.onnx"));
    folder.write("several/b.onnx", data("linear.onnx"));
    let cases = [
        ("unknown", "Magic of ai.onnx"),
        ("cut", "is not an ONNX file"),
        ("dataless", "w.bin: does not exist"),
        ("short", "data/short.bin: has 4 bytes, but the graph takes 24"),
        ("few", "takes 36 bytes, but there are 24"),
        ("outside", "leads out of the model's folder"),
        ("several", "a.onnx, b.onnx"),
    ];
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    cases.iter().for_each(|(model, reason)| check_unready(&server, model, 422, reason));
    assert_eq!(server.adapter("cpu")["starts"], 0, "no worker was needed to know it");
    assert_eq!(server.post("/v2/models/nope/infer", ROW).status, 404);
    let output = run(&["models", "--models", folder.path().to_str().unwrap()], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{text}");
    for (model, _) in cases {
        let line = text.lines().any(|line| line.contains(model) && line.contains("broken"));
        assert!(line, "{model}: {text}");
    }
}

#[test]
fn a_load_that_failed_is_not_repeated_until_the_file_changes() {
    let folder = Folder::new();
    folder.write("m/1/model.onnx", data("linear.onnx"));
    folder.write("m/1/golden.json", golden([0.0, 0.0]));
    folder.write("m/model.toml", "kind = \"onnx\"\n[golden]\n");
    let server =
        Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "50ms"]).start();
    server.wait_until_ready();
    let reason = "golden sample failed";
    let response = server.post("/v2/models/m/infer", ROW);
    assert_eq!(response.status, 500, "{}", response.text());
    wait_for("the index shows it", HANG, || index(&server, "m")["state"] == "UNAVAILABLE");
    let loads = |server: &Server| server.log().matches("failed to load").count();
    let before = loads(&server);
    for _ in 0..20 {
        check_unready(&server, "m", 500, reason);
    }
    assert_eq!(loads(&server), before, "each request had it loaded again");
    // An explicit load repeats the attempt and reports the same error.
    let load = "/v2/repository/models/m/load";
    let response = server.post(load, "{}");
    assert!(response.status == 500 && response.error().contains(reason), "{}", response.text());
    wait_for("the log names another load", HANG, || loads(&server) > before);
    folder.write("m/1/golden.json", golden([4.5, 6.0]));
    wait_for("it is served", HANG, || server.post("/v2/models/m/infer", ROW).status == 200);
    assert_eq!(index(&server, "m")["state"], "READY");
    assert_eq!(server.get("/v2/models/m/ready").status, 200);
}

#[test]
fn unreadable_file_is_answered_with_500_and_served_once_readable() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may read everything");
        return;
    }
    let folder = Folder::new();
    let path = folder.write("m.onnx", data("linear.onnx"));
    let permit = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(0);
    let server =
        Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "50ms"]).start();
    server.wait_until_ready();
    check_unready(&server, "m", 500, "permission denied");
    permit(0o644);
    wait_for("it is served", HANG, || server.post("/v2/models/m/infer", ROW).status == 200);
}

/// An ensemble of one step.
fn ensemble(member: &str, input: &str) -> String {
    format!(
        "kind = \"ensemble\"\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [3]\n\
         [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [2]\n[[steps]]\n\
         model = \"{member}\"\ninputs = {{ {input} = \"x\" }}\noutputs = {{ y = \"y\" }}\n"
    )
}

#[test]
fn ensemble_reports_why_a_member_cannot_be_served() {
    let folder = Folder::new();
    folder.write("good.onnx", data("linear.onnx"));
    folder.write("unknown.onnx", data("unknown_operator.onnx"));
    folder.write("short.onnx", short_weights());
    folder.write("chain/model.toml", ensemble("good", "x"));
    folder.write("of_unknown/model.toml", ensemble("unknown", "x"));
    folder.write("of_short/model.toml", ensemble("short", "x"));
    folder.write("of_other_input/model.toml", ensemble("good", "q"));
    folder.write("of_none/model.toml", ensemble("none", "x"));
    let server =
        Setup::cpu().models(folder.path()).args(&["--models-poll-interval", "50ms"]).start();
    server.wait_until_ready();
    let infer = |model: &str| server.post(&format!("/v2/models/{model}/infer"), ROW);
    assert_eq!(infer("chain").status, 200);
    check_unready(&server, "of_unknown", 422, "Magic of ai.onnx");
    check_unready(&server, "of_other_input", 422, "input 'q', which model 'good' does not have");
    check_unready(&server, "of_none", 503, "needs model 'none', which is not served");
    assert_eq!(infer("of_short").status, 422);
    let shown = || index(&server, "of_short")["state"] == "UNAVAILABLE";
    wait_for("the index shows it", HANG, shown);
    check_unready(&server, "of_short", 422, "takes 36 bytes, but there are 24");
    let output = run(&["models", "--models", folder.path().to_str().unwrap()], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |model: &str| {
        text.lines().map(str::trim_start).find(|line| line.starts_with(model)).unwrap_or_default()
    };
    for model in ["of_unknown", "of_other_input", "of_none"] {
        assert!(line(model).contains("broken"), "{model}: {text}");
    }
    assert!(line("chain").trim_end().ends_with("good"), "{text}");
    // Ensembles are served again once their members are.
    folder.write("unknown.onnx", data("linear.onnx"));
    folder.write("short.onnx", data("linear.onnx"));
    for model in ["of_unknown", "of_short"] {
        wait_for("it is served", HANG, || infer(model).status == 200);
        assert_eq!(index(&server, model)["state"], "READY", "{model}");
        assert_eq!(server.get(&format!("/v2/models/{model}/ready")).status, 200, "{model}");
    }
}

#[test]
fn folder_without_a_model_file_reports_the_expected_files() {
    let folder = Folder::new();
    folder.make_dir("empty");
    folder.write("named/v1/model.onnx", data("linear.onnx"));
    folder.write("readme/README.md", "weights are elsewhere");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    for model in ["empty", "named", "readme"] {
        check_unready(
            &server,
            model,
            422,
            "does not contain a model; add model.onnx, a version folder",
        );
    }
}

#[test]
fn models_check_rejects_files_that_the_server_rejects() {
    let folder = Folder::new();
    let check = |name: &str| {
        let output = run(&["models", "check", folder.join(name).to_str().unwrap()], &[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    folder.write("data/w.bin", models::external_weights());
    folder.write("good.onnx", models::external_linear("./data/w.bin"));
    folder.write("dataless.onnx", models::external_linear("none.bin"));
    folder.write("short.onnx", short_weights());
    folder.write("described/model.onnx", data("linear.onnx"));
    let other = "[[inputs]]\nname = \"other\"\ndatatype = \"FP32\"\nshape = [3]\n\
                 [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [2]\n";
    folder.write("described/model.toml", format!("kind = \"onnx\"\n{other}"));
    folder.write("wrong/1/model.onnx", data("linear.onnx"));
    folder.write("wrong/1/golden.json", golden([0.0, 0.0]));
    folder.write("wrong/model.toml", "kind = \"onnx\"\n[golden]\n");
    for (name, reason) in [
        ("good.onnx", None),
        ("dataless.onnx", Some("none.bin")),
        ("short.onnx", Some("takes 36 bytes")),
        ("described/model.onnx", Some("model.toml states the input other")),
        ("wrong/1/model.onnx", Some("golden sample failed")),
    ] {
        let (success, text) = check(name);
        assert_eq!(success, reason.is_none(), "{name}: {text}");
        assert!(text.contains(reason.unwrap_or_default()), "{name}: {text}");
    }
}
