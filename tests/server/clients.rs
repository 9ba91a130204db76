use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use testkit::http::request;
use testkit::images::{SEVEN, digits};
use testkit::{Folder, Response, Server, Setup, models};

const INFER: &str = "/v2/models/digits/infer";
const ECHO: &str = "/v2/models/echo/infer";
const INDEX: &str = "/v2/repository/index";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const PAGE: &str = "https://page.example";

/// A server of `digits` and `echo`, and its repository.
fn echo_server(setup: Setup) -> (Server, Folder) {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 8, "0s");
    models::add_digits(&repository, "digits");
    (setup.models(repository.path()).start(), repository)
}

#[track_caller]
fn data(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["outputs"][0]["data"].clone()
}

/// A request to `echo` with these data.
fn echo(datatype: &str, shape: &str, data: &str) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#
    )
}

/// Method, path, headers, and the expected statuses.
type Refusal =
    (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [u16]);

#[test]
fn next_request_on_a_connection_is_answered_after_every_rejection() {
    const KEY: (&str, &str) = ("X-API-Key", "secret");
    let setup =
        Setup::cpu().args(&["--api-key", "secret"]).config("[limits]\nbody_bytes = 1000000");
    let server = setup.start();
    let refusals: [Refusal; 11] = [
        ("POST", "/v2/models/nope/infer", &[JSON, KEY], &[404]),
        ("POST", "/nothing", &[JSON, KEY], &[404]),
        ("POST", INFER, &[JSON], &[401]),
        ("POST", INFER, &[JSON, ("X-API-Key", "wrong")], &[401]),
        ("POST", INFER, &[JSON, KEY, ("Origin", "http://evil.example")], &[403]),
        ("PUT", INFER, &[JSON, KEY], &[405]),
        ("POST", "/v2", &[JSON, KEY], &[405]),
        ("POST", INFER, &[("Content-Type", "text/html"), KEY], &[415]),
        ("POST", INFER, &[JSON, KEY, ("Content-Encoding", "br")], &[415]),
        ("POST", "/api/adapters/cpu", &[JSON, KEY], &[400, 413]),
        ("POST", INFER, &[JSON, KEY], &[400, 413]),
    ];
    let good = request("POST", INFER, &[JSON, KEY], SEVEN.as_bytes());
    for (method, path, headers, statuses) in refusals {
        for size in [0, 300_000, 3_000_000] {
            let mut connection = server.connect();
            let refused = request(method, path, headers, &vec![b' '; size]);
            let answer = connection.exchange(&refused).unwrap();
            assert!(statuses.contains(&answer.status), "{path} {size}: {}", answer.text());
            assert_eq!(answer.header("connection"), None, "{method} {path} {size}");
            assert_eq!(digits(&connection.exchange(&good).unwrap()), [7], "{method} {path} {size}");
        }
    }
}

/// Sends the first chunk of a body without an end.
fn endless(server: &Server, path: &str, bytes: usize) -> Response {
    let mut connection = server.connect();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("{bytes:x}\r\n{}\r\n", " ".repeat(bytes));
    connection.exchange((head + &chunk).as_bytes()).unwrap()
}

#[test]
fn connection_is_closed_when_a_body_is_not_read_to_its_end() {
    let server = Setup::cpu().start();
    let close = |answer: &Response, status: u16| {
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
    };
    // More than the server drains; all of it is sent before the answer is read.
    let long = request("POST", "/v2/models/nope/infer", &[JSON], &vec![b' '; 40_000_000]);
    let mut connection = server.connect();
    close(&connection.exchange(&long).unwrap(), 404);
    assert!(connection.is_closed());
    // The length is declared, but no byte is sent.
    let mut connection = server.connect();
    let head = "POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n";
    close(&connection.exchange(head.as_bytes()).unwrap(), 404);
    close(&endless(&server, "/nothing", 4096), 404);
}

#[test]
fn rejection_of_a_request_that_expects_100_continue_does_not_wait_for_its_body() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let head = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let begin = Instant::now();
    let mut connection = server.connect();
    let refused = connection.exchange(head("/v2/models/nope/infer", 3_000_000).as_bytes()).unwrap();
    assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let mut connection = server.connect();
    connection.send(head(INFER, SEVEN.len()).as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().0, 100);
    assert_eq!(digits(&connection.exchange(SEVEN.as_bytes()).unwrap()), [7]);
}

