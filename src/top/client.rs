//! Asks the server over HTTP, on a thread of its own so that keys answer at once.

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

/// Reports that the view has not looked at, and wishes that the client has not sent.
const REPORTS_MAX: usize = 16;
const WISHES_MAX: usize = 16;
/// A longer gap between two samples is filled from the server's history.
const GAP_MS: f64 = 1500.0;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It wants another key, or one at all.
    Key {
        given: bool,
    },
    Other(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Key { given: false } => to.write_str(
                "the server wants an API key; give it as --api-key-file FILE or CONCERTINA_API_KEY",
            ),
            Trouble::Key { given: true } => to.write_str(
                "the server does not take this API key; see --api-key-file and CONCERTINA_API_KEY",
            ),
            Trouble::Other(why) => to.write_str(why),
        }
    }
}

impl Error for Trouble {}

/// What the operator wants of an adapter.
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

/// A change of mode to ask the server for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModeChange {
    pub(crate) adapter: Id,
    pub(crate) mode: RequestedMode,
}

/// What came of asking.
#[derive(Debug)]
pub(crate) enum ServerReport {
    Snapshot(Box<ReceivedSnapshot>),
    /// Samples of the past, oldest first.
    Past(Vec<ReceivedSample>),
    Trouble(Trouble),
    Granted(ModeChange),
    Refused(ModeChange, Trouble),
}

/// A server to ask.
pub(crate) struct ServerClient {
    http: Http,
    base: Url,
    key: Option<String>,
}

impl ServerClient {
    /// The server at this URL; see [`Http::new`] for `ca`.
    ///
    /// # Errors
    /// If it is no URL of a server.
    pub(crate) fn new(
        url: &str,
        key: Option<&str>,
        ca: Option<&Path>,
    ) -> anyhow::Result<ServerClient> {
        let base = Url::parse(url).with_context(|| format!("{} is no URL", clean(url)))?;
        ensure!(base.has_host(), "{} names no host", clean(url));
        let http = Http::new(&base, ca)?;
        Ok(ServerClient { http, base, key: key.filter(|key| !key.is_empty()).map(str::to_owned) })
    }

    /// Host and port, without what else may stand in the URL.
    pub(crate) fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or(80);
        clean(&format!("{host}:{port}"))
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// A URL of the server, without the user and password that may be in its own.
    pub(crate) fn address_of(&self, path: &[&str]) -> String {
        let mut url = self.at(path);
        // Only URLs without a host have no user.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.into()
    }

    pub(crate) fn snapshot(&self) -> Result<ReceivedSnapshot, Trouble> {
        let answer = self.ask(Method::GET, &["api", "snapshot"], String::new())?;
        read(&self.granted(answer)?)
    }

    /// The server's samples of the last minutes; none of a server that keeps none.
    pub(crate) fn history(&self) -> Result<Vec<ReceivedSample>, Trouble> {
        let answer = self.ask(Method::GET, &["api", "history"], String::new())?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        read(&self.granted(answer)?).map(|history: ReceivedHistory| history.samples)
    }

    /// What was asked for in the last day, of which adapters.
    pub(crate) fn recording(&self) -> Result<Recording, Trouble> {
        let answer = self.ask(Method::GET, &["api", "recording"], String::new())?;
        read(&self.granted(answer)?)
    }

    /// The comparison of settings; computed by the server when it is requested.
    pub(crate) fn comparison(&self) -> Result<Comparison, Trouble> {
        let answer = self.ask(Method::GET, &["api", "whatif"], String::new())?;
        read(&self.granted(answer)?)
    }

    fn set_mode(&self, wish: &ModeChange) -> Result<(), Trouble> {
        let body = serde_json::json!({ "mode": wish.mode.as_str() }).to_string();
        let answer = self.ask(Method::POST, &["api", "adapters", wish.adapter.raw()], body)?;
        self.granted(answer).map(drop)
    }

    fn ask(&self, method: Method, path: &[&str], body: String) -> Result<HttpAnswer, Trouble> {
        let host = &self.base[Position::BeforeHost..Position::AfterPort];
        let request = Request::builder().method(method).uri(self.at(path).path());
        let request = request.header(HOST, host).header(CONNECTION, "close");
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
            None => request,
        };
        let request = request.body(Full::from(body)).context("this cannot be asked");
        let answer = request.and_then(|request| self.http.exchange(request));
        answer.map_err(|error| Trouble::Other(why(&error)))
    }

    /// The URL of a path, its segments percent-encoded.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// The answer if it is a success, else what the server says is wrong.
    fn granted(&self, answer: HttpAnswer) -> Result<HttpAnswer, Trouble> {
        let status = answer.status;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Trouble::Key { given: self.key.is_some() });
        }
        if status.is_success() {
            return Ok(answer);
        }
        let said: Said = read(&answer).unwrap_or_default();
        let said = said.error.as_deref().map(clean);
        Err(Trouble::Other(match said {
            Some(said) => format!("{said} ({})", status.as_u16()),
            None if status == StatusCode::NOT_FOUND => "no concertina there (404)".to_owned(),
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

/// The settings in force and others, simulated with the requests of the last day.
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
    /// The best of the others, and its line of the settings.
    pub(crate) fn best(&self) -> Option<(&Compared, &str)> {
        let best = self.cases.get(self.best?)?;
        Some((best, best.setting.as_deref()?))
    }
}

/// The body of a failed answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    error: Option<String>,
}

fn read<T: DeserializeOwned>(answer: &HttpAnswer) -> Result<T, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Trouble::Other(clean(&format!("this is no concertina: {error}"))))
}

