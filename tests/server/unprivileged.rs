use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;
use testkit::http::request;
use testkit::images::{SEVEN, digits};
use testkit::openapi::{Operation, document, operations};
use testkit::{Folder, HANG, Server, Setup, models, run, wait_for, wait_until};

const SCOPES: [&str; 3] = ["infer", "read", "admin"];

/// A server with one key for each scope, in their order.
struct Keyed {
    server: Server,
    keys: [String; 3],
    _folder: Folder,
}

impl Keyed {
    fn start() -> Keyed {
        let folder = Folder::new();
        let mut file = String::new();
        let keys = SCOPES.map(|scope| {
            let made = run(&["key", "--name", scope, "--scope", scope], &[]);
            file += &String::from_utf8(made.stdout).unwrap();
            String::from_utf8(made.stderr).unwrap().trim().to_owned()
        });
        let file = folder.write("keys.toml", file);
        models::add_echo(&folder, "models/echo", 8, "0s");
        let setup = Setup::cpu().models(&folder.join("models"));
        let server = setup.args(&["--keys", file.to_str().unwrap()]).start();
        server.wait_until_ready();
        Keyed { server, keys, _folder: folder }
    }

    fn key(&self, scope: &str) -> &str {
        &self.keys[SCOPES.iter().position(|known| *known == scope).unwrap()]
    }

    fn operations(&self) -> Vec<Operation> {
        operations(&document(&self.server, &[("X-API-Key", self.key("read"))]))
    }
}

/// The status only, since a stream of events does not end.
fn status(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut connection = server.connect();
    connection.send(&request(method, path, headers, b"")).unwrap();
    connection.head().unwrap_or_else(|error| panic!("{method} {path}: {error}")).0
}

