use serde_json::Value;
use testkit::images::{SEVEN, digits};
use testkit::{Folder, HANG, Setup, models, run, wait_for};

/// Swaps the dimensions of every matrix: the same number of bytes, but the wrong shape.
fn misshapen(weights: &[u8]) -> Vec<u8> {
    let (length, rest) = weights.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let mut header: Value = serde_json::from_slice(header).unwrap();
    for tensor in header.as_object_mut().unwrap().values_mut() {
        if let Some(shape) = tensor.get_mut("shape").and_then(Value::as_array_mut) {
            shape.reverse();
        }
    }
    let mut header = header.to_string();
    // The format requires aligned data.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Adds models that are broken in every way, beside two good ones. Returns the names of those that
/// the scan finds and of those that only a load finds, each with a part of its error.
#[allow(clippy::type_complexity, reason = "two lists of pairs")]
fn spoil(
    folder: &Folder,
) -> (Vec<(&'static str, &'static str)>, Vec<(&'static str, &'static str)>) {
    models::add_echo(folder, "echo", 8, "0s");
    models::add_digits(folder, "digits");
    let digits = models::source().join("digits");
    let weights = std::fs::read(digits.join("1/weights.safetensors")).unwrap();
    let echo = models::echo_toml(8, "0s");
    folder.make_dir("empty");
    folder.make_dir("a-folder/model.toml");
    folder.write("broken/model.toml", "kind = ");
    folder.write("alien/model.toml", echo.replace("identity", "tensorflow"));
    folder.write("versionless/model.toml", &echo);
    folder.write("greedy/model.toml", echo.replace("max_rows = 8", "max_rows = 0"));
    folder.write("binary/model.toml", [0xff, 0, 0xfe]);
    models::add_digits(folder, "no-golden");
    folder.write("no-golden/1/golden.json", "{");
    std::fs::create_dir_all(folder.join("outside")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("outside/model.toml")).unwrap();
    models::add_digits(folder, "misshapen");
    folder.write("misshapen/1/weights.safetensors", misshapen(&weights));
    models::add_digits(folder, "cut");
    folder.write("cut/1/weights.safetensors", &weights[..weights.len() / 2]);
    models::add_digits(folder, "noise");
    folder.write("noise/1/weights.safetensors", [0x5a; 1000]);
    models::add_digits(folder, "weightless");
    std::fs::remove_file(folder.join("weightless/1/weights.safetensors")).unwrap();
    let scanned = vec![
        ("a-folder", "is not a plain file"),
        ("alien", "kind: 'tensorflow' is unknown; use count, digits, identity, onnx"),
        ("binary", "is not UTF-8 text"),
        ("broken", "line 1, `kind =`"),
        ("empty", "does not contain a model"),
        ("greedy", "batch.max_rows: 0 is not between"),
        ("no-golden", "golden.json"),
        ("outside", "leads out of the model repository"),
        ("versionless", "has no version folder"),
    ];
    let loaded = vec![
        ("cut", "weights.safetensors"),
        ("misshapen", "shape"),
        ("noise", "weights.safetensors"),
        ("weightless", "does not exist"),
    ];
    (scanned, loaded)
}

#[test]
fn broken_models_are_listed_and_the_others_are_served() {
    let folder = Folder::new();
    let (scanned, loaded) = spoil(&folder);
    let server = Setup::cpu().models(folder.path()).start();
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
    for (name, _) in &loaded {
        let response = server.post(&format!("/v2/models/{name}/infer"), SEVEN);
        assert_eq!(response.status, 422, "{name}: {}", response.text());
        assert!(response.error().contains("failed to load"), "{name}: {}", response.error());
    }
    for (name, part) in scanned.iter().chain(&loaded) {
        // A worker that failed to load it has reported that by now, but the snapshot may be older.
        wait_for(&format!("{name} reports '{part}'"), HANG, || {
            let snapshot = server.snapshot();
            let models = snapshot["models"].as_array().unwrap();
            let model = models.iter().find(|model| model["name"] == *name).unwrap();
            let reason = model["reason"].as_str().unwrap_or_default();
            model["state"] == "unavailable" && reason.contains(part)
        });
    }
    for (name, part) in &scanned {
        let response = server.post(&format!("/v2/models/{name}/infer"), SEVEN);
        assert_eq!(response.status, 422, "{name}: {}", response.text());
        assert!(response.error().contains(part), "{name}: {}", response.error());
    }
    for (name, _) in &loaded {
        let response = server.post(&format!("/v2/models/{name}/infer"), SEVEN);
        assert_eq!(response.status, 422, "{name}: {}", response.text());
        assert!(response.error().contains("failed to load"), "{name}: {}", response.error());
        assert_eq!(server.get(&format!("/v2/models/{name}/ready")).status, 422, "{name}");
    }
    let echo = r#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1,1],"data":[-3]}]}"#;
    assert_eq!(server.post("/v2/models/echo/infer", echo).status, 200);
    assert_eq!(server.get("/v2/models/digits/ready").status, 200);
    let cpu = server.adapter("cpu");
    assert_eq!(cpu["starts"], 1, "a broken model cost the adapter its worker: {cpu:#}");
}

#[test]
fn models_command_marks_good_and_broken_models() {
    let builtin = run(&["models"], &[]);
    assert!(builtin.status.success());
    assert!(String::from_utf8_lossy(&builtin.stdout).contains("digits"));
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    let path = folder.path().to_str().unwrap().to_owned();
    assert!(run(&["models", "--models", &path], &[]).status.success());
    let (scanned, _) = spoil(&folder);
    let output = run(&["models", "--models", &path], &[]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    for (name, _) in &scanned {
        let listed = text.lines().any(|line| line.contains(name) && line.contains("broken"));
        assert!(listed, "{name} is not listed as broken:\n{text}");
    }
    assert!(text.lines().any(|line| line.contains("echo") && line.contains("good")), "{text}");
}

#[test]
fn a_folder_that_is_missing_is_an_error() {
    let (status, log) = Setup::cpu().args(&["--models", "/nonexistent/models"]).fail();
    assert!(!status.success());
    assert!(log.contains("/nonexistent/models: does not exist"), "{log}");
}
