use testkit::http::request;
use testkit::images::{SEVEN, digits};
use testkit::{Folder, HANG, Server, Setup, models, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";

#[track_caller]
fn check_still_serves(server: &Server) {
    assert_eq!(digits(&server.post(INFER, SEVEN)), [7]);
}

#[test]
fn bodies_over_the_bound_are_refused() {
    let server = Setup::cpu().config("[limits]\nbody_bytes = 10000").start();
    let declared = server.send("POST", INFER, &[], &[b' '; 20_000]);
    assert_eq!((declared.status, declared.error().contains("10000 bytes")), (413, true));
    // The body is only announced: the answer does not wait for it.
    let mut connection = server.connect();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(connection.exchange(head.as_bytes()).unwrap().status, 413);
    let mut connection = server.connect();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(head.as_bytes()).unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000)).repeat(4);
    assert_eq!(connection.exchange(chunk.as_bytes()).unwrap().status, 413);
    check_still_serves(&server);
}

#[test]
fn bytes_that_are_not_http_are_rejected() {
    let server = Setup::cpu().start();
    let cases: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
    ];
    for bytes in cases {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let mut connection = server.connect();
        connection.send(bytes).unwrap();
        // The answer is 400 or the connection is closed; it does not stay open.
        match connection.receive() {
            Ok(response) => {
                assert_eq!((response.status, response.error().is_empty()), (400, false), "{shown}");
            }
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{shown}"),
        }
    }
    let long = ("X-Long", "x".repeat(100_000));
    let response = server.send("GET", "/v2", &[(long.0, &long.1)], b"");
    assert_eq!(response.status, 431);
    assert!(response.error().contains("limits.header_bytes"), "{}", response.text());
    let target = format!("/{}", "x".repeat(66_000));
    let response = Setup::cpu().config("[limits]\nheader_bytes = 100000").start().get(&target);
    assert_eq!((response.status, response.error().is_empty()), (414, false), "{}", response.text());
    check_still_serves(&server);
}

#[test]
fn slow_clients_are_disconnected() {
    let config = "[limits]\nheader_timeout = '500ms'\nbody_timeout = '500ms'";
    let server = Setup::cpu().config(config).start();
    let mut slow_header = server.connect();
    slow_header.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-Slow").unwrap();
    let mut slow_body = server.connect();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
    slow_body.send(head.as_bytes()).unwrap();
    let mut silent = server.connect();
    check_still_serves(&server);
    let response = slow_body.receive().unwrap();
    assert_eq!((response.status, response.error().contains("took longer")), (408, true));
    // hyper may send 408 before it closes the connection.
    if let Ok(response) = slow_header.receive() {
        assert_eq!(response.status, 408);
    }
    assert!(silent.is_closed());
    check_still_serves(&server);
}

#[test]
fn connections_over_the_limit_are_answered_with_503() {
    let server = Setup::cpu().config("[limits]\nconnections = 4").start();
    // One exchange each, so that they are accepted; the last connection is reserved for other
    // addresses.
    let mut held: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for connection in &mut held {
        assert_eq!(connection.exchange(&request("GET", "/v2", &[], b"")).unwrap().status, 200);
    }
    let refused = server.get("/v2");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(held);
    wait_for("a place is free again", HANG, || server.get("/v2").status == 200);
    check_still_serves(&server);
}

#[test]
fn requests_without_a_path_are_answered() {
    let server = Setup::cpu().start();
    // The first three once made the task of the connection panic.
    for (line, status) in [
        ("CONNECT 127.0.0.1:80", 400),
        ("GET 127.0.0.1:80", 400),
        ("POST 127.0.0.1:80", 400),
        ("OPTIONS *", 404),
        ("GET http://127.0.0.1", 200),
        ("GET http://127.0.0.1:80?x", 200),
        ("GET /?", 200),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        assert_eq!(server.connect().exchange(request.as_bytes()).unwrap().status, status, "{line}");
    }
    assert!(!server.log().contains("broke"), "{}", server.log());
    check_still_serves(&server);
}

#[test]
fn rows_that_hold_nothing_are_bounded() {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 8, "0s");
    let server = Setup::cpu().models(repository.path()).start();
    let send_rows = |rows: u64| {
        let shape = format!(r#""shape":[{rows},0],"data":[]"#);
        let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"INT8",{shape}}}]}}"#);
        server.post("/v2/models/echo/infer", &body)
    };
    // Each of these once kept the adapter busy without end.
    for rows in [1025, 3_000_000_000, 9_000_000_000_000_000_000] {
        let refused = send_rows(rows);
        assert_eq!(refused.status, 422, "{rows}: {}", refused.text());
        assert!(refused.error().contains("at most 1024 may be empty"), "{}", refused.error());
    }
    assert_eq!(send_rows(20).json()["outputs"][0]["shape"], serde_json::json!([20, 0]));
}

