//! Requests to the server over HTTP, on a separate thread so that keys are handled at once.

use super::http::{Http, HttpAnswer};
use super::text::clean;
use super::view::{Id, ReceivedHistory, ReceivedSample, ReceivedSnapshot};
use anyhow::{Context, ensure};
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;
use url::{Position, Url};

/// Maximum number of reports that the view has not read, and of mode changes that are not sent yet.
const REPORTS_MAX: usize = 16;
const MODE_CHANGES_MAX: usize = 16;
/// A longer gap between two samples is filled from the server's history.
const GAP_MS: f64 = 1500.0;

/// The reason for a missing answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The server requires an API key, or another one.
    Key {
        given: bool,
    },
    Other(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Key { given: false } => to.write_str(
                "the server requires an API key; set --api-key-file FILE or CONCERTINA_API_KEY",
            ),
            Trouble::Key { given: true } => to.write_str(
                "the server rejects this API key; see --api-key-file and CONCERTINA_API_KEY",
            ),
            Trouble::Other(why) => to.write_str(why),
        }
    }
}

impl Error for Trouble {}

/// The mode that the operator requests for an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestedMode {
    Auto,
    On,
    Off,
}

impl RequestedMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RequestedMode::Auto => "auto",
            RequestedMode::On => "on",
            RequestedMode::Off => "off",
        }
    }
}

/// A change of mode to send to the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModeChange {
    pub(crate) adapter: Id,
    pub(crate) mode: RequestedMode,
}

/// The result of a request.
#[derive(Debug)]
pub(crate) enum ServerReport {
    Snapshot(Box<ReceivedSnapshot>),
    /// Samples of the history, oldest first.
    Past(Vec<ReceivedSample>),
    Trouble(Trouble),
    ModeSet(ModeChange),
    ModeRejected(ModeChange, Trouble),
}

/// A client of one server.
pub(crate) struct ServerClient {
    http: Http,
    base: Url,
    key: Option<String>,
}

impl ServerClient {
    /// Creates a client of the server at this URL; see [`Http::new`] for `ca`.
    ///
    /// # Errors
    /// If it is not the URL of a server.
    pub(crate) fn new(
        url: &str,
        key: Option<&str>,
        ca: Option<&Path>,
    ) -> anyhow::Result<ServerClient> {
        let base = Url::parse(url).with_context(|| format!("{} is not a URL", clean(url)))?;
        ensure!(base.has_host(), "{} has no host", clean(url));
        let http = Http::new(&base, ca)?;
        Ok(ServerClient { http, base, key: key.filter(|key| !key.is_empty()).map(str::to_owned) })
    }

    /// Returns host and port, without other parts of the URL.
    pub(crate) fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or(80);
        clean(&format!("{host}:{port}"))
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Returns a URL of the server, without user and password.
    pub(crate) fn address_of(&self, path: &[&str]) -> String {
        let mut url = self.at(path);
        // This fails only for URLs without a host, which have no user.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.into()
    }

    pub(crate) fn snapshot(&self) -> Result<ReceivedSnapshot, Trouble> {
        let answer = self.send(Method::GET, &["api", "snapshot"], String::new())?;
        read(&self.checked(answer)?)
    }

    /// Returns the server's samples of the last minutes; empty if the server has no history.
    pub(crate) fn history(&self) -> Result<Vec<ReceivedSample>, Trouble> {
        let answer = self.send(Method::GET, &["api", "history"], String::new())?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        read(&self.checked(answer)?).map(|history: ReceivedHistory| history.samples)
    }

    /// Returns the requests of the last day and the adapters.
    pub(crate) fn recording(&self) -> Result<Recording, Trouble> {
        let answer = self.send(Method::GET, &["api", "recording"], String::new())?;
        read(&self.checked(answer)?)
    }

    /// Returns the comparison of settings, which the server computes on request.
    pub(crate) fn comparison(&self) -> Result<Comparison, Trouble> {
        let answer = self.send(Method::GET, &["api", "whatif"], String::new())?;
        read(&self.checked(answer)?)
    }

    /// Starts the load generator of the server.
    pub(crate) fn start_load(
        &self,
        model: &str,
        concurrency: u64,
        seconds: u64,
    ) -> Result<(), Trouble> {
        let body = serde_json::json!({
            "model": model, "concurrency": concurrency, "seconds": seconds
        });
        let answer = self.send(Method::POST, &["api", "load"], body.to_string())?;
        self.checked(answer).map(drop)
    }

