//! Models are served from their last good files after the files are overwritten by invalid ones.

use serde_json::{Value, json};
use std::path::Path;
use testkit::{Folder, HANG, Response, Server, Setup, models, wait_for};

/// The same graph in every layout of a repository: name of the model and its file.
const LAYOUTS: [(&str, &str); 4] = [
    ("bare", "bare.onnx"),
    ("folder", "folder/model.onnx"),
    ("hugging", "hugging/onnx/model.onnx"),
    ("versioned", "versioned/7/model.onnx"),
];

fn good() -> Vec<u8> {
    std::fs::read(models::package().join("tests/data/linear.onnx")).unwrap()
}

/// Files that cannot be served: one that is not a graph, one with an operator that is not
/// supported, and one with weights that are shorter than their shape.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let mut short = good();
    // The matrix of the product has the shape [3, 2]: field 1 of the tensor, twice.
    let at = short.windows(4).position(|bytes| bytes == [8, 3, 8, 2]).expect("the shape");
    short[at + 3] = 3;
    let unknown = models::package().join("tests/data/unknown_operator.onnx");
    vec![
        ("no graph", b"no graph at all".to_vec()),
        ("unknown operator", std::fs::read(unknown).unwrap()),
        ("short weights", short),
    ]
}

fn start(folder: &Folder, cache: &Path, poll: &str) -> Server {
    let args = ["--models-poll-interval", poll];
    Setup::cpu().models(folder.path()).cache_dir(cache).args(&args).start()
}

fn infer(server: &Server, model: &str) -> Response {
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]});
    server.post(&format!("/v2/models/{model}/infer"), &json!({"inputs": [input]}).to_string())
}

#[track_caller]
fn check(server: &Server, model: &str, context: &str) {
    let response = infer(server, model);
    assert_eq!(response.status, 200, "{context}, {model}: {}", response.text());
    assert_eq!(response.json()["outputs"][0]["data"], json!([4.5, 6.0]), "{context}, {model}");
}

fn check_all(server: &Server, context: &str) {
    LAYOUTS.iter().for_each(|(model, _)| check(server, model, context));
}

/// State and reason of a model in the index: those of the version that has a reason, if there is
/// one.
fn index(server: &Server, model: &str) -> (String, String) {
    let entries = server.send("POST", "/v2/repository/index", &[], b"").json();
    let entries = entries.as_array().unwrap().iter().filter(|entry| entry["name"] == model);
    let has_reason = |entry: &&Value| entry["reason"].as_str().is_some_and(|text| !text.is_empty());
    let entry = entries.clone().find(has_reason).or(entries.clone().next()).cloned();
    let entry = entry.unwrap_or(Value::Null);
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

#[track_caller]
fn wait_for_kept(cache: &Path, count: usize) {
    let copies = || {
        let folders = |path: &Path| -> Vec<_> {
            path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let all = folders(&cache.join("models"));
        let copies = all.iter().flat_map(|repository| folders(repository));
        copies.filter(|path| !path.to_string_lossy().contains(".new-")).count()
    };
    wait_for("the good files are kept", HANG, || copies() == count);
}

fn rest(server: &Server) {
    server.set_mode("cpu", "off");
    server.wait_for_state("cpu", &["off"], HANG);
    server.set_mode("cpu", "auto");
}

fn overwrite(folder: &Folder, data: &[u8]) {
    // In place, as `cp` does it.
    LAYOUTS.iter().for_each(|(_, file)| drop(folder.write(file, data)));
}

#[test]
fn model_is_still_served_after_its_files_are_overwritten_by_bad_ones() {
    let (folder, cache) = (Folder::new(), Folder::new());
    overwrite(&folder, &good());
    let mut server = start(&folder, cache.path(), "50ms");
    check_all(&server, "before");
    wait_for_kept(cache.path(), LAYOUTS.len());
    for (what, data) in bad() {
        overwrite(&folder, &data);
        for (model, _) in LAYOUTS {
            wait_for("the reason is shown", HANG, || !index(&server, model).1.is_empty());
            assert_eq!(index(&server, model).0, "READY", "{what}, {model}");
        }
        check_all(&server, &format!("{what}, adapter on"));
        rest(&server);
        check_all(&server, &format!("{what}, adapter was at rest"));
        drop(server);
        server = start(&folder, cache.path(), "50ms");
        server.wait_until_ready();
        // Faults that only a load finds are found by the first request, which was checked against
        // the signature of the invalid graph.
        for (model, _) in LAYOUTS {
            wait_for("the last good files are loaded", HANG, || {
                infer(&server, model).status == 200
            });
        }
        check_all(&server, &format!("{what}, server restarted"));
        for (model, _) in LAYOUTS {
            let (state, reason) = index(&server, model);
            assert_eq!(state, "READY", "{what}, {model}");
            assert!(!reason.is_empty(), "{what}, {model}: the newer files are not named");
        }
    }
    overwrite(&folder, &good());
    for (model, _) in LAYOUTS {
        let fine = || index(&server, model) == ("READY".to_owned(), String::new());
        wait_for("the new files are good", HANG, fine);
    }
    rest(&server);
    check_all(&server, "mended");
}

#[test]
fn files_that_change_between_scans_are_found_bad_by_the_next_load() {
    for (what, data) in bad() {
        let (folder, cache) = (Folder::new(), Folder::new());
        overwrite(&folder, &good());
        let server = start(&folder, cache.path(), "0s");
        check_all(&server, "before");
        wait_for_kept(cache.path(), LAYOUTS.len());
        rest(&server);
        overwrite(&folder, &data);
        check_all(&server, &format!("{what}, replaced at rest and not looked at"));
        assert_ne!(index(&server, "bare").1, "", "{what}");
    }
}

#[test]
fn older_version_is_still_served_after_a_newer_one_fails_to_load() {
    for (what, data) in bad() {
        let (folder, cache) = (Folder::new(), Folder::new());
        folder.write("m/1/model.onnx", good());
        let server = start(&folder, cache.path(), "50ms");
        check(&server, "m", "before");
        wait_for_kept(cache.path(), 1);
        folder.write("m/2/model.onnx", &data);
        wait_for("the reason is shown", HANG, || !index(&server, "m").1.is_empty());
        rest(&server);
        check(&server, "m", what);
        drop(server);
        let server = start(&folder, cache.path(), "50ms");
        server.wait_until_ready();
        // Faults that only a load finds are found by the first request to the newer version.
        wait_for("the older version is loaded", HANG, || infer(&server, "m").status == 200);
        assert_eq!(infer(&server, "m").json()["model_version"], "1", "{what}");
    }
}

#[test]
fn each_version_stays_served_when_only_one_is_overwritten() {
    let (folder, cache) = (Folder::new(), Folder::new());
    folder.write("m/model.toml", "kind = \"onnx\"\nversions = \"all\"\n");
    folder.write("m/1/model.onnx", good());
    folder.write("m/2/model.onnx", good());
    let server = start(&folder, cache.path(), "50ms");
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]});
    let body = json!({ "inputs": [input] }).to_string();
    let status = |server: &Server, version: u32| {
        server.post(&format!("/v2/models/m/versions/{version}/infer"), &body).status
    };
    assert_eq!([1, 2].map(|version| status(&server, version)), [200, 200]);
    wait_for_kept(cache.path(), 2);
    folder.write("m/2/model.onnx", b"no graph");
    let reason = |server: &Server| {
        let entries = server.send("POST", "/v2/repository/index", &[], b"").json();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let newest = entries.iter().find(|entry| entry["version"] == "2").cloned();
        newest.unwrap_or_default()["reason"].as_str().unwrap_or_default().to_owned()
    };
    wait_for("the reason is shown", HANG, || reason(&server).contains("m/2/model.onnx"));
    rest(&server);
    assert_eq!([1, 2].map(|version| status(&server, version)), [200, 200]);
    drop(server);
    let server = start(&folder, cache.path(), "50ms");
    server.wait_until_ready();
    assert_eq!([1, 2].map(|version| status(&server, version)), [200, 200], "restarted");
}