#[test]
fn http2_without_tls_is_answered_with_505() {
    let server = Setup::cpu().start();
    let mut connection = server.connect();
    let answer =
        connection.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert_eq!((answer.status, answer.header("connection")), (505, Some("close")));
    assert!(answer.error().contains("HTTP/2 is not supported"), "{}", answer.text());
    assert!(connection.is_closed());
    // Other methods that begin with the same letter are not delayed.
    assert_eq!(server.send("PROPFIND", "/v2", &[], b"").status, 405);
}

#[test]
fn non_finite_values_are_accepted_and_returned() {
    let (server, _repository) = echo_server(Setup::cpu());
    for datatype in ["FP16", "BF16", "FP32", "FP64"] {
        let body = echo(datatype, "[2,2]", "[[NaN, -Infinity], [Infinity, 1.5]]");
        let answer = server.post(ECHO, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let expected = r#""data":[NaN,-Infinity,Infinity,1.5]"#;
        assert!(answer.text().contains(expected), "{datatype}: {}", answer.text());
    }
    let marked = format!("\u{feff}{}", echo("UINT8", "[1,2]", "[1, 2]"));
    assert_eq!(data(&server.post(ECHO, &marked)), json!([1, 2]));
    let kept = server.post(ECHO, &echo("BYTES", "[1,2]", r#"["NaN", "[Infinity]"]"#));
    assert_eq!(data(&kept), json!(["NaN", "[Infinity]"]));
    let index = server.post(INDEX, "\u{feff}{\"ready\": true}");
    assert_eq!(index.status, 200, "{}", index.text());
}

fn compressed<W: Write>(
    mut encoder: W,
    body: &str,
    finish: fn(W) -> std::io::Result<Vec<u8>>,
) -> Vec<u8> {
    encoder.write_all(body.as_bytes()).unwrap();
    finish(encoder).unwrap()
}

fn gzip(body: &str) -> Vec<u8> {
    compressed(GzEncoder::new(Vec::new(), Compression::best()), body, GzEncoder::finish)
}

#[test]
fn compressed_bodies_are_accepted() {
    let setup = Setup::cpu().config("[limits]\nbody_bytes = 1000000");
    let (server, _repository) = echo_server(setup);
    let (level, body) = (Compression::fast(), echo("UINT8", "[1,2]", "[1, 2]"));
    let bodies = [
        ("gzip", gzip(&body)),
        ("deflate", compressed(ZlibEncoder::new(Vec::new(), level), &body, ZlibEncoder::finish)),
        (
            "deflate",
            compressed(DeflateEncoder::new(Vec::new(), level), &body, DeflateEncoder::finish),
        ),
    ];
    // Only a 415 for the coding names the supported codings.
    for (header, value, supported) in
        [("Content-Encoding", "br", Some("gzip, deflate")), ("Content-Type", "image/png", None)]
    {
        let refused = server.send("POST", ECHO, &[(header, value)], body.as_bytes());
        assert_eq!((refused.status, refused.header("accept-encoding")), (415, supported));
    }
    for (coding, bytes) in &bodies {
        let headers = [JSON, ("Content-Encoding", coding)];
        assert_eq!(data(&server.send("POST", ECHO, &headers, bytes)), json!([1, 2]));
    }
    // The header counts the bytes of the decompressed body.
    let json = body.replace(r#""data":[1, 2]"#, r#""parameters":{"binary_data_size":2}"#);
    let length = json.len().to_string();
    let headers =
        [("Content-Encoding", "gzip"), ("Inference-Header-Content-Length", length.as_str())];
    let raw = gzip(&format!("{json}\u{1}\u{2}"));
    assert_eq!(data(&server.send("POST", ECHO, &headers, &raw)), json!([1, 2]));
    let headers = [JSON, ("Content-Encoding", "gzip")];
    let index = server.send("POST", INDEX, &headers, &gzip("{}"));
    assert_eq!(index.status, 200, "{}", index.text());
    let bomb = server.send("POST", ECHO, &headers, &gzip(&" ".repeat(900_000_000 / 30)));
    assert_eq!((bomb.status, bomb.error().contains("1000000 bytes")), (413, true));
    let none = server.send("POST", ECHO, &headers, &gzip("").repeat(40_000));
    assert_eq!((none.status, none.error().contains("members")), (400, true), "{}", none.text());
    let broken = server.send("POST", ECHO, &headers, &gzip(&body)[..20]);
    assert_eq!(broken.status, 400, "{}", broken.text());
}

fn decompressed(response: &Response) -> String {
    let mut text = String::new();
    match response.header("content-encoding") {
        Some("gzip") => GzDecoder::new(&response.body[..]).read_to_string(&mut text).unwrap(),
        Some("deflate") => ZlibDecoder::new(&response.body[..]).read_to_string(&mut text).unwrap(),
        other => panic!("{other:?}"),
    };
    text
}

#[test]
fn long_answers_are_compressed_if_the_client_accepts_it() {
    let (server, _repository) = echo_server(Setup::cpu());
    let numbers: Vec<i32> = (0..100_000).collect();
    let body = echo("INT32", "[1,100000]", &serde_json::to_string(&numbers).unwrap());
    for accepted in ["gzip", "deflate", "br, deflate;q=0.5, gzip;q=0.1"] {
        let headers = [JSON, ("Accept-Encoding", accepted)];
        let answer = server.send("POST", ECHO, &headers, body.as_bytes());
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        let json: Value = serde_json::from_str(&decompressed(&answer)).unwrap();
        assert_eq!(json["outputs"][0]["data"], json!(numbers), "{accepted}");
    }
    for path in ["/metrics", "/app.js", "/openapi.json", "/api/snapshot"] {
        let gzip = server.send("GET", path, &[("Accept-Encoding", "gzip")], b"");
        assert!(!decompressed(&gzip).is_empty(), "{path}");
        assert_eq!(server.get(path).header("content-encoding"), None, "{path}");
        assert_eq!(server.get(path).header("vary"), Some("accept-encoding"), "{path}");
    }
    let small = [JSON, ("Accept-Encoding", "gzip")];
    let small = server.send("POST", ECHO, &small, echo("UINT8", "[1,2]", "[1, 2]").as_bytes());
    assert_eq!(small.header("content-encoding"), None);
    // A tag that was sent with a compressed file matches the file.
    let page = server.send("GET", "/app.js", &[("Accept-Encoding", "gzip")], b"");
    let tag = page.header("etag").unwrap();
    assert!(tag.starts_with("W/"), "{tag}");
    let again = server.send("GET", "/app.js", &[("If-None-Match", tag)], b"");
    assert_eq!((again.status, again.header("vary")), (304, Some("accept-encoding")));
}

#[test]
fn class_count_replaces_an_output_by_its_classes() {
    let (server, _repository) = echo_server(Setup::cpu());
    let send = |count: u64, binary: bool| {
        let mut body: Value = serde_json::from_str(SEVEN).unwrap();
        let parameters = json!({"classification": count, "binary_data": binary});
        body["outputs"] = json!([{"name": "probabilities", "parameters": parameters}]);
        server.post(INFER, &body.to_string())
    };
    let answer = send(3, false).json();
    let output = &answer["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([1, 3])));
    let best = output["data"][0].as_str().unwrap();
    assert!(best.starts_with("0.") || best.starts_with("1."), "{best}");
    assert!(best.ends_with(":7:7"), "{best}");
    assert_eq!(send(99, false).json()["outputs"][0]["shape"], json!([1, 10]));
    let binary = send(1, true);
    let (json, raw) = binary.split();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], raw.len());
    assert_eq!(raw[4..], *best.as_bytes());
    // The labels are those of another output.
    let mut body: Value = serde_json::from_str(SEVEN).unwrap();
    body["outputs"] = json!([{"name": "digit", "parameters": {"classification": 1}}]);
    assert_eq!(data(&server.post(INFER, &body.to_string())), json!(["7:0"]));
    // Text has no order by which classes could be chosen.
    let mut body: Value = serde_json::from_str(&echo("BYTES", "[1,1]", "[\"a\"]")).unwrap();
    body["outputs"] = json!([{"name": "y", "parameters": {"classification": 1}}]);
    let refused = server.post(ECHO, &body.to_string());
    assert_eq!(refused.status, 422, "{}", refused.text());
    let extensions = server.get("/v2").json()["extensions"].clone();
    assert!(extensions.as_array().unwrap().contains(&json!("classification")));
}

#[test]
fn unknown_fields_of_requests_are_ignored() {
    let (server, _repository) = echo_server(Setup::cpu());
    let body = r#"{"model_name":"echo","id":"1","mine":{"a":[1]},"inputs":[{"name":"x","datatype":
        "UINT8","shape":[1,2],"data":[1,2],"note":"mine"}],"outputs":[{"name":"y","datatype":"UINT8"}]}"#;
    assert_eq!(data(&server.post(ECHO, body)), json!([1, 2]));
}