    fn set_mode(&self, change: &ModeChange) -> Result<(), Trouble> {
        let body = serde_json::json!({ "mode": change.mode.as_str() }).to_string();
        let answer = self.send(Method::POST, &["api", "adapters", change.adapter.raw()], body)?;
        self.checked(answer).map(drop)
    }

    fn send(&self, method: Method, path: &[&str], body: String) -> Result<HttpAnswer, Trouble> {
        let host = &self.base[Position::BeforeHost..Position::AfterPort];
        let request = Request::builder().method(method).uri(self.at(path).path());
        let request = request.header(HOST, host).header(CONNECTION, "close");
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
            None => request,
        };
        let request = request.body(Full::from(body)).context("invalid request");
        let answer = request.and_then(|request| self.http.exchange(request));
        answer.map_err(|error| Trouble::Other(root_cause(&error)))
    }

    /// Returns the URL of a path with its segments percent-encoded.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Returns the answer if it is a success, otherwise the server's error.
    fn checked(&self, answer: HttpAnswer) -> Result<HttpAnswer, Trouble> {
        let status = answer.status;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Trouble::Key { given: self.key.is_some() });
        }
        if status.is_success() {
            return Ok(answer);
        }
        let body: ErrorBody = read(&answer).unwrap_or_default();
        let error = body.error.as_deref().map(clean);
        Err(Trouble::Other(match error {
            Some(error) => format!("{error} ({})", status.as_u16()),
            None if status == StatusCode::NOT_FOUND => {
                "no concertina server at this address (404)".to_owned()
            }
            None => format!("the server answered {status}"),
        }))
    }
}

/// The requests of the last day as CSV, and the adapters as TOML.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    pub(crate) trace: String,
    pub(crate) adapters: String,
}

/// The current settings and alternatives, simulated with the requests of the last day.
#[derive(Debug, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) state: String,
    pub(crate) cases: Vec<Compared>,
    #[serde(default)]
    best: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Compared {
    pub(crate) what: String,
    setting: Option<String>,
    pub(crate) attainment: f64,
    pub(crate) watt_hours: f64,
}

impl Comparison {
    /// Returns the best alternative, and its line of the settings.
    pub(crate) fn best(&self) -> Option<(&Compared, &str)> {
        let best = self.cases.get(self.best?)?;
        Some((best, best.setting.as_deref()?))
    }
}

/// The body of an error answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: Option<String>,
}

fn read<T: DeserializeOwned>(answer: &HttpAnswer) -> Result<T, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Trouble::Other(clean(&format!("not a concertina server: {error}"))))
}

/// Returns the root cause, since the view shows the request and the server already.
fn root_cause(error: &anyhow::Error) -> String {
    // The number, as in `Connection refused (os error 111)`, is removed as it does not help the
    // operator.
    let text = error.root_cause().to_string();
    clean(text.split(" (os error").next().unwrap_or_default())
}

/// Requests a snapshot at every `interval` until the receiver is dropped, and sends mode changes.
pub(crate) fn follow(
    client: ServerClient,
    interval: Duration,
) -> (SyncSender<ModeChange>, Receiver<ServerReport>) {
    let (mode_changes, requested) = mpsc::sync_channel(MODE_CHANGES_MAX);
    let (reports, reported) = mpsc::sync_channel(REPORTS_MAX);
    let mut follower = Follower { client, reports, sampled_ms: None };
    thread::spawn(move || follower.run(&requested, interval));
    (mode_changes, reported)
}

/// The view was closed.
struct ViewClosed;

struct Follower {
    client: ServerClient,
    reports: SyncSender<ServerReport>,
    /// Time of the last sample.
    sampled_ms: Option<f64>,
}

