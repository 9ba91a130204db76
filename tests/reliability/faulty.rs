//! Servers with faulty workers, and the results of their clients.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use testkit::images::{as_uint8, difference, output, variants};
use testkit::models::add_digits;
use testkit::process::is_worker;
use testkit::{Folder, Response, Server, Setup};
use wire::Injected;

const INFER: &str = "/v2/models/digits/infer";
/// The number of clients of a script.
const CLIENTS: usize = 2;
/// Requests of each client, one after the other.
const REQUESTS: usize = 3;
/// The largest number of steps in which a worker reads the model (2 buckets of 2 datatypes), times
/// it, and runs the requests of the script, regardless of their batches.
const STEPS: u64 = 16;
/// The default number of scripts that run at a time: they wait most of the time.
const AT_ONCE: usize = 4;
/// The time after which a request without an answer counts as lost: longer than the sum of all
/// timeouts of the server.
const LOST: Duration = Duration::from_secs(60);
/// Short timeouts, so that a hanging worker is detected soon.
pub const SHORT_TIMEOUTS: &str = "[workers]\nheartbeat_timeout = '1s'\nrun_timeout = '2s'\nstop_timeout = '500ms'\nbackoff = '50ms'\n\
                        backoff_max = '400ms'\nself_check_interval = '300ms'\n";
/// The start timeout: without a driver, with one, and while kernels are tuned.
const START: &str = "2s";
const START_DRIVEN: &str = "6s";
const START_UNTUNED: &str = "300s";
const UNTUNED: Duration = Duration::from_secs(900);

/// The results of the requests of some scripts.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    pub scripts: u64,
    pub sent: u64,
    pub right: u64,
    /// Answered with an error that gives the reason.
    pub failed: u64,
    /// The first few of these errors.
    pub errors: Vec<String>,
    pub wrong: u64,
    /// Not answered, or not with valid HTTP.
    pub lost: u64,
    /// Scripts after which the server had counted another number of answers than the clients: a
    /// request ran twice, or not at all.
    pub miscounted: u64,
    /// Scripts after which the server did not answer any more.
    pub not_recovered: u64,
    /// The longest time of an answer.
    pub slowest: Duration,
}

impl std::ops::AddAssign for Outcomes {
    fn add_assign(&mut self, other: Outcomes) {
        self.scripts += other.scripts;
        self.sent += other.sent;
        self.right += other.right;
        self.failed += other.failed;
        self.errors.extend(other.errors);
        self.errors.truncate(8);
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.miscounted += other.miscounted;
        self.not_recovered += other.not_recovered;
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl std::fmt::Display for Outcomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} scripts, {} requests: {} right, {} failed, {} wrong, {} lost, {} miscounted, {} not \
             recovered, slowest {:.1?}",
            self.scripts,
            self.sent,
            self.right,
            self.failed,
            self.wrong,
            self.lost,
            self.miscounted,
            self.not_recovered,
            self.slowest
        )
    }
}

/// Adapters with faulty workers.
#[derive(Clone, Debug)]
pub struct Faulty {
    /// Vulkan drivers and their cache; without them only the CPU is used.
    pub drivers: Option<(String, PathBuf)>,
    /// Scripts that run at a time.
    pub at_once: usize,
}

impl Default for Faulty {
    fn default() -> Faulty {
        Faulty { drivers: None, at_once: AT_ONCE }
    }
}

impl Faulty {
    /// Runs the script against workers with a fault at one step: the first `workers` ones, or all
    /// of them.
    pub fn at(&self, fault: Injected, step: u64, workers: Option<u64>) -> Outcomes {
        let recovers = workers.is_some();
        let workers = workers.map(|count| format!("workers = {count}\n")).unwrap_or_default();
        let name = fault.as_str();
        let faults = format!("[[test.faults]]\nfault = '{name}'\nat = {step}\n{workers}");
        self.script(&faults, recovers)
    }