#[test]
fn curl_without_a_content_type_is_served_where_nothing_is_changed() {
    let (server, _repository) = echo_server(Setup::cpu());
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let send = |path: &str, body: &str| server.send("POST", path, &form, body.as_bytes());
    assert_eq!(data(&send(ECHO, &echo("UINT8", "[1,2]", "[1,2]"))), json!([1, 2]));
    let index = send(INDEX, "{\"ready\": true, \"mine\": 1}");
    assert_eq!(index.json().as_array().unwrap().len(), 2, "{}", index.text());
    let text = [("Content-Type", "text/plain;charset=UTF-8")];
    assert_eq!(server.send("POST", INDEX, &text, b"{}").status, 200);
    for path in ["/v2/repository/models/echo/unload", "/api/adapters/cpu", "/api/load"] {
        let refused = send(path, "{}");
        assert_eq!(refused.status, 415, "{path}");
        let error = refused.error();
        assert!(error.contains("something is changed; send application/json"), "{error}");
    }
}

#[test]
fn pages_of_allowed_origins_may_use_the_server() {
    let setup = Setup::cpu().args(&["--allow-origins", PAGE, "--api-key", "secret"]);
    let (server, _repository) = echo_server(setup);
    let body = echo("UINT8", "[1,2]", "[1,2]");
    let send = |origin: &str, key: &str| {
        let headers = [JSON, ("Origin", origin), ("X-API-Key", key)];
        server.send("POST", ECHO, &headers, body.as_bytes())
    };
    let answer = send(PAGE, "secret");
    assert_eq!(data(&answer), json!([1, 2]));
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("vary"), Some("origin"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("inference-header-content-length"), "{exposed}");
    // A page can read the reason of a rejection.
    let refused = send(PAGE, "wrong");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some(PAGE));
    let other = send("https://other.example", "secret");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (403, None));
    assert!(other.error().contains("allow_origins"), "{}", other.error());
}

