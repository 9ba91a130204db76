use crate::faults::working;
use crate::machine::{DriverWatch, Machine, START, adapters};
use crate::numbers::expected;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::http::{Connection, request};
use testkit::images::{difference, output, probabilities, variants};
use testkit::process::{Signal, is_worker, signal};
use testkit::{Folder, Response, Server, models, wait_for};

const REQUESTS: usize = 1000;
const CLIENTS: usize = 8;
const ECHO_ROWS_MAX: usize = 8;

/// Slow enough to leave time for faults, without competition for the processor.
const SETTINGS: &str = "latency_target = '100ms'\n[workers]\nheartbeat_timeout = '2s'\nbackoff = '500ms'\n\
    backoff_max = '1s'\n\
    [test.slow.vulkan-10005-0000-0]\nrow = '6ms'\n\
    [test.slow.vulkan-10005-0000-1]\nrow = '12ms'\n\
    [test.slow.vulkan-1ae0-c0de-0]\nrow = '18ms'";

/// A request and its expected answer. No two requests to `echo` have the same data.
struct MixedRequest<'a> {
    number: usize,
    images: &'a [Vec<u8>],
    expected: &'a [Vec<f32>],
}

impl MixedRequest<'_> {
    /// The number of rows for `digits`: less than its largest batch, or more.
    fn digit_rows(&self) -> Option<usize> {
        [Some(1), None, Some(3), None, Some(1), None, Some(12), None][self.number % 8]
    }

    fn image(&self, row: usize) -> usize {
        (self.number + row) % self.images.len()
    }

    /// Numbers that only this request has, for less rows than the largest batch, or more.
    fn echo_data(&self) -> Vec<u64> {
        let rows = [1, 5, 2 * ECHO_ROWS_MAX as u64 + 3][self.number / 2 % 3];
        (0..rows).map(|row| self.number as u64 * 1000 + row).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let (model, input) = match self.digit_rows() {
            Some(rows) => ("digits", self.digits_input(rows)),
            None => ("echo", self.echo_input()),
        };
        let parameters = json!({"priority": self.number % 3, "timeout": 120_000_000});
        let body = json!({
            "id": self.number.to_string(), "parameters": parameters, "inputs": [input],
        });
        request("POST", &format!("/v2/models/{model}/infer"), &[], body.to_string().as_bytes())
    }

    fn digits_input(&self, rows: usize) -> Value {
        let data: Vec<u8> =
            (0..rows).flat_map(|row| self.images[self.image(row)].clone()).collect();
        json!({"name": "image", "datatype": "UINT8", "shape": [rows, 28, 28], "data": data})
    }

    fn echo_input(&self) -> Value {
        let data = self.echo_data();
        json!({"name": "x", "datatype": "UINT64", "shape": [data.len(), 1], "data": data})
    }

    fn check(&self, response: &Response) -> Result<(), String> {
        let whole = || format!("request {}: {} {}", self.number, response.status, response.text());
        if response.status != 200 || response.json()["id"] != json!(self.number.to_string()) {
            return Err(whole());
        }
        let right = match self.digit_rows() {
            Some(rows) => self.is_right_for_digits(response, rows),
            None => output(&response.json(), "y")["data"] == json!(self.echo_data()),
        };
        if right { Ok(()) } else { Err(whole()) }
    }

    fn is_right_for_digits(&self, response: &Response, rows: usize) -> bool {
        let expected = (0..rows).flat_map(|row| self.expected[self.image(row)].iter().copied());
        let (found, expected) = (probabilities(response), expected.collect::<Vec<_>>());
        found.len() == expected.len() && difference(&found, &expected) <= 1e-4
    }
}

/// Clients that each take the next request until all are sent.
struct Clients<'a> {
    next: AtomicUsize,
    /// The number of clients that are done.
    done: AtomicUsize,
    images: &'a [Vec<u8>],
    expected: &'a [Vec<f32>],
}

impl Clients<'_> {
    /// Runs one client: each answer must belong to its request, and no bytes may follow the last
    /// one. Returns the number of answers and the errors.
    fn run(&self, server: &Server) -> (usize, Vec<String>) {
        let (mut connection, mut answers, mut wrong) = (server.connect(), 0, Vec::new());
        while let number = self.next.fetch_add(1, Ordering::Relaxed)
            && number < REQUESTS
        {
            let mixed = MixedRequest { number, images: self.images, expected: self.expected };
            match connection.exchange(&mixed.bytes()) {
                Ok(response) => wrong.extend(mixed.check(&response).err()),
                Err(error) => wrong.push(format!("request {number}: {error}")),
            }
            answers += 1;
        }
        wrong.extend(left_over(&mut connection));
        self.done.fetch_add(1, Ordering::Relaxed);
        (answers, wrong)
    }

    fn go_on(&self) -> bool {
        self.done.load(Ordering::Relaxed) < CLIENTS
    }
}

