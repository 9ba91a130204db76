use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use testkit::images::SEVEN;
use testkit::{Folder, Server, Setup, report, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";
const SOON: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn infer(server: &Server, headers: &[(&str, &str)]) -> testkit::Response {
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    let response = server.send("POST", INFER, &headers, SEVEN.as_bytes());
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// Returns whether a program of Prometheus is installed; reports a skipped test if it is not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        report(&format!("SKIPPED: {program} is missing; `apt-get install prometheus` brings it"));
    }
    found
}

#[test]
fn metrics_pass_the_check_of_promtool() {
    let server = Setup::cpu().start();
    infer(&server, &[]);
    let classic = server.get("/metrics");
    assert_eq!(classic.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(classic.text().contains("concertina_requests_total{"), "{}", classic.text());
    let open = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let open = server.send("GET", "/metrics", &open, b"");
    assert!(open.text().ends_with("# EOF\n"), "{}", open.text());
    if !has("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&classic.body).unwrap();
    let checked = child.wait_with_output().unwrap();
    let output = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&output));
    assert!(output.is_empty(), "{}", String::from_utf8_lossy(&output));
}

/// A Prometheus that scrapes one server; ended when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _folder: Folder,
}

impl Prometheus {
    fn of(server: &Server) -> Prometheus {
        let folder = Folder::new();
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: concertina\n  \
             static_configs:\n  - targets: ['{}']\n",
            server.address
        );
        let config = folder.write("prometheus.yml", config);
        // The port was free a moment ago; no other program is likely to take it now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Prometheus { child, port, _folder: folder }
    }

    /// The value of the only series in the answer.
    fn query(&self, query: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let path = format!("/api/v1/query?query={query}");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let answer: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
        Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_the_server_and_answers_queries() {
    if !has("prometheus") {
        return;
    }
    // An idle adapter might be off before it is scraped.
    let server = Setup::cpu().config("[adapters]\nmin = 1").start();
    (0..3).for_each(|_| drop(infer(&server, &[])));
    let prometheus = Prometheus::of(&server);
    let answers = wait_until("Prometheus has scraped", SOON, || {
        prometheus.query("concertina_requests_total%7Bmodel%3D%22digits%22%7D")
    });
    assert_eq!(answers, "3");
    let busy = "sum(concertina_adapter_state%7Bstate%3D~%22idle%7Cbusy%22%7D)";
    assert_eq!(prometheus.query(busy).as_deref(), Some("1"));
}

#[test]
fn grafana_dashboard_queries_existing_metrics() {
    let server = Setup::cpu().start();
    infer(&server, &[]);
    let metrics = server.get("/metrics").text();
    let dashboard = include_str!("../../grafana/concertina.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let mut names = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let ours = expression.split(word).filter(|name| name.starts_with("concertina_"));
            names.extend(ours.map(str::to_owned));
        }
    }
    assert!(names.len() > 20, "{names:?}");
    // No platform reports a card here, and nothing has failed.
    let absent = ["_watts", "_celsius", "_ratio", "card_memory_used_bytes", "_failed_total"];
    for name in names {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let described = format!("# TYPE {} ", base.unwrap_or(&name));
        let known = metrics.contains(&described);
        assert!(known || absent.iter().any(|end| name.ends_with(end)), "{name}");
    }
}

/// A collector that receives spans over HTTP.
fn collector() -> (String, mpsc::Receiver<Vec<Span>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (spans, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let spans = spans.clone();
            std::thread::spawn(move || serve_collector(stream, &spans));
        }
    });
    (address, received)
}

fn serve_collector(stream: TcpStream, spans: &mpsc::Sender<Vec<Span>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let small = line.to_ascii_lowercase();
            if let Some(value) = small.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|one| one.scope_spans);
        let _ = spans.send(scopes.flat_map(|scope| scope.spans).collect());
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