#[test]
fn external_data_are_kept_with_their_model() {
    let (folder, cache) = (Folder::new(), Folder::new());
    models::add_digits(&folder, "digits");
    folder.write("far.onnx", models::external_linear("./data/w.bin"));
    folder.write("data/w.bin", models::external_weights());
    let server = start(&folder, cache.path(), "50ms");
    check(&server, "far", "before");
    wait_for_kept(cache.path(), 1);
    folder.write("data/w.bin", b"short");
    rest(&server);
    check(&server, "far", "its data are too short now");
    drop(server);
    let server = start(&folder, cache.path(), "50ms");
    check(&server, "far", "server restarted");
}

#[test]
fn nothing_is_kept_of_removed_models() {
    let (folder, cache) = (Folder::new(), Folder::new());
    overwrite(&folder, &good());
    let server = start(&folder, cache.path(), "50ms");
    check_all(&server, "before");
    wait_for_kept(cache.path(), LAYOUTS.len());
    std::fs::remove_file(folder.join("bare.onnx")).unwrap();
    wait_for_kept(cache.path(), LAYOUTS.len() - 1);
    drop(server);
    std::fs::remove_dir_all(folder.join("folder")).unwrap();
    let _server = start(&folder, cache.path(), "50ms");
    wait_for_kept(cache.path(), LAYOUTS.len() - 2);
}

#[test]
fn models_over_the_limit_of_kept_files_are_served_but_not_kept() {
    let (folder, cache) = (Folder::new(), Folder::new());
    folder.write("bare.onnx", good());
    let setup = Setup::cpu().models(folder.path()).cache_dir(cache.path());
    let config = "[adapters]\nmin = 1\n[cache]\nmodels_bytes = 10";
    let server = setup.config(config).start();
    check(&server, "bare", "before");
    wait_for("the log names the setting", HANG, || server.log().contains("cache.models_bytes"));
    wait_for_kept(cache.path(), 0);
    folder.write("bare.onnx", b"no graph");
    wait_for("the reason is shown", HANG, || !index(&server, "bare").1.is_empty());
    check(&server, "bare", "the adapter still holds it");
}
