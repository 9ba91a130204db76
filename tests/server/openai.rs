//! The list of models of the OpenAI API, which clients of that API read first.

use serde_json::{Value, json};
use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testkit::http::request;
use testkit::images::SEVEN;
use testkit::load::Load;
use testkit::{Folder, HANG, Response, Server, Setup, models, run, wait_for};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Ids of the models in the list.
#[track_caller]
fn ids(server: &Server) -> Vec<String> {
    let response = server.get("/v1/models");
    assert_eq!(response.status, 200, "{}", response.text());
    let list = response.json();
    assert_eq!(list["object"], "list");
    let id = |model: &Value| model["id"].as_str().unwrap().to_owned();
    list["data"].as_array().unwrap().iter().map(id).collect()
}

/// The status and code of an error; the rest of its form is checked.
#[track_caller]
fn error(response: &Response) -> (u16, Value) {
    let error = response.json()["error"].clone();
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &Value::Null));
    (response.status, error["code"].clone())
}

fn set_modified(folder: &Folder, file: &str, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let file = File::options().write(true).open(folder.join(file)).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn each_ready_model_is_listed_once_with_the_time_of_its_files() {
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    models::add_echo(&folder, "echo", 8, "0s");
    folder.make_dir("echo/2");
    folder.make_dir("broken");
    set_modified(&folder, "echo/model.toml", 1_700_000_000);
    let files = ["model.toml", "1/golden.json", "1/weights.safetensors"];
    for (file, seconds) in files.into_iter().zip([1_700_000_001, 1_700_000_003, 1_700_000_002]) {
        set_modified(&folder, &format!("digits/{file}"), seconds);
    }
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let model = |id: &str, created: u64| json!({"id": id, "object": "model", "created": created, "owned_by": "concertina"});
    let (digits, echo) = (model("digits", 1_700_000_003), model("echo", 1_700_000_000));
    let list = server.get("/v1/models");
    assert_eq!(list.header("content-type"), Some("application/json"));
    assert_eq!(list.json(), json!({"object": "list", "data": [digits, echo]}));
    assert_eq!(server.get("/v1/models/digits").json(), digits);
    assert_eq!(server.get("/v1/models/%65cho").json(), echo);
}

#[test]
fn a_model_in_the_binary_was_created_when_the_server_started() {
    let before = now();
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let after = now();
    let created = || server.get("/v1/models/digits").json()["created"].as_u64().unwrap();
    let first = created();
    assert!((before..=after).contains(&first), "{before} {first} {after}");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(created(), first);
}

#[test]
fn a_model_that_is_absent_or_not_ready_is_not_found() {
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    folder.make_dir("broken");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let not_found = (404, json!("model_not_found"));
    for name in ["nope", "broken", "org%2Fmodel", "..%2Fdigits", "digits%00", "digits:1", "*"] {
        assert_eq!(error(&server.get(&format!("/v1/models/{name}"))), not_found, "{name}");
    }
    let broken = server.get("/v1/models/broken").json();
    let message = broken["error"]["message"].as_str().unwrap();
    assert!(message.contains("model 'broken' cannot be served: "), "{message}");
    assert_eq!(server.post("/api/adapters/cpu", r#"{"mode":"off"}"#).status, 200);
    wait_for("the list is empty", HANG, || ids(&server).is_empty());
    assert_eq!(error(&server.get("/v1/models/digits")), not_found);
}

#[test]
fn an_unloaded_model_leaves_the_list_and_a_loaded_one_enters_it() {
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    models::add_echo(&folder, "echo", 8, "0s");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    assert_eq!(ids(&server), ["digits", "echo"]);
    let change = |change: &str| {
        let response = server.post(&format!("/v2/repository/models/digits/{change}"), "");
        assert_eq!(response.status, 200, "{}", response.text());
    };
    change("unload");
    assert_eq!(ids(&server), ["echo"]);
    assert_eq!(error(&server.get("/v1/models/digits")), (404, json!("model_not_found")));
    change("load");
    wait_for("digits is listed again", HANG, || ids(&server) == ["digits", "echo"]);
    assert_eq!(server.post("/v2/models/digits/infer", SEVEN).status, 200);
}

#[test]
fn a_new_version_never_takes_its_model_off_the_list() {
    let folder = Folder::new();
    models::add_echo(&folder, "echo", 8, "0s");
    let server = Setup::cpu().models(folder.path()).start();
    server.wait_until_ready();
    let paths = ["/v1/models", "/v1/models/echo"];
    let body = |client: usize| request("GET", paths[client], &[], b"");
    let check = |_, response: &Response| match response.text().contains(r#""id":"echo""#) {
        true => Ok(()),
        false => Err(format!("{}: {}", response.status, response.text())),
    };
    let clients = Load::start(server.address, 2, body, check);
    for version in 2..8 {
        folder.make_dir(&format!("echo/{version}"));
        assert_eq!(server.post("/v2/repository/models/echo/load", "").status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    let seen = clients.stop();
    assert!(seen.wrong.is_empty(), "{} of {}: {:?}", seen.wrong.len(), seen.answers, seen.wrong[0]);
    assert!(seen.answers > 100, "{}", seen.answers);
}

#[test]
fn keys_that_may_infer_or_read_may_list_models() {
    let folder = Folder::new();
    let mut file = String::new();
    let keys = ["infer", "read", "admin"].map(|scope| {
        let made = run(&["key", "--name", scope, "--scope", scope], &[]);
        file += &String::from_utf8(made.stdout).unwrap();
        String::from_utf8(made.stderr).unwrap().trim().to_owned()
    });
    let file = folder.write("keys.toml", file);
    let server = Setup::cpu().args(&["--keys", file.to_str().unwrap()]).start();
    server.wait_until_ready();
    for path in ["/v1/models", "/v1/models/digits"] {
        for key in &keys {
            let bearer = format!("Bearer {key}");
            let response = server.send("GET", path, &[("Authorization", &bearer)], b"");
            assert_eq!(response.status, 200, "{path}: {}", response.text());
        }
        let refused = [server.get(path), server.send("GET", path, &[("X-API-Key", "x")], b"")];
        for response in refused {
            assert_eq!(error(&response), (401, json!("invalid_api_key")), "{path}");
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        }
    }
}

#[test]
fn other_methods_and_other_paths_of_the_openai_api_are_refused() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    for path in ["/v1/models", "/v1/models/digits"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let response = server.send(method, path, &[], b"");
            assert_eq!(error(&response), (405, Value::Null), "{method} {path}");
            assert_eq!(response.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
        let mut connection = server.connect();
        let head = request("HEAD", path, &[], b"");
        connection.send(&head).unwrap();
        assert_eq!(connection.head().unwrap().0, 200, "HEAD {path}");
    }
    for path in ["/v1", "/v1/", "/v1/chat/completions", "/v1/models/digits/more"] {
        for method in ["GET", "POST"] {
            let response = server.send(method, path, &[], b"{}");
            assert_eq!(response.status, 404, "{method} {path}");
            let text = response.error();
            assert!(text.contains("GET /v1/models and") && text.contains("/infer"), "{text}");
        }
    }
    assert_eq!(server.get("/v1x").error(), "no route matches /v1x");
}