/// A span's attributes as text.
fn attributes(span: &Span) -> HashMap<String, String> {
    let text = |value: Attribute| match value {
        Attribute::StringValue(text) => text,
        Attribute::IntValue(number) => number.to_string(),
        Attribute::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |one: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        let value = one.value.clone().and_then(|value| value.value).map(text);
        (one.key.clone(), value.unwrap_or_default())
    };
    span.attributes.iter().map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn collector_receives_one_span_per_request() {
    let (address, received) = collector();
    let mut server = Setup::cpu().args(&["--otlp-endpoint", &address]).start();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let good = infer(&server, &[("traceparent", &parent)]);
    let bad = server.post(INFER, "{\"inputs\": 1}");
    assert_eq!(bad.status, 400);
    // The last spans are sent while the server stops.
    server.terminate();
    assert!(server.wait().success());
    let mut spans: Vec<Span> = received.try_iter().flatten().collect();
    assert_eq!(spans.len(), 2, "{spans:#?}");
    spans.sort_by_key(|span| hex(&span.trace_id) != TRACE);
    let span = &spans[0];
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    let expected = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(good.header("traceresponse"), Some(&expected[..]));
    let fields = attributes(span);
    for (name, value) in [
        ("concertina.model.name", "digits"),
        ("concertina.adapter", "cpu"),
        ("concertina.rows", "1"),
        ("concertina.batch.rows", "1"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name}: {fields:?}");
    }
    let run: f64 = fields["concertina.run_seconds"].parse().unwrap();
    assert!(run > 0.0 && fields.contains_key("concertina.queue_seconds"), "{fields:?}");
    let fields = attributes(&spans[1]);
    assert_eq!(fields["http.response.status_code"], "400");
    assert!(fields["error.message"].contains("inference request"), "{fields:?}");
}

#[test]
fn requests_are_answered_while_the_collector_is_unreachable() {
    let server = Setup::cpu().args(&["--otlp-endpoint", "http://127.0.0.1:9"]).start();
    (0..20).for_each(|_| drop(infer(&server, &[])));
    assert_eq!(server.snapshot()["models"][0]["errors"], 0);
}

#[test]
fn the_access_log_names_each_request() {
    let args = ["--access-log", "--log-format", "json"];
    let server = Setup::cpu().args(&args).start();
    let response = infer(&server, &[("X-Request-Id", "mine-7")]);
    assert_eq!(response.header("x-request-id"), Some("mine-7"));
    let timing = response.header("server-timing").unwrap();
    assert!(timing.starts_with("queue;dur=") && timing.contains(", run;dur="), "{timing}");
    let hostile = server.send("GET", "/nope?secret=1", &[("X-Request-Id", "a b\"c")], b"");
    let given = hostile.header("x-request-id").unwrap();
    assert!(!given.contains('"') && !given.is_empty(), "{given}");
    let lines = wait_until("both are logged", SOON, || {
        let log = server.log();
        let lines: Vec<Value> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let found = lines.into_iter().filter(|line| line["target"] == "access");
        let found: Vec<Value> = found.collect();
        (found.len() >= 2).then_some(found)
    });
    let line = &lines[0];
    assert_eq!((&line["status"], &line["adapter"]), (&json!(200), &json!("cpu")), "{line}");
    assert_eq!((&line["method"], &line["path"]), (&json!("POST"), &json!(INFER)), "{line}");
    assert_eq!(line["span"]["id"], "mine-7", "{line}");
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!((&lines[1]["status"], &lines[1]["path"]), (&json!(404), &json!("/nope")));
    assert!(!server.log().contains("secret"));
}

#[test]
fn recent_times_and_history_are_shown() {
    let server = Setup::cpu().start();
    (0..10).for_each(|_| drop(infer(&server, &[])));
    let snapshot = wait_until("recent times are shown", SOON, || {
        let snapshot = server.snapshot();
        (snapshot["models"][0]["recent"]["p50_ms"].as_f64()? > 0.0).then_some(snapshot)
    });
    let cpu = server.adapter("cpu");
    assert!(cpu["recent"]["run_p50_ms"].as_f64().unwrap() > 0.0, "{cpu}");
    assert!(cpu["recent"]["busy"].as_f64().unwrap() <= 1.0, "{cpu}");
    assert_eq!(cpu["last_decision"]["change"], "start", "{cpu}");
    assert_eq!(
        (&snapshot["models"][0]["kind"], &snapshot["models"][0]["slo_ms"]),
        (&json!("digits"), &json!(100))
    );
    let sample = wait_until("a second is over", SOON, || {
        let history = server.get("/api/history").json();
        let samples = history["samples"].as_array()?.clone();
        samples.into_iter().find(|sample| sample["on"].get("cpu").is_some())
    });
    assert!(sample["at_ms"].as_u64().unwrap() > 0, "{sample}");
}

#[test]
fn load_generator_is_bounded_and_stops() {
    let server = Setup::cpu().start();
    assert_eq!(server.snapshot()["load"], Value::Null);
    for (order, status) in [
        (r#"{"model":"digits","concurrency":0,"seconds":5}"#, 422),
        (r#"{"model":"digits","concurrency":65,"seconds":5}"#, 422),
        (r#"{"model":"digits","concurrency":1,"seconds":4}"#, 422),
        (r#"{"model":"digits","concurrency":1,"seconds":61}"#, 422),
        (r#"{"model":"unknown","concurrency":1,"seconds":5}"#, 404),
        (r#"{"model":"digits","concurrency":-1,"seconds":5}"#, 400),
        (r#"{"model":"digits"}"#, 400),
        ("", 400),
    ] {
        assert_eq!(server.post("/api/load", order).status, status, "{order}");
    }
    assert_eq!(server.get("/api/load").header("allow"), Some("POST, DELETE"));
    let order = r#"{"model":"digits","concurrency":4,"seconds":60}"#;
    let started = server.post("/api/load", order).json();
    assert_eq!((&started["running"], &started["concurrency"]), (&json!(true), &json!(4)));
    assert_eq!(server.post("/api/load", order).status, 409);
    wait_until("it generates load", SOON, || {
        (server.snapshot()["load"]["answered"].as_u64()? >= 20).then_some(())
    });
    // Requests of clients are served before those of the load generator.
    infer(&server, &[]);
    let ended = server.send("DELETE", "/api/load", &[], b"").json();
    assert_eq!((&ended["running"], &ended["failed"]), (&json!(false), &json!(0)), "{ended}");
    assert!(ended["p50_ms"].as_f64().unwrap() > 0.0, "{ended}");
    wait_until("nothing is in flight", SOON, || {
        let queue = &server.snapshot()["queue"];
        (queue["queued_requests"] == 0 && queue["in_flight_requests"] == 0).then_some(())
    });
    let foreign = [("Origin", "http://evil.example"), ("Content-Type", "application/json")];
    assert_eq!(server.send("POST", "/api/load", &foreign, order.as_bytes()).status, 403);
    assert_eq!(server.send("DELETE", "/api/load", &foreign, b"").status, 403);
}

#[test]
fn top_prints_one_frame_without_a_terminal() {
    let server = Setup::cpu().args(&["--api-key", "k"]).start();
    server.wait_until_ready();
    let url = format!("http://{}", server.address);
    let frame = testkit::run(&["top", "--once", "--url", &url, "--api-key", "k"], &[]);
    let text = String::from_utf8_lossy(&frame.stdout).into_owned();
    assert!(frame.status.success() && text.contains("digits"), "{frame:?}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let shut = testkit::run(&["top", "--once", "--url", &url], &[]);
    let output = String::from_utf8_lossy(&shut.stderr).into_owned();
    assert!(!shut.status.success() && output.contains("key"), "{output}");
}

#[test]
fn unreachable_latency_target_is_reported_with_the_effective_target() {
    let server = Setup::cpu().config("[test.slow.cpu]\nrow = '150ms'").start();
    server.wait_until_ready();
    for _ in 0..3 {
        assert_eq!(server.post(INFER, SEVEN).status, 200);
    }
    let begin = "100 ms cannot be met here: the fastest adapter takes ";
    wait_for("the note of the model reports it", SOON, || {
        let note = server.snapshot()["models"][0]["note"].clone();
        note.as_str().is_some_and(|note| note.contains(begin) && note.contains("; aiming at "))
    });
    let log = server.log();
    assert_eq!(log.matches(begin).count(), 1, "{log}");
}
