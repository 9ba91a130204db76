//! Real sockets against the accept loop, with small warp routes.

use super::*;
use crate::http::keys::KeyRing;
use crate::http::respond::document;
use bytes::Bytes;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use warp::Filter;

/// Much larger than the sockets' buffers.
const HUGE: usize = 64 * 1024 * 1024;

fn limits() -> ApiLimits {
    ApiLimits {
        body_bytes_max: 1024,
        connections_max: 1,
        event_streams_max: 1,
        headers_bytes_max: 2048,
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_secs(1),
        shutdown_grace: Duration::from_secs(20),
        keys: KeyRing::default(),
        tls: None,
        hosts: vec![],
        allow_origins: Vec::new(),
        access_log: false,
        settings: None,
    }
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn start(limits: ApiLimits) -> Running {
    let text = |text: Vec<u8>| document("text/plain", Bytes::from(text));
    let ok = warp::path!("ok").map(move || text(b"fine".to_vec()));
    let slow = warp::path!("slow").then(move || async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        text(b"slowly".to_vec())
    });
    let hang = warp::path!("hang").then(std::future::pending::<Response>);
    let huge = warp::path!("huge").map(move || text(vec![b'x'; HUGE]));
    let live = warp::path!("v2" / "health" / "live").map(move || text(b"live".to_vec()));
    let ok = ok.or(live).unify();
    let routes = ok.or(slow).unify().or(hang).unify().or(huge).unify().boxed();
    let service = TowerToHyperService::new(warp::service(routes));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(async move {
        let shutdown = async { stopped.await.unwrap_or_default() };
        run(listener, (service, Memory::new(1 << 30)), &limits, CancellationToken::new(), shutdown)
            .await;
    });
    Running { address, stop, server }
}

async fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read_all(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("no answer").unwrap();
    answer
}

/// Well before the end of the grace period.
async fn ends_soon(server: JoinHandle<()>) {
    tokio::time::timeout(Duration::from_secs(5), server)
        .await
        .expect("the server does not end")
        .unwrap();
}

async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    read_all(send(address, &request).await).await
}

/// Sends requests until the answer has this status; slots are freed shortly after an exchange.
async fn get_until(address: SocketAddr, status: &str) {
    let deadline = types::clock::now() + Duration::from_secs(5);
    loop {
        let answer = get(address, "/ok").await;
        if answer.starts_with(status) {
            return;
        }
        assert!(types::clock::now() < deadline, "{answer}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_over_the_cap_are_answered_503() {
    let allow_origins = vec!["https://page.example".to_owned()];
    let running = start(ApiLimits { allow_origins, ..limits() }).await;
    let mut first = send(running.address, "GET /ok HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
    let request =
        "GET /ok HTTP/1.1\r\nhost: x\r\norigin: https://page.example\r\nconnection: close\r\n\r\n";
    let refused = read_all(send(running.address, request).await).await;
    assert!(refused.contains("access-control-allow-origin: https://page.example"), "{refused}");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("{\"error\":"), "{refused}");
    // The first connection is kept alive: it still has its slot, and gets another answer.
    first.write_all(b"GET /ok HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_all(first).await.ends_with("fine"));
    get_until(running.address, "HTTP/1.1 200").await;
}

#[tokio::test]
async fn slow_heads_end() {
    let header_timeout = Duration::from_millis(200);
    let running = start(ApiLimits { header_timeout, ..limits() }).await;
    let begun = types::clock::now();
    read_all(send(running.address, "GET /ok HTTP/1.1\r\nhos").await).await;
    assert!(begun.elapsed() < limits().header_timeout);
    get_until(running.address, "HTTP/1.1 200").await;
}

#[tokio::test]
async fn long_heads_are_rejected() {
    let running = start(limits()).await;
    let long = format!("GET /ok HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(4096));
    let answer = read_all(send(running.address, &long).await).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(answer.contains("\"error\":\"the headers of the request are too large"), "{answer}");
}

#[tokio::test]
async fn health_checks_are_answered_over_the_connection_limit_of_an_address() {
    let running = start(limits()).await;
    let mut first = send(running.address, "GET /ok HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
    // Many more than are served over the cap, none of which sends a request.
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    for _ in 0..20 {
        assert!(get(running.address, "/v2/health/live").await.ends_with("live"));
        assert!(get(running.address, "/ok").await.starts_with("HTTP/1.1 503"));
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
}

#[tokio::test]
async fn clients_that_do_not_read_are_disconnected() {
    let running = start(limits()).await;
    let _unread = send(running.address, "GET /huge HTTP/1.1\r\nhost: x\r\n\r\n").await;
    get_until(running.address, "HTTP/1.1 503").await;
    get_until(running.address, "HTTP/1.1 200").await;
}

/// A certificate for `localhost`, and a client that accepts it.
fn secure() -> (Tls, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.into()], key).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (Tls::new(server), Arc::new(client).into())
}

#[tokio::test]
async fn clients_that_do_not_read_are_disconnected_over_tls() {
    let (tls, connector) = secure();
    let running = start(ApiLimits { tls: Some(tls), ..limits() }).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let mut unread = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    unread.write_all(b"GET /huge HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(limits().write_timeout * 3).await;
    let mut got = Vec::new();
    // The connection ends without a `close_notify` of TLS.
    assert!(unread.read_to_end(&mut got).await.is_err());
    assert!(got.starts_with(b"HTTP/1.1 200") && got.len() < HUGE, "{} bytes", got.len());
}

#[tokio::test]
async fn answer_before_the_end_of_a_large_upload_is_received() {
    let running = start(limits()).await;
    let head = format!("POST /ok HTTP/1.1\r\nhost: x\r\ncontent-length: {HUGE}\r\n\r\n");
    let mut stream = send(running.address, &head).await;
    for _ in 0..HUGE / (64 * 1024) {
        if stream.write_all(&[0; 64 * 1024]).await.is_err() {
            break;
        }
    }
    assert!(read_all(stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn running_exchanges_end_after_shutdown_began() {
    let running = start(limits()).await;
    let slow = send(running.address, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop.send(()).unwrap();
    assert!(read_all(slow).await.ends_with("slowly"));
    ends_soon(running.server).await;
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn exchanges_after_the_grace_period_are_dropped() {
    let shutdown_grace = Duration::from_millis(500);
    let running = start(ApiLimits { shutdown_grace, ..limits() }).await;
    let hanging = send(running.address, "GET /hang HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = types::clock::now();
    running.stop.send(()).unwrap();
    ends_soon(running.server).await;
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(read_all(hanging).await, "");
}

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    let running = start(limits()).await;
    let mut idle = send(running.address, "GET /ok HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    running.stop.send(()).unwrap();
    ends_soon(running.server).await;
}
