use serde_json::{Value, json};
use testkit::images::{SEVEN, digits};
use testkit::{HANG, Response, Server, Setup};

const INFER: &str = "/v2/models/digits/infer";

fn image(datatype: &str, shape: Value, data: Value) -> Value {
    json!({"name": "image", "datatype": datatype, "shape": shape, "data": data})
}

fn body(input: Value) -> String {
    json!({ "inputs": [input] }).to_string()
}

/// The pixels of an image; 784 of them are valid, so that a case can replace another part.
fn pixels(count: usize) -> Value {
    json!(vec![0; count])
}

#[track_caller]
fn check(case: &str, response: &Response, status: u16, part: &str) {
    let error = response.error();
    assert_eq!(response.status, status, "{case}: {}", response.text());
    assert!(error.contains(part), "{case}: '{error}' does not contain '{part}'");
    assert!(!error.ends_with('.') && !error.contains('\n'), "{case}: {error}");
}

#[track_caller]
fn check_still_serves(server: &Server) {
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
}

#[test]
fn wrong_paths_are_not_found() {
    let server = Setup::cpu().start();
    let cases = [
        ("/v2/models/nope/infer", "model 'nope' not found; served: digits"),
        ("/v2/models/digits/versions/9/infer", "has no version '9'; served: 1"),
        ("/v2/models/digits/versions/x/infer", "has no version 'x'"),
        ("/v2/models/../infer", "model '..' not found"),
        ("/v2/models/%2e%2e%2fsecret/infer", "model '../secret' not found"),
        ("/v2/models/%ff/infer", "no route matches"),
        ("/nothing", "no route matches /nothing"),
    ];
    for (path, part) in cases {
        check(path, &server.post(path, SEVEN), 404, part);
    }
    for path in ["/v2/models/nope", "/v2/models/nope/ready", "/v2/models/digits/versions/2"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    check("get", &server.get(INFER), 405, "only POST");
    check("put", &server.send("PUT", "/v2", &[], b""), 405, "only GET, HEAD");
    check_still_serves(&server);
}

#[test]
fn requests_that_do_not_match_the_signature_are_rejected() {
    let server = Setup::cpu().start();
    let good = || image("UINT8", json!([1, 28, 28]), pixels(784));
    let named = |name: &str| {
        let mut input = good();
        input["name"] = json!(name);
        body(input)
    };
    let with = |field: &str, value: Value| {
        let mut request = json!({ "inputs": [good()] });
        request[field] = value;
        request.to_string()
    };
    let cases: Vec<(&str, String, &str)> = vec![
        ("wrong name", named("picture"), "no input 'picture'; its inputs are 'image'"),
        ("no inputs", json!({"inputs": []}).to_string(), "input 'image' is missing"),
        ("twice", json!({"inputs": [good(), good()]}).to_string(), "given twice"),
        (
            "wrong shape",
            body(image("UINT8", json!([1, 28, 27]), pixels(756))),
            "the model takes [rows, 28, 28]",
        ),
        ("rank", body(image("UINT8", json!([784]), pixels(784))), "the model takes [rows, 28, 28]"),
        (
            "wrong datatype",
            body(image("FP64", json!([1, 28, 28]), pixels(784))),
            "the model takes FP32 or UINT8",
        ),
        (
            "unknown datatype",
            body(image("FLOAT", json!([1, 28, 28]), pixels(784))),
            "'FLOAT' is not one of",
        ),
        (
            "too few",
            body(image("UINT8", json!([1, 28, 28]), pixels(783))),
            "needs 784 elements, 'data' hold 783",
        ),
        (
            "too many",
            body(image("UINT8", json!([1, 28, 28]), pixels(785))),
            "needs 784 elements, 'data' hold more",
        ),
        ("no rows", body(image("UINT8", json!([0, 28, 28]), json!([]))), "has no rows"),
        (
            "negative",
            body(image("UINT8", json!([-1, 28, 28]), pixels(784))),
            "dimension -1 is invalid",
        ),
        ("overflow", body(image("UINT8", json!([1u64 << 62, 28, 28]), pixels(784))), "overflows"),
        ("huge", body(image("UINT8", json!([1u64 << 40, 28, 28]), pixels(784))), "'data' hold 784"),
        (
            "misnested",
            body(image("UINT8", json!([1, 28, 28]), json!([[1, 2], [3, 4]]))),
            "flat or nested as shape",
        ),
        ("scalar", body(image("UINT8", json!([1, 28, 28]), json!(5))), "must be an array"),
        (
            "object",
            body(image("UINT8", json!([1, 28, 28]), json!([{"a": 1}]))),
            "at index 0 is not a UINT8",
        ),
        (
            "out of range",
            body(image("UINT8", json!([1, 28, 28]), json!([256]))),
            "256 at index 0 is not a UINT8",
        ),
        (
            "NaN for an integer",
            r#"{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,28,28],"data":[0,NaN]}]}"#
                .into(),
            "input 'image': NaN at index 1 is not a UINT8",
        ),
        (
            "sequence",
            with("parameters", json!({"sequence_id": 7})),
            "sequence_end are not supported, since no model keeps a state",
        ),
        (
            "string",
            body(image("FP32", json!([1, 28, 28]), json!([1.5, "x"]))),
            "at index 1 is not a FP32",
        ),
        (
            "infinity",
            body(image("FP32", json!([1, 28, 28]), json!([0.5, 1e300]))),
            "at index 1 is not a FP32",
        ),
        ("unknown output", with("outputs", json!([{"name": "colour"}])), "no output 'colour'"),
        (
            "output twice",
            with("outputs", json!([{"name": "digit"}, {"name": "digit"}])),
            "requested twice",
        ),
    ];
    for (case, body, part) in cases {
        check(case, &server.post(INFER, &body), 422, part);
    }
    check_still_serves(&server);
    let cpu = server.wait_for_state("cpu", &["idle"], HANG);
    assert_eq!(cpu["starts"], 1, "a bad request cost a worker its life");
}

#[test]
fn requests_that_violate_the_protocol_are_rejected() {
    let server = Setup::cpu().start();
    let deep = "[".repeat(200_000);
    let one = |field: &str, value: &str| {
        format!(
            r#"{{"inputs":[{{"name":"image","datatype":"UINT8","shape":[1,28,28],"data":[0],"{field}":{value}}}]}}"#
        )
    };
    let cases: Vec<(&str, String, &str)> = vec![
        ("empty", String::new(), "no JSON body"),
        ("not JSON", "digit seven, please".into(), "not a V2 inference request"),
        ("broken off", SEVEN[..SEVEN.len() / 2].into(), "not a V2 inference request"),
        ("something behind", format!("{SEVEN} x"), "trailing characters"),
        ("a list", "[1, 2]".into(), "not a V2 inference request"),
        ("deep", deep, "not a V2 inference request"),
        ("deep data", format!(r#"{{"inputs":[{{"name":"image","data":{}"#, "[".repeat(200_000)), "not a V2"),
        ("no datatype", r#"{"inputs":[{"name":"image","shape":[1]}]}"#.into(), "missing field `datatype`"),
        ("no data", r#"{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,28,28]}]}"#.into(), "neither 'data' nor binary_data_size"),
        ("null data", r#"{"inputs":[{"name":"image","datatype":"UINT8","shape":[1],"data":null}]}"#.into(), "neither"),
        ("nan", r#"{"inputs":[{"name":"image","datatype":"FP32","shape":[1],"data":[nan]}]}"#.into(), "not a V2"),
        ("inf", r#"{"inputs":[{"name":"image","datatype":"FP32","shape":[1],"data":[inf]}]}"#.into(), "not a V2"),
        ("dimension", r#"{"inputs":[{"name":"image","datatype":"FP32","shape":[99999999999999999999],"data":[]}]}"#.into(), "not a V2"),
        ("fraction", r#"{"inputs":[{"name":"image","datatype":"FP32","shape":[1.5],"data":[]}]}"#.into(), "not a V2"),
        ("wrong id", r#"{"inputs":[],"id":7}"#.into(), "invalid type"),
        ("size without header", r#"{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,28,28],"parameters":{"binary_data_size":784}}]}"#.into(), "Inference-Header-Content-Length is missing"),
        ("both", one("parameters", r#"{"binary_data_size":1}"#), "both 'data' and binary_data_size"),
        ("shared memory", one("parameters", r#"{"shared_memory_region":"r"}"#), "not supported"),
        ("classification", r#"{"inputs":[],"outputs":[{"name":"digit","parameters":{"classification":-2}}]}"#.into(), "invalid value"),
    ];
    for (case, body, part) in cases {
        check(case, &server.post(INFER, &body), 400, part);
    }
    check("not UTF-8", &server.send("POST", INFER, &[], b"{\"id\":\"\xff\xfe\"}"), 400, "not a V2");
    check_still_serves(&server);
}

#[test]
fn list_is_not_accepted_as_an_object() {
    let server = Setup::cpu().start();
    for (path, list) in [
        (INFER, r#"[null, null, [], null]"#),
        ("/v2/repository/index", "[]"),
        ("/v2/repository/models/digits/load", "[{}]"),
        ("/api/adapters/cpu", r#"["off"]"#),
        ("/api/load", r#"["digits", 1, 5]"#),
    ] {
        check(path, &server.post(path, list), 400, "expected an object");
    }
    check_still_serves(&server);
}

#[test]
fn binary_requests_with_wrong_lengths_are_rejected() {
    let server = Setup::cpu().start();
    let json = |size: usize| {
        let parameters = json!({"binary_data_size": size});
        json!({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "parameters": parameters}]})
            .to_string()
    };
    let send = |header: &str, json: &str, raw: usize| {
        let body = [json.as_bytes(), &vec![0; raw]].concat();
        server.send("POST", INFER, &[("Inference-Header-Content-Length", header)], &body)
    };
    let exact = json(784);
    let length = exact.len().to_string();
    assert_eq!(send(&length, &exact, 784).status, 200);
    check("beyond", &send("999999", &exact, 784), 400, "but the body has");
    check("overflow", &send("99999999999999999999999", &exact, 784), 400, "is not a length");
    check("negative", &send("-1", &exact, 784), 400, "is not a length");
    check("word", &send("many", &exact, 784), 400, "is not a length");
    check("zero", &send("0", &exact, 784), 400, "no JSON body");
    check("cut", &send("10", &exact, 784), 400, "not a V2 inference request");
    check("too little", &send(&length, &exact, 783), 400, "only 783 bytes are left");
    check("left over", &send(&length, &exact, 785), 400, "1 bytes are left after");
    let short = json(783);
    let response = send(&short.len().to_string(), &short, 783);
    check("wrong size", &response, 422, "783 bytes, but UINT8 of shape [1, 28, 28] needs 784");
    let huge = json(usize::MAX);
    check("huge size", &send(&huge.len().to_string(), &huge, 784), 400, "only 784 bytes are left");
    let twice =
        [("Inference-Header-Content-Length", "5"), ("Inference-Header-Content-Length", "5")];
    check("twice", &server.send("POST", INFER, &twice, exact.as_bytes()), 400, "is repeated");
    check_still_serves(&server);
}

#[test]
fn invalid_headers_and_mode_changes_are_rejected() {
    let server = Setup::cpu().start();
    let send = |path: &str, headers: &[(&str, &str)], body: &str| {
        server.send("POST", path, headers, body.as_bytes())
    };
    check("html", &send(INFER, &[("Content-Type", "text/html")], SEVEN), 415, "text/html");
    let brotli = send(INFER, &[("Content-Encoding", "br")], SEVEN);
    check("brotli", &brotli, 415, "content-encoding: 'br' is not supported here; send one of gzip");
    assert_eq!(brotli.header("accept-encoding"), Some("gzip, deflate"));
    let gzip = send(INFER, &[("Content-Encoding", "gzip")], SEVEN);
    check("no gzip", &gzip, 400, "failed to decompress the body as gzip");
    let foreign = [("Origin", "http://evil.example")];
    check("another site", &send(INFER, &foreign, SEVEN), 403, "evil.example");
    let mut timeout: Value = serde_json::from_str(SEVEN).unwrap();
    timeout["parameters"] = json!({"timeout": 1});
    check(
        "timeout",
        &server.post(INFER, &timeout.to_string()),
        504,
        "timeout of 1µs has passed or cannot be met",
    );
    server.wait_until_ready();
    let cpu = "/api/adapters/cpu";
    let unknown = server.post("/api/adapters/vulkan-1-2-3", r#"{"mode":"on"}"#);
    check("unknown adapter", &unknown, 404, "adapter 'vulkan-1-2-3' not found; used: cpu");
    check("unknown mode", &server.post(cpu, r#"{"mode":"eco"}"#), 400, "unknown variant `eco`");
    check("unknown field", &server.post(cpu, r#"{"mode":"on","for":1}"#), 400, "unknown field");
    check("no JSON", &server.post(cpu, "on"), 400, "send {");
    check("a form", &send(cpu, &[], r#"{"mode":"off"}"#), 415, "send application/json");
    check("long", &server.post(cpu, &" ".repeat(5000)), 413, "larger than 4096 bytes");
    check("get", &server.get(cpu), 405, "only POST");
    check_still_serves(&server);
    assert_eq!(server.adapter("cpu")["mode"], "auto");
}
