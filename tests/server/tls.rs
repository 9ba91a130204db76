use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testkit::http::{Connection, request};
use testkit::images::{SEVEN, digits};
use testkit::process::{Signal, signal};
use testkit::{Folder, HANG, Response, Server, Setup, run, wait_for, wait_until};

const INFER: &str = "/v2/models/digits/infer";
const HTTP: &[&[u8]] = &[b"http/1.1"];

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Pair {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn write(&self, folder: &Folder) {
        folder.write("c.pem", &self.certificate);
        let key = folder.write("k.pem", &self.key);
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn setup(folder: &Folder) -> Setup {
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    Setup::cpu().args(&["--tls-certificate", files[0], "--tls-key", files[1]])
}

/// A server, its certificate, and the folder of its files.
fn start(config: &str) -> (Server, Pair, Folder) {
    let (folder, pair) = (Folder::new(), Pair::new());
    pair.write(&folder);
    let server = setup(&folder).config(config).start();
    (server, pair, folder)
}

type Secure = Connection<StreamOwned<ClientConnection, TcpStream>>;

/// Connects as a client that accepts only this certificate and offers these protocols.
fn connect(server: &Server, trusted: &Pair, protocols: &[&[u8]]) -> io::Result<Secure> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = server.connect().into_stream();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(Connection::over(StreamOwned::new(tls, stream)))
}

fn infer_digit(connection: &mut Secure) -> io::Result<Response> {
    connection.exchange(&request("POST", INFER, &[], SEVEN.as_bytes()))
}

#[track_caller]
fn check_still_serves(server: &Server, trusted: &Pair) {
    let mut connection = connect(server, trusted, HTTP).unwrap();
    assert_eq!(digits(&infer_digit(&mut connection).unwrap()), [7]);
}

#[test]
fn requests_over_tls_are_answered() {
    let (mut server, pair, _folder) = start("[limits]\nbody_bytes = 100000");
    assert!(server.log().contains("on https://127.0.0.1:"), "{}", server.log());
    assert!(!server.log().contains("WARN"), "{}", server.log());
    let mut open = connect(&server, &pair, &[b"h2", b"http/1.1"]).unwrap();
    assert_eq!(open.get_ref().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    for _ in 0..2 {
        assert_eq!(digits(&infer_digit(&mut open).unwrap()), [7]);
    }
    let mut no_choice = connect(&server, &pair, &[]).unwrap();
    assert_eq!(digits(&infer_digit(&mut no_choice).unwrap()), [7]);
    // A client that offers no supported protocol is rejected in the handshake.
    let refused = connect(&server, &pair, &[b"h2"]).err().unwrap();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    // An answer that is sent before the end of an upload arrives, as it does without TLS.
    let large = request("POST", INFER, &[], &vec![b' '; 1_000_000]);
    let mut uploading = connect(&server, &pair, HTTP).unwrap();
    // The server may close the connection before all is sent.
    let _ = uploading.send(&large);
    assert_eq!(uploading.receive().unwrap().status, 413);
    // Neither idle connections nor unfinished handshakes delay the stop.
    let _begun = server.connect();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(open.is_closed());
}

#[test]
fn new_certificate_is_used_and_a_broken_one_is_ignored() {
    let (server, old, folder) = start("");
    let mut before = connect(&server, &old, HTTP).unwrap();
    assert_eq!(digits(&infer_digit(&mut before).unwrap()), [7]);
    // No signal announces the change.
    let new = Pair::new();
    new.write(&folder);
    wait_for("the new one is used", HANG, || connect(&server, &new, HTTP).is_ok());
    assert!(connect(&server, &old, HTTP).is_err());
    assert_eq!(digits(&infer_digit(&mut before).unwrap()), [7]);
    // A key of another certificate.
    folder.write("k.pem", &old.key);
    signal(server.pid(), Signal::HUP);
    let kept =
        "failed to reload the certificate and its key; keeping the current ones: the private key";
    wait_for("the log reports it", HANG, || server.log().contains(kept));
    check_still_serves(&server, &new);
    old.write(&folder);
    signal(server.pid(), Signal::HUP);
    wait_for("the old one is back", HANG, || connect(&server, &old, HTTP).is_ok());
    assert!(!server.log().contains("BEGIN"), "{}", server.log());
}

#[test]
fn slow_handshakes_are_cut_and_count_as_connections() {
    let (server, pair, _folder) = start("[limits]\nconnections = 2\nheader_timeout = '4s'");
    let mut silent = server.connect();
    let mut half = server.connect();
    // The head of a handshake record without its content.
    half.send(b"\x16\x03\x01\x02\x00\x01").unwrap();
    let read = request("GET", "/v2", &[], b"");
    let status = || connect(&server, &pair, HTTP)?.exchange(&read).map(|answer| answer.status);
    assert_eq!(status().unwrap(), 503);
    // Single bytes do not extend the time.
    wait_until("it is cut", HANG, || {
        std::thread::sleep(Duration::from_millis(200));
        half.send(b"\x00").err()
    });
    assert!(silent.is_closed());
    wait_for("there is room again", HANG, || status().is_ok_and(|status| status == 200));
    check_still_serves(&server, &pair);
}

#[test]
fn plain_http_on_a_tls_port_is_answered_with_400() {
    let (server, pair, _folder) = start("");
    let answer = server.post(INFER, SEVEN);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("https://"), "{}", answer.text());
    for bytes in [&b"GARBAGE\r\n\r\n"[..], b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x16\xff\xff"]
    {
        let mut connection = server.connect();
        connection.send(bytes).unwrap();
        drop(connection);
    }
    let mut wrong = server.connect();
    wrong.send(&[0x16; 100]).unwrap();
    assert!(wrong.receive().is_err());
    check_still_serves(&server, &pair);
    for level in ["WARN", "ERROR"] {
        assert!(!server.log().contains(level), "{}", server.log());
    }
}

#[test]
fn invalid_tls_files_prevent_the_start() {
    let (folder, pair) = (Folder::new(), Pair::new());
    pair.write(&folder);
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let other = folder.write("other.pem", Pair::new().key);
    let cases: [(&[&str], &str); 4] = [
        (&["--tls-key", key], "tls.key is set, but tls.certificate is not"),
        (&["--tls-certificate", certificate], "tls.certificate is set, but tls.key is not"),
        (&["--tls-certificate", "/none", "--tls-key", key], "failed to read the certificate /none"),
        (
            &["--tls-certificate", certificate, "--tls-key", other.to_str().unwrap()],
            "other.pem does not belong to the first certificate of",
        ),
    ];
    for (args, words) in cases {
        let (status, log) = Setup::cpu().args(args).fail();
        assert_eq!(status.code(), Some(1));
        assert!(log.contains(words) && !log.contains("serving"), "{args:?}: {log}");
    }
    // A certificate does not authenticate clients: anyone on the network could connect.
    let args = ["serve", "--listen", "0.0.0.0:0", "--tls-certificate", certificate];
    let open = run(&[&args[..], &["--tls-key", key]].concat(), &[]);
    let output = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(output.contains("set api_key or keys, or allow_remote"), "{output}");
}

#[test]
fn expired_certificate_and_readable_key_are_logged() {
    let folder = Folder::new();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    folder.write("c.pem", params.self_signed(&key).unwrap().pem());
    let file = folder.write("k.pem", key.serialize_pem());
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let log = setup(&folder).start().log();
    assert!(log.contains("has expired at 2021-01-01T00:00:00Z"), "{log}");
    assert!(log.contains("every user of this machine may read the private key"), "{log}");
}

#[test]
fn top_connects_to_a_server_over_tls() {
    let (server, _pair, folder) = start("api_key = 'k'");
    let top = |url: &str, ca: Option<&Path>| {
        let ca = ca.map_or(vec![], |ca| vec!["--ca", ca.to_str().unwrap()]);
        let args = ["top", "--once", "--url", url, "--api-key", "k"];
        let output = run(&[&args[..], &ca].concat(), &[]);
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    };
    let url = |scheme: &str, host: &str| format!("{scheme}://{host}:{}", server.address.port());
    let ca = folder.join("c.pem");
    for host in ["localhost", "127.0.0.1"] {
        let frame = wait_until("models are shown", HANG, || {
            let (good, output) = top(&url("https", host), Some(&ca));
            assert!(good, "{output}");
            output.contains("digits").then_some(output)
        });
        assert!(!frame.contains('\u{1b}'), "{frame}");
    }
    for (url, ca, words) in [
        (url("https", "localhost"), None, "--ca FILE"),
        (url("https", "localhost"), Some(folder.join("none.pem")), "none.pem"),
        (url("https", "localhost"), Some(folder.join("k.pem")), "contains no certificate"),
        (url("http", "localhost"), Some(ca), "requires TLS; use https://"),
    ] {
        let (good, output) = top(&url, ca.as_deref());
        assert!(!good && output.contains(words), "{url}: '{output}' does not contain '{words}'");
    }
}
