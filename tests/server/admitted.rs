//! Admitted requests are finished while the server stops and while the models that they use are
//! unloaded.

use std::thread::JoinHandle;
use std::time::Duration;
use testkit::http::{Connection, Response, request};
use testkit::images::SEVEN;
use testkit::{HANG, Server, Setup, models, wait_for};

/// Requests of each model in flight at once.
const EACH: usize = 8;

/// A request to `ocr` with a page, or to `digits`.
fn request_to(model: &str) -> Vec<u8> {
    let path = format!("/v2/models/{model}/infer");
    if model == "ocr" {
        let page = std::fs::read(models::package().join("examples/page.png")).unwrap();
        return request("POST", &path, &[("content-type", "image/png")], &page);
    }
    let headers = [("content-type", "application/json")];
    request("POST", &path, &headers, SEVEN.as_bytes())
}

/// Sends a request; the answer is received in a thread.
fn begin(server: &Server, bytes: &[u8]) -> JoinHandle<Response> {
    let mut connection = server.connect();
    connection.send(bytes).unwrap();
    std::thread::spawn(move || connection.receive().unwrap())
}

/// Sends requests of both models, and waits until chains are between their first and last step.
fn begin_many(server: &Server) -> Vec<JoinHandle<Response>> {
    let lines = || model(server, "text-lines");
    let before = lines();
    let begin_one = |model: &str| begin(server, &request_to(model));
    let answers = (0..EACH).flat_map(|_| [begin_one("ocr"), begin_one("digits")]).collect();
    wait_for("a second step", HANG, || lines() > before);
    answers
}

/// The requests that a model has answered.
fn model(server: &Server, name: &str) -> u64 {
    let snapshot = server.snapshot();
    let models = snapshot["models"].as_array().unwrap();
    models.iter().find(|model| model["name"] == name).unwrap()["requests"].as_u64().unwrap()
}

#[track_caller]
fn all_are_good(answers: Vec<JoinHandle<Response>>) {
    for answer in answers {
        let answer = answer.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn requests_and_chains_in_flight_are_finished_when_the_server_stops() {
    for _ in 0..3 {
        let mut server = Setup::cpu().start();
        assert_eq!(begin(&server, &request_to("ocr")).join().unwrap().status, 200);
        let answers = begin_many(&server);
        server.terminate();
        all_are_good(answers);
        assert!(server.wait().success());
    }
}

#[test]
fn chains_in_flight_are_finished_when_their_models_are_unloaded() {
    let server = Setup::cpu().start();
    assert_eq!(begin(&server, &request_to("ocr")).join().unwrap().status, 200);
    let answers = begin_many(&server);
    for name in ["text-lines", "text-regions", "ocr", "digits"] {
        let unloaded = server.post(&format!("/v2/repository/models/{name}/unload"), "{}");
        assert_eq!(unloaded.status, 200, "{}", unloaded.text());
    }
    // Requests from now on find no model.
    assert_eq!(begin(&server, &request_to("ocr")).join().unwrap().status, 404);
    all_are_good(answers);
    wait_for("the end of the models", HANG, || {
        let snapshot = server.snapshot();
        let models = snapshot["models"].as_array().unwrap();
        models.iter().all(|model| model["name"] == "filetype")
    });
}

/// A connection on which half a request was sent, and the rest of the request.
fn begin_half(server: &Server) -> (Connection, Vec<u8>) {
    let mut bytes = request_to("digits");
    let rest = bytes.split_off(bytes.len() - 100);
    let mut connection = server.connect();
    connection.send(&bytes).unwrap();
    // The head is read by then: a request that was sent later is answered.
    assert_eq!(begin(server, &request_to("digits")).join().unwrap().status, 200);
    std::thread::sleep(Duration::from_millis(100));
    (connection, rest)
}

#[test]
fn body_still_being_sent_is_accepted_while_its_model_is_unloaded() {
    let server = Setup::cpu().start();
    let (mut connection, rest) = begin_half(&server);
    let unloaded = server.post("/v2/repository/models/digits/unload", "{}");
    assert_eq!(unloaded.status, 200);
    connection.send(&rest).unwrap();
    let answer = connection.receive().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(begin(&server, &request_to("digits")).join().unwrap().status, 404);
}

#[test]
fn body_still_being_sent_is_accepted_while_the_server_stops() {
    let mut server = Setup::cpu().start();
    let (mut connection, rest) = begin_half(&server);
    server.terminate();
    std::thread::sleep(Duration::from_millis(200));
    connection.send(&rest).unwrap();
    let answer = connection.receive().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(server.wait().success());
}
