use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::http::request;
use testkit::images::SEVEN;
use testkit::openapi::{Operation, document, operations};
use testkit::{Folder, HANG, Response, Server, Setup, models, wait_for};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/// Paths as `path!` has them in `routes.rs`, with `{}` for each parameter.
fn paths_in_source() -> BTreeSet<String> {
    let source = models::package().join("src/server/routes.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let (routes, _) = source.split_once("#[cfg(test)]").unwrap();
    let arguments = routes.split("path!(").skip(1).map(|rest| rest.split(')').next().unwrap());
    let segment = |part: &str| match part.trim() {
        "Segment" => "/{}".to_owned(),
        name => format!("/{}", name.trim_matches('"')),
    };
    arguments.map(|path| path.split('/').map(segment).collect()).collect()
}

#[test]
fn every_route_is_described() {
    let server = Setup::cpu().start();
    let anonymous = |path: &String| {
        let segment = |part| if str::starts_with(part, '{') { "{}" } else { part };
        path.split('/').map(segment).collect::<Vec<_>>().join("/")
    };
    let described = document(&server, &[]);
    let described: BTreeSet<_> =
        described["paths"].as_object().unwrap().keys().map(anonymous).collect();
    let mut routes = paths_in_source();
    assert!(routes.len() > 20, "{routes:?}");
    // The page has no `path!`.
    routes.insert("/".to_owned());
    assert_eq!(described, routes);
}

/// Status and `Allow` of an answer; its body is not read.
fn status(server: &Server, method: &str, path: &str) -> (u16, String) {
    let mut connection = server.connect();
    connection.send(&request(method, path, &[], b"")).unwrap();
    let (status, headers) = connection.head().unwrap();
    let allow = headers.into_iter().find(|(name, _)| name == "allow");
    (status, allow.map(|(_, methods)| methods).unwrap_or_default())
}

#[test]
fn every_described_operation_is_served_and_no_other_method() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let operations = operations(&document(&server, &[]));
    for path in operations.iter().map(|operation| &operation.path).collect::<BTreeSet<_>>() {
        let here: Vec<_> = operations.iter().filter(|operation| operation.path == *path).collect();
        let mut allowed: BTreeSet<&str> = here.iter().map(|here| here.method.as_str()).collect();
        if allowed.contains("GET") {
            allowed.insert("HEAD");
        }
        // The model that is unloaded is not used afterwards.
        let model = if path.ends_with("/unload") { "filetype" } else { "digits" };
        let filled = here[0].filled(model, "1", "cpu");
        for method in METHODS {
            let (status, allow) = status(&server, method, &filled);
            if allowed.contains(method) {
                assert!(status != 404 && status != 405, "{method} {filled}: {status}");
            } else {
                let allowed_here: BTreeSet<&str> = allow.split(", ").collect();
                assert_eq!((status, &allowed_here), (405, &allowed), "{method} {filled}");
            }
        }
    }
}

/// A server of `digits`, `filetype` and `echo` that has answered each.
fn used_server(folder: &Folder) -> Server {
    models::add_digits(folder, "digits");
    models::add_echo(folder, "echo", 8, "0s");
    folder.make_dir("empty");
    let server = Setup::cpu().models(folder.path()).config("[limits]\nbody_bytes = 20000").start();
    assert_eq!(server.post("/v2/models/digits/infer", SEVEN).status, 200);
    let order = r#"{"model":"digits","concurrency":1,"seconds":60}"#;
    assert_eq!(server.post("/api/load", order).status, 200);
    wait_for("the snapshot has all parts", HANG, || {
        let cpu = server.adapter("cpu");
        let parts = [
            server.snapshot()["sample"].take(),
            cpu["recent"].clone(),
            cpu["last_decision"].clone(),
        ];
        parts.iter().all(|part| !part.is_null())
    });
    server
}

const RAW: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0.5,2]}],"parameters":{"binary_data_output":true}}"#;
const LATE: &str = r#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1,1],"data":[1]}],"parameters":{"timeout":1}}"#;

const INFER: &str = "/v2/models/echo/infer";
const INDEX: &str = "/v2/repository/index";
const LOAD: &str = "/v2/repository/models/echo/load";
const UNLOAD: &str = "/v2/repository/models/echo/unload";
const JSON: &str = "application/json";