fn left_over(connection: &mut Connection) -> Option<String> {
    connection.has_more().then(|| "bytes followed the last answer".to_owned())
}

/// Injects faults and switches adapters while the clients run; returns the number of each action.
fn disturb(server: &Server, ids: &[String], clients: &Clients) -> BTreeMap<&'static str, usize> {
    let mut done = BTreeMap::new();
    for round in 0.. {
        std::thread::sleep(Duration::from_millis(400));
        if !clients.go_on() {
            break;
        }
        let up = working(server);
        // Never the last adapter: the CPU fallback, which is not slowed, would finish all requests.
        let Some((id, pid)) = up.get(round / 4 % up.len().max(1)).filter(|_| up.len() > 1) else {
            continue;
        };
        let what = match round % 4 {
            0 => kill(*pid, Signal::KILL),
            1 => kill(*pid, Signal::STOP),
            2 => switch(server, id, ["off", "auto"]),
            _ => switch(server, &ids[round / 4 % ids.len()], ["on", "auto"]),
        };
        *done.entry(what).or_default() += 1;
    }
    done
}

fn kill(pid: u32, with: Signal) -> &'static str {
    signal(pid, with);
    if with == Signal::KILL { "killed" } else { "stopped" }
}

fn switch(server: &Server, id: &str, modes: [&'static str; 2]) -> &'static str {
    for mode in modes {
        server.set_mode(id, mode);
        std::thread::sleep(Duration::from_millis(300));
    }
    modes[0]
}

#[test]
fn thousand_mixed_requests_are_answered_while_adapters_fail_and_are_switched() {
    let Some(machine) = Machine::get() else { return };
    let folder = Folder::new();
    models::add_digits(&folder, "digits");
    models::add_echo(&folder, "echo", ECHO_ROWS_MAX, "1ms");
    let images = variants(8);
    let expected = expected(&images);
    let server = machine.serving(&folder).config(SETTINGS).start();
    let ids = adapters(&server);
    let watch = DriverWatch::start(&server);
    ids.iter().for_each(|id| server.set_mode(id, "on"));
    wait_for("all three are up", START, || working(&server).len() == 3);
    ids.iter().for_each(|id| server.set_mode(id, "auto"));

    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let clients = Clients { next, done, images: &images, expected: &expected };
    let (answers, wrong, disturbances) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| clients.run(&server))).collect();
        let disturbances = disturb(&server, &ids, &clients);
        let seen = threads.into_iter().map(|client| client.join().expect("a client"));
        let (answers, wrong): (Vec<_>, Vec<_>) = seen.unzip();
        (answers.iter().sum::<usize>(), wrong.concat(), disturbances)
    });
    eprintln!("{answers} requests; workers and adapters: {disturbances:?}");
    assert_eq!((answers, wrong), (REQUESTS, Vec::new()));
    for what in ["killed", "stopped", "off", "on"] {
        assert!(disturbances.contains_key(what), "nothing was {what}: {disturbances:?}");
    }
    // The server has counted each of them once, too.
    wait_for("all answers are counted", START, || counted(&server, "requests") == REQUESTS as u64);
    assert_eq!(counted(&server, "errors"), 0);
    settles(&server, &ids);
    watch.check();
}

/// The sum of a counter over both models.
fn counted(server: &Server, what: &str) -> u64 {
    let snapshot = server.snapshot();
    let models = snapshot["models"].as_array().expect("models").clone();
    models.iter().map(|model| model[what].as_u64().expect("a count")).sum()
}

/// Checks that every adapter turns off on command and that no worker is left.
fn settles(server: &Server, ids: &[String]) {
    ids.iter().for_each(|id| server.set_mode(id, "off"));
    for id in ids {
        server.wait_for_state(id, &["off", "quarantined"], START);
    }
    let workers = || testkit::process::workers_of(server.pid());
    server.set_mode("cpu", "off");
    wait_for("no worker stays", START, || {
        workers().into_iter().filter(|p| is_worker(*p)).count() == 0
    });
}
