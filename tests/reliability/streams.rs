//! Streams of partial answers while workers fail, are killed, and are turned off.

use crate::faulty::SHORT_TIMEOUTS;
use rustix::process::Signal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::events::Events;
use testkit::models::add_count;
use testkit::process::{signal, workers_of};
use testkit::{Folder, Server, Setup, report};
use wire::Injected;

const STREAM: &str = "/v2/models/count/generate_stream";
/// Numbers of a stream: several slices with `SLOW`.
const NUMBERS: i64 = 40;
/// The time of a step.
const SLOW: &str = "start_timeout = '2s'\n[test.slow.cpu]\nbatch = '3ms'\n";
/// Streams at a time: as many as the model runs.
const CLIENTS: usize = 4;
/// Servers at a time.
const AT_ONCE: usize = 4;
/// Steps of a worker: it loads the model in some, and the rest are partial answers.
const STEPS: u64 = 24;

/// The results of streams.
#[derive(Debug, Default)]
pub struct Ends {
    pub complete: AtomicUsize,
    /// Ended with one error event after numbers in order, or with the status of an error.
    pub failed: AtomicUsize,
    /// Ended in any other way; the received events.
    pub wrong: Mutex<Vec<String>>,
}

impl Ends {
    pub fn all(&self) -> usize {
        let wrong = self.wrong.lock().expect("no panic").len();
        self.complete.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed) + wrong
    }

    fn note(&self, end: Result<bool, String>) {
        match end {
            Ok(true) => _ = self.complete.fetch_add(1, Ordering::Relaxed),
            Ok(false) => _ = self.failed.fetch_add(1, Ordering::Relaxed),
            Err(what) => self.wrong.lock().expect("no panic").push(what),
        }
    }

    /// Runs one stream.
    fn stream(&self, server: &Server, start: i64) {
        let body = format!("{{\"count\": {NUMBERS}, \"start\": {start}}}");
        self.note(match Events::open(server, STREAM, &body) {
            Err(answer) if answer.status >= 500 => Ok(false),
            Err(answer) => Err(format!("{}: {}", answer.status, answer.text())),
            Ok(events) => events.count(start, NUMBERS),
        });
    }
}

fn server(faults: &str) -> (Server, Folder) {
    let models = Folder::new();
    add_count(&models, "count", CLIENTS);
    let config = format!("{SHORT_TIMEOUTS}{SLOW}{faults}");
    let server = Setup::cpu().models(models.path()).config(&config).start();
    server.wait_until_ready();
    (server, models)
}

/// Runs the streams of all clients, `each` per client, one after the other.
fn streams(server: &Server, ends: &Ends, each: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                (0..each).for_each(|at| ends.stream(server, (client * 1000 + at) as i64));
            });
        }
    });
}

/// Runs streams with this fault at every step of the first `workers` workers, or of all.
pub fn at_every_step(fault: Injected, workers: Option<u64>) -> Ends {
    let (ends, next) = (Ends::default(), AtomicUsize::new(1));
    let workers = workers.map(|count| format!("workers = {count}\n")).unwrap_or_default();
    let lane = || {
        loop {
            let step = next.fetch_add(1, Ordering::Relaxed) as u64;
            if step > STEPS {
                return;
            }
            let name = fault.as_str();
            let fault = format!("[[test.faults]]\nfault = '{name}'\nat = {step}\n{workers}");
            let (mut server, _models) = server(&fault);
            streams(&server, &ends, 2);
            server.terminate();
            server.wait();
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| _ = scope.spawn(lane)));
    report(&format!("{}, {workers:?}: {ends:?}", fault.as_str()));
    ends
}

/// Runs streams while `what` is done to the server again and again.
pub fn under(what: impl Fn(&Server, usize) + Sync) -> Ends {
    let (server, _models) = server("");
    let (ends, over) = (Ends::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0.. {
                // Not a multiple of a step, so that it happens at all of them.
                std::thread::sleep(Duration::from_millis(401 + 37 * (at as u64 % 7)));
                if over.load(Ordering::Relaxed) {
                    return;
                }
                what(&server, at);
            }
        });
        streams(&server, &ends, 25);
        over.store(true, Ordering::Relaxed);
    });
    ends
}

/// Ends all workers.
pub fn kill(server: &Server, _at: usize) {
    workers_of(server.pid()).into_iter().for_each(|worker| signal(worker, Signal::KILL));
}

/// Turns the adapter off, and on again soon.
pub fn turn_off(server: &Server, _at: usize) {
    server.set_mode("cpu", "off");
    std::thread::sleep(Duration::from_millis(50));
    server.set_mode("cpu", "auto");
}