impl Follower {
    fn run(&mut self, requested: &Receiver<ModeChange>, interval: Duration) {
        while self.poll().is_ok() {
            let outcome = match requested.recv_timeout(interval) {
                Ok(change) => self.apply(change),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => Err(ViewClosed),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn poll(&mut self) -> Result<(), ViewClosed> {
        let snapshot = match self.client.snapshot() {
            Ok(snapshot) => snapshot,
            Err(trouble) => return self.report(ServerReport::Trouble(trouble)),
        };
        let at = snapshot.sample_or_present().at_ms.or_zero();
        let last = self.sampled_ms.replace(at);
        // This includes a restart, when the server's time begins anew.
        if last.is_none_or(|last| at < last || at - last > GAP_MS) {
            // The snapshot is sufficient if the history is not available.
            if let Ok(past) = self.client.history() {
                self.report(ServerReport::Past(past))?;
            }
        }
        self.report(ServerReport::Snapshot(Box::new(snapshot)))
    }

    fn apply(&mut self, change: ModeChange) -> Result<(), ViewClosed> {
        let outcome = self.client.set_mode(&change);
        self.report(match outcome {
            Ok(()) => ServerReport::ModeSet(change),
            Err(trouble) => ServerReport::ModeRejected(change, trouble),
        })
    }

    fn report(&self, report: ServerReport) -> Result<(), ViewClosed> {
        self.reports.send(report).map_err(|_| ViewClosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn client(url: &str, key: Option<&str>) -> anyhow::Result<ServerClient> {
        ServerClient::new(url, key, None)
    }

    fn id(raw: &str) -> Id {
        serde_json::from_value(raw.into()).unwrap()
    }

    /// Runs a server that sends one of `answers` per connection, and returns the requests it
    /// received.
    fn server(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let answer = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4096];
                let mut received = String::new();
                while !received.contains("\r\n\r\n")
                    || received.contains("POST") && !received.ends_with('}')
                {
                    let got = stream.read(&mut bytes).unwrap();
                    received.push_str(&String::from_utf8_lossy(bytes.get(..got).unwrap()));
                }
                stream.write_all(answer.as_bytes()).unwrap();
                received
            };
            answers.into_iter().map(answer).collect()
        });
        (url, serving)
    }

    fn http(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    #[test]
    fn urls_are_checked_and_paths_are_encoded() {
        for wrong in ["nonsense", "ftp://localhost", "http:/x:y"] {
            assert!(client(wrong, None).is_err(), "{wrong}");
        }
        let client = client("http://user:pw@[::1]:8/base/?q#f", None).unwrap();
        assert_eq!(client.place(), "[::1]:8");
        let url = client.at(&["api", "adapters", "a/b?c#d e%"]);
        assert_eq!(url.path(), "/base/api/adapters/a%2Fb%3Fc%23d%20e%25");
        assert_eq!((url.query(), url.fragment()), (None, None));
    }

    #[test]
    fn mode_change_is_posted_with_the_key() {
        let (url, serving) = server(vec![http("200 OK", "{}")]);
        let client = client(&url, Some("secret")).unwrap();
        let change = ModeChange { adapter: id("pci-0000:01:00.0"), mode: RequestedMode::Off };
        client.set_mode(&change).unwrap();
        let received = serving.join().unwrap().concat();
        assert!(received.starts_with("POST /api/adapters/pci-0000:01:00.0 HTTP/1.1"), "{received}");
        assert!(received.to_lowercase().contains("authorization: bearer secret"), "{received}");
        assert!(received.ends_with(r#"{"mode":"off"}"#), "{received}");
    }

    #[test]
    fn error_is_the_text_of_the_server() {
        let answers = vec![
            http("401 Unauthorized", ""),
            http("409 Conflict", "{\"error\":\"not \\u001b[31mnow\"}"),
            http("404 Not Found", "<html>"),
            http("200 OK", "<html>"),
        ];
        let (url, serving) = server(answers);
        let client = client(&url, None).unwrap();
        assert_eq!(client.snapshot(), Err(Trouble::Key { given: false }));
        let words: Vec<_> = (0..3).map(|_| client.snapshot().unwrap_err().to_string()).collect();
        assert_eq!(words.first().unwrap(), "not \u{fffd}[31mnow (409)");
        assert_eq!(words.get(1).unwrap(), "no concertina server at this address (404)");
        assert!(words.get(2).unwrap().starts_with("not a concertina server"), "{words:?}");
        serving.join().unwrap();
        assert_eq!(client.snapshot().unwrap_err().to_string(), "Connection refused");
    }

    #[test]
    fn a_gap_is_filled_from_the_history() {
        let at = |ms: u32| http("200 OK", &format!("{{\"sample\":{{\"at_ms\":{ms}}}}}"));
        let past = http("200 OK", "{\"samples\":[{\"at_ms\":1}]}");
        let (url, serving) =
            server(vec![at(1000), past.clone(), at(2000), at(9000), past.clone(), at(10), past]);
        let (reports, reported) = mpsc::sync_channel(REPORTS_MAX);
        let client = client(&url, None).unwrap();
        let mut follower = Follower { client, reports, sampled_ms: None };
        for _ in 0..4 {
            assert!(follower.poll().is_ok());
        }
        let is_past = |report| matches!(report, ServerReport::Past(_));
        let order: Vec<_> = reported.try_iter().map(is_past).collect();
        assert_eq!(order, [true, false, false, true, false, true, false]);
        serving.join().unwrap();
    }
}