/// A server of an `identity` model with a long batching delay, for which requests wait in the
/// queue.
fn batching_server() -> (Server, Folder) {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 64, "8s");
    models::add_digits(&repository, "digits");
    let server = Setup::cpu().models(repository.path()).start();
    // The worker is up, so that requests wait only for the batching delay.
    check_still_serves(&server);
    (server, repository)
}

const ECHO: &str = r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[1,3],"data":[1,2,3]}]}"#;

#[test]
fn requests_of_disconnected_clients_leave_nothing_behind() {
    let (server, _repository) = batching_server();
    let bytes = request("POST", "/v2/models/echo/infer", &[], ECHO.as_bytes());
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(&bytes).unwrap();
            connection
        })
        .collect();
    let queue = |name: &str| server.snapshot()["queue"][name].as_u64().unwrap();
    wait_for("all five are queued", HANG, || queue("queued_requests") == 5);
    assert_eq!(queue("held_bytes"), 15);
    drop(waiting);
    wait_for("the queue is empty", HANG, || queue("queued_requests") == 0);
    wait_for("nothing is held", HANG, || queue("held_bytes") + queue("in_flight_requests") == 0);
    let snapshot = server.snapshot();
    let models = snapshot["models"].as_array().unwrap();
    let echo = models.iter().find(|model| model["name"] == "echo").unwrap();
    assert_eq!(echo["requests"], 0, "requests of clients that are gone were run");
    // Half a body, then nothing.
    let mut connection = server.connect();
    connection.send(&bytes[..bytes.len() - 5]).unwrap();
    drop(connection);
    check_still_serves(&server);
}

#[test]
fn full_queue_rejects_requests() {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 64, "8s");
    let setup = Setup::cpu().models(repository.path()).config("[limits]\nqueue_requests = 3");
    let server = setup.start();
    server.set_mode_when_listed("cpu", "on");
    server.wait_for_state("cpu", &["idle"], HANG);
    let echo = request("POST", "/v2/models/echo/infer", &[], ECHO.as_bytes());
    let mut waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for connection in &mut waiting {
        connection.send(&echo).unwrap();
    }
    let full = || server.snapshot()["queue"]["queued_requests"] == 3;
    wait_for("three are queued", HANG, full);
    let refused = server.post("/v2/models/echo/infer", ECHO);
    assert_eq!((refused.status, refused.error().as_str()), (429, "the queue is full"));
    assert!(refused.header("retry-after").is_some());
    for mut connection in waiting {
        let response = wait_until("an answer", HANG, || connection.receive().ok());
        assert_eq!(response.status, 200, "{}", response.text());
    }
}

#[test]
fn a_request_that_names_no_host_or_several_is_rejected() {
    let server = Setup::cpu().start();
    for (request, status) in [
        ("GET /v2 HTTP/1.1\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: evil@localhost\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: local host\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: localhost:http\r\n\r\n", 400),
        ("GET http://localhost/v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        ("GET http://evil.example/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET http://localhost@evil.example/v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /v2/health/live HTTP/1.1\r\n\r\n", 400),
        ("GET http://localhost:80/v2 HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n", 200),
        ("GET /v2 HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200),
        ("GET /v2 HTTP/1.0\r\n\r\n", 200),
        ("GET /v2 HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ] {
        let mut connection = server.connect();
        let answer = connection.exchange(request.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{request}: {}", answer.text());
        assert_eq!(answer.error().is_empty(), status == 200, "{request}: {}", answer.text());
    }
}

#[test]
fn health_checks_are_answered_over_the_connection_limit_of_an_address() {
    let server = Setup::cpu().config("[limits]\nconnections = 4").start();
    server.wait_until_ready();
    // The slots of connections that have just ended may not be free yet.
    let place = || {
        let mut connection = server.connect();
        let answer = connection.exchange(&request("GET", "/v2", &[], b"")).ok()?;
        (answer.status == 200).then_some(connection)
    };
    let mut held: Vec<_> = (0..3).map(|_| wait_until("a place is free", HANG, place)).collect();
    // More connections than are served over the limit; none of them sends a request.
    let idle: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for _ in 0..10 {
        assert_eq!(server.get("/v2/health/live").status, 200);
        assert_eq!(server.get("/v2/health/ready").status, 200);
        assert_eq!(server.get("/v2").status, 503);
    }
    drop(idle);
    assert!(held.iter_mut().all(|connection| {
        connection.exchange(&request("GET", "/v2", &[], b"")).unwrap().status == 200
    }));
}