#[test]
fn every_operation_requires_its_described_scope() {
    let keyed = Keyed::start();
    let wrong = "Bearer cnc_wrong";
    let mut count = 0;
    for operation in keyed.operations() {
        // A model and an adapter that do not exist: permitted operations change nothing.
        let path = operation.filled("unknown", "1", "unknown");
        let read = operation.method == "GET";
        for method in [operation.method.as_str(), "HEAD"].into_iter().take(1 + usize::from(read)) {
            let context = format!("{method} {path}");
            let status = |headers: &[(&str, &str)]| status(&keyed.server, method, &path, headers);
            let scopes = &operation.scopes;
            if scopes.is_empty() {
                assert!(status(&[]) < 400, "{context} requires a key");
                continue;
            }
            // `admin` includes `read`.
            let opens = |own: &str| {
                scopes.iter().any(|scope| scope == own || (own == "admin" && scope == "read"))
            };
            assert_eq!((status(&[]), status(&[("Authorization", wrong)])), (401, 401), "{context}");
            for (own, key) in SCOPES.iter().zip(&keyed.keys) {
                let bearer = format!("Bearer {key}");
                for header in [("Authorization", bearer.as_str()), ("X-API-Key", key)] {
                    let answered = status(&[header]);
                    let refused = answered == 401 || answered == 403;
                    assert_eq!(refused, !opens(own), "{context} with scope {own}: {answered}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn no_other_spelling_of_a_path_or_method_gets_around_the_key() {
    let keyed = Keyed::start();
    let secrets = ["/api/snapshot", "/metrics", "/openapi.json", "/v2/models/echo", "/v2"];
    for path in secrets {
        let rest = &path[1..];
        let escaped = format!("/%{:02x}{}", rest.as_bytes()[0], &rest[1..]);
        for odd in [
            format!("/{path}"),
            format!("{path}/"),
            format!("{path}?key=x"),
            format!("{path};a=b"),
            format!("/./{rest}"),
            format!("/x/..{path}"),
            format!("http://127.0.0.1{path}"),
            path.to_uppercase(),
            escaped,
        ] {
            let found = status(&keyed.server, "GET", &odd, &[]);
            assert!([400, 401, 404].contains(&found), "{odd}: {found}");
        }
    }
    // Neither a claimed origin nor another path, method or malformed key changes anything.
    for header in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-HTTP-Method-Override", "GET"),
        ("X-Original-URL", "/v2/health/live"),
        ("Authorization", "Bearer"),
        ("Authorization", "Bearer  "),
        ("Authorization", "Basic YWRtaW46YWRtaW4="),
        ("X-API-Key", ""),
        ("Cookie", "key=admin"),
    ] {
        assert_eq!(status(&keyed.server, "GET", "/api/snapshot", &[header]), 401, "{header:?}");
        let post = status(&keyed.server, "POST", "/api/adapters/cpu", &[header]);
        assert_eq!(post, 401, "{header:?}");
    }
}

/// Names that lead from the repository to `outside`, a good model beside it.
fn outside_names(outside: &str) -> Vec<String> {
    let encoded = |name: &str| name.replace('/', "%2f").replace('.', "%2e");
    let absolute = encoded(outside);
    let mut names = vec![
        encoded("../outside"),
        encoded("../../outside"),
        encoded("inside/../../outside"),
        encoded("./inside"),
        encoded("."),
        encoded(".."),
        "..%5coutside".to_owned(),
        "..%252foutside".to_owned(),
        "..%c0%af..%c0%afoutside".to_owned(),
        "inside%00".to_owned(),
        "inside%00.onnx".to_owned(),
        "%00".to_owned(),
        "..%2foutside%00".to_owned(),
        "inside%2f1".to_owned(),
        "inside%2fmodel.toml".to_owned(),
        "inside%0a".to_owned(),
        "%20inside".to_owned(),
        "INSIDE".to_owned(),
        "linked".to_owned(),
        "file%3a%2f%2f".to_owned() + &absolute,
    ];
    names.extend([absolute.clone(), format!("%2f{absolute}"), encoded("/etc/passwd")]);
    names
}

#[test]
fn no_name_leads_out_of_the_repository() {
    let folder = Folder::new();
    models::add_echo(&folder, "models/inside", 8, "0s");
    models::add_digits(&folder, "outside");
    let repository = folder.join("models");
    std::os::unix::fs::symlink(folder.join("outside"), repository.join("linked")).unwrap();
    let server = Setup::cpu().models(&repository).start();
    server.wait_until_ready();
    let operations = operations(&document(&server, &[]));
    let named = operations.iter().filter(|operation| operation.path.contains('{'));
    for operation in named.clone() {
        for name in outside_names(folder.join("outside").to_str().unwrap()) {
            let version_too = operation.filled("inside", &name, "cpu");
            for path in [operation.filled(&name, "1", &name), version_too] {
                if !path.contains(&name) {
                    continue;
                }
                let response = server.send(
                    &operation.method,
                    &path,
                    &[("Content-Type", "application/json")],
                    b"{\"mode\":\"off\"}",
                );
                let context =
                    format!("{} {path}: {} {}", operation.method, response.status, response.text());
                assert!((400..500).contains(&response.status), "{context}");
                // The model beside the repository has this output.
                assert!(!response.text().contains("probabilities"), "{context}");
            }
        }
    }
    let load = |name: &str| server.post(&format!("/v2/repository/models/{name}/load"), "").status;
    for name in outside_names(folder.join("outside").to_str().unwrap()) {
        assert!([404, 422].contains(&load(&name)), "{name}");
    }
    assert_eq!(load("inside"), 200);
    let index = server.post("/v2/repository/index", r#"{"ready":true}"#).json();
    assert_eq!(index, json!([{"name": "inside", "version": "1", "state": "READY", "reason": ""}]));
    assert_eq!(server.adapter("cpu")["mode"], "auto");
}

#[test]
fn the_server_fetches_nothing_that_a_request_names() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let address = trap.local_addr().unwrap();
    let url = format!("http://{address}/model.onnx");
    let name = url.replace(':', "%3a").replace('/', "%2f");
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let config = json!({"parameters": {"config": url, "file:1/model.onnx": url, "url": url}});
    let load = server.post("/v2/repository/models/digits/load", &config.to_string());
    assert_eq!(load.status, 422, "{}", load.text());
    for operation in operations(&document(&server, &[])) {
        let path = operation.filled(&name, &name, &name);
        let headers = [("Referer", url.clone()), ("Link", format!("<{url}>"))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let status = status(&server, &operation.method, &path, &headers);
        assert!(!operation.path.contains('{') || (400..500).contains(&status), "{path}: {status}");
    }
    let image = json!({"name": "image", "datatype": "UINT8", "shape": [1, 28, 28],
        "parameters": {"shared_memory_region": url}});
    let body = json!({"inputs": [image], "parameters": {"callback": url, "url": url}});
    assert_eq!(server.post("/v2/models/digits/infer", &body.to_string()).status, 400);
    let bytes =
        json!({"inputs": [{"name": "bytes", "datatype": "BYTES", "shape": [1, 1], "data": [url]}]});
    assert_eq!(server.post("/v2/models/filetype/infer", &bytes.to_string()).status, 200);
    let image =
        json!({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [url]}]});
    assert_eq!(server.post("/v2/models/ocr/infer", &image.to_string()).status, 422);
    // The server does not act as a proxy.
    assert_eq!(status(&server, "GET", &url, &[]), 400);
    assert_eq!(status(&server, "CONNECT", &address.to_string(), &[]), 400);
    std::thread::sleep(Duration::from_millis(200));
    assert!(trap.accept().is_err(), "the server opened a connection");
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
}

/// All answers that a key with the scope `read` can get, events included.
fn readable(keyed: &Keyed) -> String {
    let key = [("X-API-Key", keyed.key("read"))];
    let reads = keyed.operations().into_iter().filter(|operation| operation.method == "GET");
    let mut all = String::new();
    for operation in reads.filter(|operation| operation.path != "/api/events") {
        let path = operation.filled("echo", "1", "cpu");
        all += &keyed.server.send("GET", &path, &key, b"").text();
    }
    let mut events = keyed.server.connect();
    events.send(&request("GET", "/api/events", &key, b"")).unwrap();
    events.head().unwrap();
    let data = || events.line().ok().filter(|line| line.starts_with("data:"));
    all + &wait_until("the first event", HANG, data)
}

#[test]
fn clients_cannot_read_requests_and_answers_of_others() {
    let keyed = Keyed::start();
    let secret = "s3cret-of-another-client";
    let send = |path: &str, body: &Value| {
        let headers = [("X-API-Key", keyed.key("infer"))];
        keyed.server.send("POST", path, &headers, body.to_string().as_bytes())
    };
    let input = json!({"name": "x", "datatype": "BYTES", "shape": [1, 1], "data": [secret]});
    let good = json!({"inputs": [input], "id": secret});
    let answer = send("/v2/models/echo/infer", &good);
    assert_eq!((answer.status, &answer.json()["outputs"][0]["data"]), (200, &json!([secret])));
    let mut late = good.clone();
    late["parameters"] = json!({"timeout": 1});
    let mut misnamed = good.clone();
    misnamed["inputs"][0]["name"] = json!(secret);
    for (path, body, status) in [
        ("/v2/models/echo/infer", &late, 504),
        ("/v2/models/echo/infer", &misnamed, 422),
        (&format!("/v2/models/{secret}/infer"), &good, 404),
    ] {
        assert_eq!(send(path, body).status, status, "{path}");
    }
    // Waits until the counters contain all requests.
    let counts = || {
        let key = [("X-API-Key", keyed.key("read"))];
        let models = keyed.server.send("GET", "/api/snapshot", &key, b"").json()["models"].take();
        models[0]["requests"].as_u64() >= Some(1) && models[0]["errors"].as_u64() >= Some(1)
    };
    wait_for("both are counted", HANG, counts);
    let text = readable(&keyed);
    assert!(text.contains("\"adapters\"") && text.contains("concertina_requests_total"), "{text}");
    assert!(!text.contains(secret), "{text}");
    assert!(!keyed.server.log().contains(secret), "{}", keyed.server.log());
}

#[test]
fn key_is_checked_for_each_request_of_a_connection() {
    let keyed = Keyed::start();
    let mut connection = keyed.server.connect();
    let with = request("GET", "/api/snapshot", &[("X-API-Key", keyed.key("read"))], b"");
    let without = request("GET", "/api/snapshot", &[], b"");
    for (request, status) in [(&with, 200), (&without, 401), (&with, 200)] {
        assert_eq!(connection.exchange(request).unwrap().status, status);
    }
}
