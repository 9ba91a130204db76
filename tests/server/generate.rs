//! Streaming: `generate` and `generate_stream`.

use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::events::{Event, Events};
use testkit::images::SEVEN;
use testkit::models::{add_count, add_digits, add_echo};
use testkit::process::{signal, workers_of};
use testkit::{Folder, HANG, Server, Setup, wait_for};

const STREAM: &str = "/v2/models/count/generate_stream";
const WHOLE: &str = "/v2/models/count/generate";
/// The duration of a step of the counting model with `SLOW`.
const STEP: Duration = Duration::from_millis(5);
const SLOW: &str = "[test.slow.cpu]\nbatch = '5ms'\n";

fn server(config: &str) -> (Server, Folder) {
    let models = Folder::new();
    add_count(&models, "count", 8);
    add_echo(&models, "echo", 8, "0s");
    add_digits(&models, "digits");
    let server = Setup::cpu().models(models.path()).config(config).start();
    server.wait_until_ready();
    (server, models)
}

#[track_caller]
fn open(server: &Server, body: &str) -> Events {
    Events::open(server, STREAM, body).unwrap_or_else(|error| panic!("{}", error.text()))
}

/// The numbers of a stream that ends without an error.
#[track_caller]
fn numbers(events: Vec<Event>) -> Vec<i64> {
    let number = |event: Event| {
        assert_eq!(event.name, "", "{event:?}");
        event.data["number"].as_i64().unwrap()
    };
    events.into_iter().map(number).collect()
}

