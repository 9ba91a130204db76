//! More requests than can be served: the answers in time, and their distribution among clients.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::http::{Connection, request};
use testkit::models::add_digits;
use testkit::{Folder, Server, Setup, run};

const INFER: &str = "/v2/models/digits/infer";
/// The time that a row takes on the adapter in addition to its computation, so that the adapter is
/// overloaded and not the machine.
const ROW: &str = "5ms";
/// The timeout of every request.
pub const DEADLINE: Duration = Duration::from_millis(500);
/// More connections than requests wait at a time, so that requests are sent when they are due.
const CONNECTIONS: usize = 256;
/// Clients that send requests without pause, to measure the capacity.
const SATURATING: usize = 16;

/// The results of requests that were sent at a steady rate.
#[derive(Debug, Default)]
pub struct Offered {
    pub lasting: Duration,
    pub sent: usize,
    /// Answered within their deadline.
    pub good: usize,
    /// Answered, but late.
    pub late: usize,
    /// Rejected at once because too much waits (429).
    pub busy: usize,
    /// Answered that their timeout has passed (504).
    pub timed_out: usize,
    /// The first few other results.
    pub other: Vec<String>,
    /// The times of the answers, sorted.
    pub took: Vec<Duration>,
}

impl Offered {
    /// Answers in time per second.
    pub fn goodput(&self) -> f64 {
        self.good as f64 / self.lasting.as_secs_f64()
    }

    /// The time that this percentage of the answers did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.took.get(self.took.len() * percent / 100).copied().unwrap_or_default()
    }

    /// The same as columns of a table, for [`Offered::COLUMNS`].
    pub fn columns(&self) -> String {
        format!(
            "{} | {} | {:.0} | {} | {} | {} | {:.0?} | {:.0?}",
            self.sent,
            self.good,
            self.goodput(),
            self.late,
            self.busy,
            self.timed_out,
            self.percentile(50),
            self.percentile(99)
        )
    }

    pub const COLUMNS: &str = "sent | in time | per second | late | 429 | 504 | p50 | p99";

    fn count(&mut self, took: Duration, answer: std::io::Result<u16>) {
        self.sent += 1;
        match answer {
            Ok(200) => {
                self.took.push(took);
                if took <= DEADLINE { self.good += 1 } else { self.late += 1 }
            }
            Ok(429) => self.busy += 1,
            Ok(504) => self.timed_out += 1,
            other => self.other.push(format!("{other:?}")),
        }
    }
}

/// A server with one adapter of a known speed, and two clients with keys.
pub struct Crowd {
    pub server: Server,
    pub keys: [String; 2],
    _folder: Folder,
}

impl Crowd {
    pub fn new() -> Crowd {
        let folder = Folder::new();
        let models = folder.make_dir("models");
        add_digits(&folder, "models/digits");
        let made = ["much", "little"].map(key);
        let text = made.iter().map(|(_, entry)| entry.as_str()).collect::<Vec<_>>().join("\n");
        let file = folder.write("keys.toml", text);
        let setup = Setup::cpu().models(&models).args(&["--keys", file.to_str().expect("a path")]);
        let server = setup.config(&format!("[test.slow.cpu]\nrow = '{ROW}'")).start();
        server.wait_until_ready();
        Crowd { server, keys: made.map(|(key, _)| key), _folder: folder }
    }

    fn request(&self, key: &str, timeout: Option<Duration>) -> Vec<u8> {
        let image = testkit::images::seven();
        let mut body: serde_json::Value =
            serde_json::from_str(&testkit::images::as_uint8(&image)).expect("JSON");
        if let Some(timeout) = timeout {
            body["parameters"]["timeout"] = (timeout.as_micros() as u64).into();
        }
        let headers = [("Content-Type", "application/json"), ("X-API-Key", key)];
        request("POST", INFER, &headers, body.to_string().as_bytes())
    }

    /// Answers per second to clients that send requests without pause for this time.
    pub fn capacity(&self, lasting: Duration) -> f64 {
        let request = self.request(&self.keys[0], None);
        let begin = Instant::now();
        let client = || {
            let mut connection = self.server.connect();
            let mut answers = 0;
            while begin.elapsed() < lasting {
                let answer = connection.exchange(&request).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
                answers += 1;
            }
            answers
        };
        let answers: u32 = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..SATURATING).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join().expect("a client")).sum()
        });
        f64::from(answers) / begin.elapsed().as_secs_f64()
    }

    /// Sends requests at this rate, whether earlier ones are answered or not.
    pub fn offer(&self, per_second: f64, lasting: Duration) -> Offered {
        let request = self.request(&self.keys[0], Some(DEADLINE));
        let (send, receive) = mpsc::channel();
        let receive = Arc::new(Mutex::new(receive));
        let parts: Vec<Offered> = std::thread::scope(|scope| {
            let client = |_| scope.spawn(|| self.serve_moments(&request, &receive));
            let clients: Vec<_> = (0..CONNECTIONS).map(client).collect();
            let begin = Instant::now();
            for n in 0..(per_second * lasting.as_secs_f64()) as u32 {
                let due = begin + Duration::from_secs_f64(f64::from(n) / per_second);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                send.send(due).expect("the clients are there");
            }
            drop(send);
            clients.into_iter().map(|client| client.join().expect("a client")).collect()
        });
        sum(parts, lasting)
    }

    fn serve_moments(&self, request: &[u8], moments: &Mutex<Receiver<Instant>>) -> Offered {
        let mut offered = Offered::default();
        let mut connection: Option<Connection> = None;
        loop {
            let due = moments.lock().expect("one queue").recv();
            let Ok(due) = due else { return offered };
            let open = connection.take().map_or_else(|| Connection::open(self.server.address), Ok);
            let answer = open.and_then(|mut open| {
                let answer = open.exchange(request)?;
                connection = Some(open);
                Ok(answer.status)
            });
            offered.count(due.elapsed(), answer);
        }
    }

    /// The times of the answers to a client that sends one request after the other, sorted, and the
    /// number of rejections.
    pub fn one_by_one(&self, lasting: Duration) -> (Vec<Duration>, usize) {
        let request = self.request(&self.keys[1], Some(DEADLINE));
        let (mut took, mut refused) = (Vec::new(), 0);
        let mut connection = self.server.connect();
        let begin = Instant::now();
        while begin.elapsed() < lasting {
            let sent = Instant::now();
            match connection.exchange(&request).expect("an answer").status {
                200 => took.push(sent.elapsed()),
                _ => refused += 1,
            }
        }
        took.sort();
        (took, refused)
    }
}

fn sum(parts: Vec<Offered>, lasting: Duration) -> Offered {
    let mut all = Offered { lasting, ..Offered::default() };
    for part in parts {
        all.sent += part.sent;
        all.good += part.good;
        all.late += part.late;
        all.busy += part.busy;
        all.timed_out += part.timed_out;
        all.other.extend(part.other);
        all.took.extend(part.took);
    }
    all.other.truncate(5);
    all.took.sort();
    all
}

/// A new key with the scope `infer`, and its entry in the file.
fn key(name: &str) -> (String, String) {
    let made = run(&["key", "--name", name, "--scope", "infer"], &[]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
    (text(made.stderr), text(made.stdout))
}