/// The cause alone: what was asked of whom stands on the screen already.
fn why(error: &anyhow::Error) -> String {
    // As in `Connection refused (os error 111)`: the number helps nobody here.
    let words = error.root_cause().to_string();
    clean(words.split(" (os error").next().unwrap_or_default())
}

/// Asks every `interval` for as long as somebody listens, and sends wishes on their way.
pub(crate) fn follow(
    client: ServerClient,
    interval: Duration,
) -> (SyncSender<ModeChange>, Receiver<ServerReport>) {
    let (wishes, wished) = mpsc::sync_channel(WISHES_MAX);
    let (reports, reported) = mpsc::sync_channel(REPORTS_MAX);
    let mut follower = Follower { client, reports, sampled_ms: None };
    thread::spawn(move || follower.run(&wished, interval));
    (wishes, reported)
}

/// Nobody listens any more.
struct Gone;

struct Follower {
    client: ServerClient,
    reports: SyncSender<ServerReport>,
    /// When the last sample was taken.
    sampled_ms: Option<f64>,
}

impl Follower {
    fn run(&mut self, wished: &Receiver<ModeChange>, interval: Duration) {
        while self.poll().is_ok() {
            let went_on = match wished.recv_timeout(interval) {
                Ok(wish) => self.grant(wish),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => Err(Gone),
            };
            if went_on.is_err() {
                return;
            }
        }
    }

    fn poll(&mut self) -> Result<(), Gone> {
        let snapshot = match self.client.snapshot() {
            Ok(snapshot) => snapshot,
            Err(trouble) => return self.report(ServerReport::Trouble(trouble)),
        };
        let at = snapshot.sample_or_present().at_ms.or_zero();
        let last = self.sampled_ms.replace(at);
        // Also after a restart, when the server's time begins anew.
        if last.is_none_or(|last| at < last || at - last > GAP_MS) {
            // The snapshot alone will do where the past cannot be had.
            if let Ok(past) = self.client.history() {
                self.report(ServerReport::Past(past))?;
            }
        }
        self.report(ServerReport::Snapshot(Box::new(snapshot)))
    }

    fn grant(&mut self, wish: ModeChange) -> Result<(), Gone> {
        let outcome = self.client.set_mode(&wish);
        self.report(match outcome {
            Ok(()) => ServerReport::Granted(wish),
            Err(trouble) => ServerReport::Refused(wish, trouble),
        })
    }

    fn report(&self, report: ServerReport) -> Result<(), Gone> {
        self.reports.send(report).map_err(|_| Gone)
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

    /// A server that gives `answers` in turn, one a connection, and gives back what it was asked.
    fn server(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let answer = |answer: String| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4096];
                let mut asked = String::new();
                while !asked.contains("\r\n\r\n") || asked.contains("POST") && !asked.ends_with('}')
                {
                    let got = stream.read(&mut bytes).unwrap();
                    asked.push_str(&String::from_utf8_lossy(bytes.get(..got).unwrap()));
                }
                stream.write_all(answer.as_bytes()).unwrap();
                asked
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
    fn urls_are_checked_and_paths_encoded() {
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
    fn a_wish_is_posted_with_the_key() {
        let (url, serving) = server(vec![http("200 OK", "{}")]);
        let client = client(&url, Some("secret")).unwrap();
        let wish = ModeChange { adapter: id("pci-0000:01:00.0"), mode: RequestedMode::Off };
        client.set_mode(&wish).unwrap();
        let asked = serving.join().unwrap().concat();
        assert!(asked.starts_with("POST /api/adapters/pci-0000:01:00.0 HTTP/1.1"), "{asked}");
        assert!(asked.to_lowercase().contains("authorization: bearer secret"), "{asked}");
        assert!(asked.ends_with(r#"{"mode":"off"}"#), "{asked}");
    }

    #[test]
    fn the_servers_words_are_what_is_wrong() {
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
        assert_eq!(words.get(1).unwrap(), "no concertina there (404)");
        assert!(words.get(2).unwrap().starts_with("this is no concertina"), "{words:?}");
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