/// Sends the preflight request of a browser that is about to post JSON.
fn preflight(server: &Server, origin: &str) -> Response {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,inference-header-content-length"),
    ];
    let mut connection = server.connect();
    connection.send(&request("OPTIONS", ECHO, &headers, b"")).unwrap();
    let (status, headers) = connection.head().unwrap();
    Response { status, headers, body: Vec::new() }
}

#[test]
fn preflight_requests_need_no_key() {
    let config = format!("allow_origins = ['http://localhost:3000', '{PAGE}']");
    let server = Setup::cpu().config(&config).args(&["--api-key", "secret"]).start();
    let answer = preflight(&server, PAGE);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, POST, DELETE"));
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert_eq!(allowed, "content-type,inference-header-content-length");
    assert!(answer.header("access-control-max-age").is_some());
    let other = preflight(&server, "https://other.example");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (405, None));
    let off = Setup::cpu().start();
    let answer = preflight(&off, PAGE);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    assert_eq!(off.get("/v2").header("vary"), None);
}

#[test]
fn any_page_may_read_but_not_change_when_no_key_is_needed() {
    let (server, _repository) = echo_server(Setup::cpu().config("allow_origins = ['*']"));
    let send = |path: &str, body: &str| {
        server.send("POST", path, &[JSON, ("Origin", PAGE)], body.as_bytes())
    };
    let answer = send(ECHO, &echo("UINT8", "[1,2]", "[1,2]"));
    assert_eq!(data(&answer), json!([1, 2]));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(send("/v2/repository/models/echo/unload", "{}").status, 403);
    assert_eq!(preflight(&server, PAGE).status, 204);
    let (status, log) = Setup::cpu().config("allow_origins = ['page.example/']").fail();
    assert!(!status.success() && log.contains("is not an origin"), "{log}");
}

#[test]
fn absent_extensions_of_triton_report_an_empty_state() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let state = |path: &str| {
        let response = server.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    };
    assert_eq!(state("/v2/logging")["log_verbose_level"], 0);
    for path in ["/v2/trace/setting", "/v2/models/digits/trace/setting"] {
        assert_eq!(state(path)["trace_level"], serde_json::json!(["OFF"]));
    }
    for kind in ["system", "cuda"] {
        assert_eq!(state(&format!("/v2/{kind}sharedmemory/status")), serde_json::json!([]));
    }
    assert_eq!(server.get("/v2/models/unknown/trace/setting").status, 404);
    assert_eq!(server.post("/v2/logging", "{}").status, 405);
}