    /// The same with random faults of every kind, except those that cannot be detected.
    pub fn by_chance(&self, seed: u64, chance: f64) -> Outcomes {
        let visible = Injected::ALL.into_iter().filter(|fault| *fault != Injected::WrongAnswer);
        let faults = visible.map(|fault| {
            let name = fault.as_str();
            format!("[[test.faults]]\nfault = '{name}'\nchance = {chance}\nseed = {seed}\n")
        });
        self.script(&faults.collect::<String>(), false)
    }

    /// Runs scripts, `at_once` at a time, each against the adapters of its lane.
    fn run<F: Fn(&Faulty) -> Outcomes + Send>(
        &self,
        scripts: impl Iterator<Item = F> + Send,
    ) -> Outcomes {
        let (scripts, all) = (Mutex::new(scripts), Mutex::new(Outcomes::default()));
        let lane = |adapters: &Faulty| {
            loop {
                let next = scripts.lock().expect("no panic").next();
                let Some(script) = next else { return };
                let outcomes = script(adapters);
                *all.lock().expect("no panic") += outcomes;
            }
        };
        let lanes: Vec<_> = (0..self.at_once).map(|n| self.lane(n)).collect();
        std::thread::scope(|scope| {
            for adapters in &lanes {
                scope.spawn(|| lane(adapters));
            }
        });
        all.into_inner().expect("no panic")
    }

    /// The same adapters with a cache for one of the scripts that run at a time, since a cache has
    /// one writer. The first lane tunes kernels for all.
    fn lane(&self, n: usize) -> Faulty {
        let Some((drivers, cache)) = &self.drivers else { return self.clone() };
        if n == 0 {
            self.tune();
        }
        let own = cache.with_extension(format!("lane{n}"));
        let _ = std::fs::remove_dir_all(&own);
        let copied = Command::new("cp").arg("-r").args([cache, &own]).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy of the cache");
        Faulty { drivers: Some((drivers.clone(), own)), ..self.clone() }
    }

    /// Turns every adapter on once.
    fn tune(&self) {
        let (server, _models) = self.server("", START_UNTUNED);
        let adapters = server.snapshot()["adapters"].as_array().cloned().unwrap_or_default();
        for adapter in adapters.iter().filter(|adapter| adapter["state"] != "unused") {
            let id = adapter["id"].as_str().expect("a name");
            server.set_mode(id, "on");
            server.wait_for_state(id, &["idle"], UNTUNED);
            server.set_mode(id, "off");
        }
        end(server);
    }

    fn start(&self) -> &'static str {
        if self.drivers.is_some() { START_DRIVEN } else { START }
    }

    /// A server of `digits` in batches of two.
    fn server(&self, faults: &str, start: &str) -> (Server, Folder) {
        let models = Folder::new();
        add_digits(&models, "digits");
        let toml = std::fs::read_to_string(models.join("digits/model.toml")).unwrap();
        models.write("digits/model.toml", toml.replace("max_rows = 8", "max_rows = 2"));
        let setup = match &self.drivers {
            Some((drivers, cache)) => Setup::software(drivers, cache),
            None => Setup::cpu(),
        };
        let workers = format!("{SHORT_TIMEOUTS}start_timeout = '{start}'\n");
        let server = setup.models(models.path()).config(&workers).config(faults).start();
        server.wait_until_ready();
        (server, models)
    }

    fn script(&self, faults: &str, recovers: bool) -> Outcomes {
        let (server, _models) = self.server(faults, self.start());
        let mut outcomes = send_all(&server);
        outcomes.scripts = 1;
        let answers = outcomes.sent - outcomes.lost;
        let counted = || server.snapshot()["models"][0]["requests"].as_u64().unwrap_or_default();
        outcomes.miscounted =
            u64::from(!holds_within(Duration::from_secs(5), || counted() == answers));
        if recovers {
            let right = || server.post(INFER, &as_uint8(&variants(1)[0])).status == 200;
            outcomes.not_recovered = u64::from(!holds_within(LOST, right));
        }
        end(server);
        outcomes
    }
}

