//! Repeated load steps from idle to many clients and back: requests that are lost, and resources
//! that are leaked.

use std::fs;
use std::time::{Duration, Instant};
use testkit::http::{Connection, request};
use testkit::images::{as_uint8, difference, probabilities, variants};
use testkit::process::workers_of;
use testkit::{HANG, Server, wait_for};

const INFER: &str = "/v2/models/digits/infer";
/// One adapter is on for every eight rows, and all turn off as soon as no request waits.
pub const QUICK: &str = "[adapters]\npolicy = 'concurrency'\ntarget_rows = 8\n\
                         scale_down_delay = '50ms'\nscale_to_zero_delay = '50ms'\n";

/// The results of clients in one load step, or the sum of several.
#[derive(Debug, Default)]
pub struct Step {
    pub answers: u64,
    /// The first few errors and wrong answers.
    pub errors: Vec<String>,
    /// The time until the first answer, which includes the start of an adapter.
    pub first: Duration,
    pub slowest: Duration,
}

impl std::ops::AddAssign for Step {
    fn add_assign(&mut self, other: Step) {
        self.answers += other.answers;
        self.errors.extend(other.errors);
        self.errors.truncate(8);
        self.first = self.first.max(other.first);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Requests with their answers.
pub struct KnownAnswers {
    requests: Vec<Vec<u8>>,
    answers: Vec<Vec<f32>>,
}

impl KnownAnswers {
    /// Gets the answers from a server without load.
    pub fn new(server: &Server) -> KnownAnswers {
        let images = variants(64);
        let headers = [("Content-Type", "application/json")];
        let body = |image: &Vec<u8>| request("POST", INFER, &headers, as_uint8(image).as_bytes());
        let requests: Vec<_> = images.iter().map(body).collect();
        let mut connection = server.connect();
        let send =
            |request: &Vec<u8>| probabilities(&connection.exchange(request).expect("answers"));
        let answers = requests.iter().map(send).collect();
        KnownAnswers { requests, answers }
    }

    fn send(&self, connection: &mut Connection, n: usize) -> Result<(), String> {
        let n = n % self.requests.len();
        let answer = connection.exchange(&self.requests[n]).map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.text()));
        }
        let right = difference(&probabilities(&answer), &self.answers[n]) <= 1e-4;
        if right { Ok(()) } else { Err("a wrong answer".to_owned()) }
    }

    /// Connects `clients` clients at once; each sends `each` requests and disconnects.
    pub fn step(&self, server: &Server, clients: usize, each: usize) -> Step {
        let client = |client: usize| {
            let mut step = Step { first: HANG, ..Step::default() };
            let mut connection = server.connect();
            for n in 0..each {
                let begin = Instant::now();
                match self.send(&mut connection, client * each + n) {
                    Ok(()) => step.answers += 1,
                    Err(error) => {
                        step.errors.push(error);
                        connection = server.connect();
                    }
                }
                step.slowest = step.slowest.max(begin.elapsed());
                if n == 0 {
                    step.first = begin.elapsed();
                }
            }
            step
        };
        std::thread::scope(|scope| {
            let client = |n| scope.spawn(move || client(n));
            let clients: Vec<_> = (0..clients).map(client).collect();
            let mut all = Step { first: HANG, ..Step::default() };
            for client in clients {
                let step = client.join().expect("a client");
                let first = all.first.min(step.first);
                all += step;
                all.first = first;
            }
            all
        })
    }
}

/// Waits until every worker is gone.
#[track_caller]
pub fn wait_for_nothing(server: &Server) {
    wait_for("every adapter is off", HANG, || workers_of(server.pid()).is_empty());
}

/// The number of starts of adapters so far.
pub fn starts(server: &Server) -> u64 {
    let adapters = server.snapshot()["adapters"].as_array().cloned().unwrap_or_default();
    adapters.iter().filter_map(|adapter| adapter["starts"].as_u64()).sum()
}

/// The resources of the serving process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    pub resident_kb: u64,
    pub files: u64,
    pub threads: u64,
}

impl Holds {
    pub fn of(server: &Server) -> Holds {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).expect("the kernel reports it")
        };
        let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count();
        Holds { resident_kb: value("VmRSS:"), files: files as u64, threads: value("Threads:") }
    }
}