#[test]
fn numbers_come_one_after_the_other_and_the_stream_ends() {
    let (server, _models) = server("");
    let events = open(&server, r#"{"count": 200, "start": 5, "id": "a"}"#);
    let header = |name: &str| {
        let found = events.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(header("x-concertina-adapter"), "cpu");
    assert_eq!(header("x-accel-buffering"), "no");
    let all = events.rest().unwrap();
    let first = json!({"id": "a", "model_name": "count", "model_version": "1", "number": 5});
    assert_eq!(all[0], Event { name: String::new(), data: first });
    assert_eq!(numbers(all), (5..205).collect::<Vec<_>>());
    // It is one request, regardless of the number of its slices and partial answers.
    wait_for("it counts as one", HANG, || {
        let snapshot = server.snapshot();
        let count = snapshot["models"].as_array().unwrap().iter().find(|m| m["name"] == "count");
        count.unwrap()["requests"] == 1
    });
}

#[test]
fn whole_answer_has_all_numbers_in_a_list() {
    let (server, _models) = server("");
    let answer = server.post(WHOLE, r#"{"count": 300}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let numbers: Vec<i64> = (0..300).collect();
    assert_eq!(answer.json()["number"], json!(numbers));
    assert_eq!(answer.header("x-concertina-adapter"), Some("cpu"));
    for (body, expected) in [(r#"{"count": 1}"#, json!([0])), (r#"{"count": 0}"#, json!([]))] {
        assert_eq!(server.post(WHOLE, body).json()["number"], expected);
    }
    assert!(open(&server, r#"{"count": 0}"#).rest().unwrap().is_empty());
}

#[test]
fn errors_before_the_first_partial_answer_have_a_status() {
    let (server, _models) = server("");
    for (path, body, status, words) in [
        (STREAM, r#"{"count": -1}"#, 422, "give 0 or more"),
        (WHOLE, r#"{"count": -1}"#, 422, "give 0 or more"),
        (STREAM, r#"{}"#, 422, "count"),
        (STREAM, r#"{"number": 1}"#, 400, "no input 'number'; its inputs are count, start"),
        (STREAM, "[", 400, "not a generate request"),
        (STREAM, r#"{"count": [1, 2]}"#, 422, "needs 1 elements"),
        ("/v2/models/none/generate", r#"{"count": 1}"#, 404, "model 'none' not found"),
        ("/v2/models/count/infer", COUNT, 400, "send the request to generate"),
    ] {
        let answer = server.post(path, body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        assert!(answer.error().contains(words), "{path} {body}: {}", answer.error());
    }
    assert_eq!(server.get(STREAM).status, 405);
}

const COUNT: &str =
    r#"{"inputs": [{"name": "count", "datatype": "INT64", "shape": [1, 1], "data": [1]}]}"#;

/// Every model supports `generate`, with one partial answer.
#[test]
fn other_models_answer_generate_too() {
    let (server, _models) = server("");
    let answer = server.post("/v2/models/echo/versions/1/generate", r#"{"x": [true, false]}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = json!({"model_name": "echo", "model_version": "1", "y": [true, false]});
    assert_eq!(answer.json(), expected);
    let image: Value = serde_json::from_str(SEVEN).unwrap();
    let body = json!({"image": image["inputs"][0]["data"]}).to_string();
    let whole = server.post("/v2/models/digits/generate", &body);
    assert_eq!(whole.status, 200, "{}", whole.text());
    let events = Events::open(&server, "/v2/models/digits/generate_stream", &body);
    let events = events.unwrap_or_else(|error| panic!("{}", error.text())).rest().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data, whole.json());
}

/// Requests join those that run, and a stream lets other models run between its slices.
#[test]
fn streams_run_side_by_side_and_beside_other_models() {
    let (server, _models) = server(SLOW);
    let begin = Instant::now();
    let streams = std::thread::scope(|scope| {
        let stream = || scope.spawn(|| open(&server, r#"{"count": 100}"#).rest().unwrap());
        let streams: Vec<_> = (0..8).map(|_| stream()).collect();
        let begin = Instant::now();
        let answer = server.post("/v2/models/digits/infer", SEVEN);
        assert_eq!(answer.status, 200, "{}", answer.text());
        // It waits for a load and some slices, not for the end of the streams.
        assert!(begin.elapsed() < STEP * 8 * 100, "{:?}", begin.elapsed());
        streams.into_iter().map(|stream| stream.join().unwrap()).collect::<Vec<_>>()
    });
    for events in streams {
        assert_eq!(numbers(events), (0..100).collect::<Vec<_>>());
    }
    // One after the other they would take eight times as long.
    assert!(begin.elapsed() < STEP * 8 * 100, "{:?}", begin.elapsed());
}

#[test]
fn cancelled_stream_frees_its_slot() {
    let (server, _models) = server(SLOW);
    let mut streams: Vec<Events> =
        (0..8).map(|_| open(&server, r#"{"count": 1000000000}"#)).collect();
    for stream in &mut streams {
        stream.next().unwrap().unwrap();
    }
    drop(streams);
    // All slots were taken.
    let all = open(&server, r#"{"count": 20}"#).rest().unwrap();
    assert_eq!(numbers(all).len(), 20);
    wait_for("nothing runs any more", HANG, || {
        let snapshot = server.snapshot();
        snapshot["adapters"].as_array().unwrap().iter().all(|adapter| adapter["state"] != "busy")
    });
}

/// Median time from a request to its first event, one request after the other; each client
/// disconnects after that event.
fn median_until_first(server: &Server, body: &str) -> Duration {
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            open(server, body).next().unwrap().unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// The worker receives the cancellation, so that the next request waits for a step and not for the
/// time slice of ten steps.
#[test]
fn cancelled_stream_ends_with_its_step() {
    let models = Folder::new();
    add_count(&models, "count", 1);
    let server = Setup::cpu().models(models.path()).config(SLOW).start();
    server.wait_until_ready();
    let ratios: Vec<f64> = (0..3)
        .map(|_| {
            let ended = median_until_first(&server, r#"{"count": 1}"#);
            let cancelled = median_until_first(&server, r#"{"count": 1000000000}"#);
            cancelled.as_secs_f64() / ended.as_secs_f64()
        })
        .collect();
    assert!(ratios.iter().any(|ratio| *ratio < 4.0), "{ratios:?}");
}

/// A client that reads nothing occupies neither the device nor unbounded memory.
#[test]
fn slow_reader_delays_no_other_client_and_receives_everything() {
    let (server, _models) = server("");
    let slow: Vec<Events> = (0..8).map(|_| open(&server, r#"{"count": 100000}"#)).collect();
    let quick = open(&server, r#"{"count": 1000}"#).rest().unwrap();
    assert_eq!(numbers(quick).len(), 1000);
    wait_for("the device is idle while the client reads nothing", HANG, || {
        let snapshot = server.snapshot();
        snapshot["adapters"].as_array().unwrap().iter().all(|adapter| adapter["state"] != "busy")
    });
    for stream in slow {
        assert_eq!(numbers(stream.rest().unwrap()), (0..100_000).collect::<Vec<_>>());
    }
}

#[test]
fn stream_continues_after_the_last_number_of_a_killed_worker() {
    let (server, _models) = server(SLOW);
    let mut stream = open(&server, r#"{"count": 300}"#);
    let mut all = Vec::new();
    while let Some(event) = stream.next().unwrap() {
        all.push(event);
        if [50, 150].contains(&all.len()) {
            let workers = workers_of(server.pid());
            workers.into_iter().for_each(|worker| signal(worker, Signal::KILL));
        }
    }
    assert_eq!(numbers(all), (0..300).collect::<Vec<_>>());
}

#[test]
fn deadline_ends_a_stream_with_an_error_event() {
    let (server, _models) = server(SLOW);
    let body = r#"{"count": 1000000, "parameters": {"timeout": 500000}}"#;
    let all = open(&server, body).rest().unwrap();
    let (last, before) = all.split_last().unwrap();
    assert_eq!(last.name, "error");
    assert!(last.data["error"].as_str().unwrap().contains("timeout"), "{last:?}");
    assert!(!before.is_empty());
    let expected: Vec<i64> = (0..before.len() as i64).collect();
    assert_eq!(numbers(before.to_vec()), expected);
}

#[test]
fn streams_end_before_the_server_does() {
    let (mut server, _models) = server(SLOW);
    let mut stream = open(&server, r#"{"count": 200}"#);
    stream.next().unwrap().unwrap();
    server.terminate();
    assert_eq!(numbers(stream.rest().unwrap()), (1..200).collect::<Vec<_>>());
    assert!(server.wait().success());
}

#[test]
fn description_names_decoupled_models() {
    let (server, _models) = server("");
    let config = server.get("/v2/models/count/config").json();
    assert_eq!(config["model_transaction_policy"]["decoupled"], true);
    let config = server.get("/v2/models/digits/config").json();
    assert_eq!(config["model_transaction_policy"]["decoupled"], false);
    let metadata = server.get("/v2/models/count").json();
    assert_eq!(metadata["inputs"][0]["name"], "count");
    let extensions = server.get("/v2").json()["extensions"].clone();
    assert!(extensions.as_array().unwrap().contains(&json!("generate")), "{extensions}");
}