/// Runs the script with the fault at every step that a worker reaches, one after the other.
pub fn every_step(faulty: &Faulty, fault: Injected, workers: Option<u64>) -> Outcomes {
    faulty.run((1..=STEPS).map(|step| move |adapters: &Faulty| adapters.at(fault, step, workers)))
}

/// Runs the script with random faults, from each of `seeds` seeds.
pub fn every_seed(faulty: &Faulty, seeds: u64, chance: f64) -> Outcomes {
    faulty.run((0..seeds).map(|seed| move |adapters: &Faulty| adapters.by_chance(seed, chance)))
}

/// The right answers, from a server without faults.
fn expected() -> &'static [Vec<f32>] {
    static EXPECTED: OnceLock<Vec<Vec<f32>>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let server = Setup::cpu().start();
        let images = variants(CLIENTS * REQUESTS);
        images.iter().map(|image| probabilities(&server.post(INFER, &as_uint8(image)))).collect()
    })
}

fn probabilities(response: &Response) -> Vec<f32> {
    let answer = response.json();
    let data = output(&answer, "probabilities")["data"].as_array().cloned().unwrap_or_default();
    data.iter().map(|value| value.as_f64().unwrap_or(f64::NAN) as f32).collect()
}

fn send_all(server: &Server) -> Outcomes {
    let images = variants(CLIENTS * REQUESTS);
    std::thread::scope(|scope| {
        let client = |n: usize| {
            let own = n * REQUESTS..(n + 1) * REQUESTS;
            let images = &images;
            scope.spawn(move || {
                let mut outcomes = Outcomes::default();
                own.for_each(|at| outcomes += send(server, &images[at], &expected()[at]));
                outcomes
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let mut all = Outcomes::default();
        clients.into_iter().for_each(|client| all += client.join().expect("a client"));
        all
    })
}

/// Sends one request; returns its result.
fn send(server: &Server, image: &[u8], expected: &[f32]) -> Outcomes {
    let begin = Instant::now();
    let body = as_uint8(image);
    let headers = [("Content-Type", "application/json")];
    let request = testkit::http::request("POST", INFER, &headers, body.as_bytes());
    let answer = server.connect().exchange(&request);
    let slowest = begin.elapsed();
    let mut outcomes = Outcomes { sent: 1, slowest, ..Outcomes::default() };
    match answer {
        Ok(answer) if answer.status == 200 => {
            let given = probabilities(&answer);
            let right = given.len() == expected.len() && difference(&given, expected) <= 1e-4;
            if right { outcomes.right = 1 } else { outcomes.wrong = 1 }
        }
        Ok(answer) if answer.status >= 500 && answer.json()["error"].is_string() => {
            outcomes.failed = 1;
            outcomes.errors = vec![format!("{}: {}", answer.status, answer.error())];
        }
        Ok(answer) => {
            outcomes.lost = 1;
            outcomes.errors = vec![format!("{}: {}", answer.status, answer.text())];
        }
        Err(error) => {
            outcomes.lost = 1;
            outcomes.errors = vec![format!("no answer: {error}")];
        }
    }
    if slowest > LOST {
        outcomes.lost = 1;
    }
    outcomes
}

/// Waits until the condition holds; returns `false` if it does not within the limit.
fn holds_within(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Ends the server and checks that no worker is left.
fn end(mut server: Server) {
    let adapters = server.snapshot()["adapters"].as_array().cloned().unwrap_or_default();
    let pids = adapters.iter().filter_map(|adapter| adapter["pid"].as_u64());
    let pids: Vec<u32> = pids.filter_map(|pid| u32::try_from(pid).ok()).collect();
    server.terminate();
    server.wait();
    let left: Vec<_> = pids.into_iter().filter(|pid| is_worker(*pid)).collect();
    assert!(left.is_empty(), "workers are left behind: {left:?}");
}