/// Path, content type, body, and the expected status.
const BODIES: [(&str, &str, &str, u16); 31] = [
    ("/v2/models/digits/infer", JSON, SEVEN, 200),
    ("/v2/models/digits/versions/1/infer", JSON, SEVEN, 200),
    (INFER, JSON, RAW, 200),
    (INFER, JSON, LATE, 504),
    (INFER, JSON, "[]", 400),
    (INFER, JSON, r#"{"inputs":[]}"#, 422),
    (INFER, "image/png", "", 415),
    ("/v2/models/unknown/infer", JSON, RAW, 404),
    (INDEX, JSON, "", 200),
    (INDEX, JSON, r#"{"ready":true}"#, 200),
    (INDEX, JSON, "[]", 400),
    (INDEX, "text/html", "{}", 415),
    (LOAD, JSON, "{}", 200),
    (LOAD, JSON, r#"{"parameters":{"config":"{}"}}"#, 422),
    ("/v2/repository/models/empty/load", JSON, "", 422),
    ("/v2/repository/models/unknown/load", JSON, "", 404),
    (UNLOAD, JSON, "{}", 200),
    (UNLOAD, JSON, "", 404),
    ("/api/adapters/cpu", JSON, r#"{"mode":"auto"}"#, 200),
    ("/api/adapters/cpu", JSON, r#"["auto"]"#, 400),
    ("/api/adapters/unknown", JSON, r#"{"mode":"auto"}"#, 404),
    ("/api/load", JSON, r#"{"model":"digits","concurrency":1,"seconds":60}"#, 409),
    ("/api/expect", JSON, r#"{"model":"digits","in":"30s"}"#, 200),
    ("/api/expect", JSON, r#"{"model":"digits","in":"soon"}"#, 422),
    ("/api/expect", JSON, r#"{"model":"digits","in":"25h"}"#, 422),
    ("/api/expect", JSON, r#"{"model":"digits","in":30}"#, 400),
    ("/api/expect", JSON, r#"{"model":"digits","in":"1s","more":1}"#, 400),
    ("/api/expect", JSON, r#"{"model":"unknown","in":"30s"}"#, 404),
    ("/api/load", JSON, r#"["digits",1,5]"#, 400),
    ("/api/load", JSON, r#"{"model":"digits","concurrency":0,"seconds":5}"#, 422),
    ("/api/load", JSON, r#"{"model":"unknown","concurrency":1,"seconds":5}"#, 404),
];

/// Returns whether the path of a request is one of this operation.
fn matches(operation: &Operation, path: &str) -> bool {
    let own: Vec<_> = operation.path.split('/').collect();
    let given: Vec<_> = path.split('/').collect();
    let same = |(own, given): (&&str, &&str)| own.starts_with('{') || own == given;
    own.len() == given.len() && own.iter().zip(&given).all(same)
}

/// Checks the answers to reads, for a model that exists and for one that does not.
fn check_reads(server: &Server, document: &Value, operations: &[Operation]) {
    let ends = |operation: &&Operation| operation.path != "/api/events";
    let reads = operations.iter().filter(|operation| operation.method == "GET").filter(ends);
    for operation in reads {
        operation.check(document, &server.get(&operation.filled("digits", "1", "cpu")));
        let unknown = server.get(&operation.filled("unknown", "1", "cpu"));
        assert_eq!(unknown.status == 404, operation.has("model"), "{}", operation.path);
        operation.check(document, &unknown);
    }
}

/// Checks the rejections that apply to every POST.
fn check_refusals(server: &Server, document: &Value, operation: &Operation) {
    let large = " ".repeat(70_000);
    let json = ("Content-Type", JSON);
    for (headers, body, status) in [
        (&[json][..], large.as_str(), 413),
        (&[json, ("Origin", "http://evil.example")], "", 403),
        (&[json, ("Content-Encoding", "br")], "", 415),
    ] {
        let path = operation.filled("digits", "1", "cpu");
        let response = server.send("POST", &path, headers, body.as_bytes());
        assert_eq!(response.status, status, "{path}");
        operation.check(document, &response);
    }
}

#[test]
fn answers_are_as_described() {
    let folder = Folder::new();
    let server = used_server(&folder);
    let document = document(&server, &[]);
    let operations = operations(&document);
    check_reads(&server, &document, &operations);
    let posts: Vec<_> = operations.iter().filter(|operation| operation.method == "POST").collect();
    posts.iter().for_each(|operation| check_refusals(&server, &document, operation));
    for (path, media, body, status) in BODIES {
        let operation = posts.iter().find(|operation| matches(operation, path)).unwrap();
        let response = server.send("POST", path, &[("Content-Type", media)], body.as_bytes());
        assert_eq!(response.status, status, "{path} {body}: {}", response.text());
        operation.check(&document, &response);
    }
    let stop = operations.iter().find(|operation| operation.method == "DELETE").unwrap();
    stop.check(&document, &server.send("DELETE", "/api/load", &[], b""));
}

#[test]
fn schema_check_detects_violations() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": ["integer", "null"], "minimum": 0}, "b": {"$ref": "#/b"}}});
    let document =
        json!({"b": {"anyOf": [{"type": "array", "items": {"const": 1}}, {"enum": ["x"]}]}});
    let fits = |value: Value| testkit::schema::check(&document, &schema, &value).is_ok();
    for good in [json!({"a": 1}), json!({"a": null, "b": [1, 1]}), json!({"a": 0, "b": "x"})] {
        assert!(fits(good.clone()), "{good}");
    }
    for wrong in [
        json!({}),
        json!([]),
        json!({"a": -1}),
        json!({"a": 0.5}),
        json!({"a": 1, "c": 1}),
        json!({"a": 1, "b": [2]}),
        json!({"a": 1, "b": "y"}),
    ] {
        assert!(!fits(wrong.clone()), "{wrong}");
    }
}

#[test]
fn an_empty_answer_has_no_type() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let is_empty = |response: &Response| response.status == 200 && response.body.is_empty();
    for change in ["unload", "load"] {
        let response = server.post(&format!("/v2/repository/models/digits/{change}"), "");
        assert!(is_empty(&response), "{}", response.text());
        assert_eq!(response.header("content-type"), None);
    }
}
