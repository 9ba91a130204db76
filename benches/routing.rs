//! Prints measurements of unequal and equal adapters together: routing, chunks, growth.
//!
//! `VK_ICD_FILENAMES=$(tests/software_adapters.sh) cargo bench --bench routing` runs all parts, or
//! only those after `--`: unequal, chunks, digits, growth. The adapters are two lavapipes; some
//! parts slow them by sleeping, so that they do not compete for the processor. Sends bounded
//! traffic to 127.0.0.1 only.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a bench is about clocks and environment")]

#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/client.rs"]
mod client;
#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/server.rs"]
mod server;
#[path = "common/traffic.rs"]
mod traffic;

use client::{Client, Request, binary_request, median, percentile};
use server::Server;
use std::path::Path;
use std::time::{Duration, Instant};
use traffic::{Balance, Balancer, at_moments, poisson, saturate};

const FIRST: &str = "vulkan-10005-0000-0";
const SECOND: &str = "vulkan-10005-0000-1";
const OTHERS: [&str; 2] = ["vulkan-1ae0-c0de-0", "cpu"];
const ROUNDS: usize = 5;
const ECHO: &str = "/v2/models/identity/infer";
const DIGITS: &str = "/v2/models/digits/infer";

const IDENTITY: &str = r#"
kind = "identity"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [16]
[[outputs]]
name = "x"
datatype = "FP32"
shape = [16]
[batch]
max_rows = 8
"#;

fn main() {
    // `cargo test` runs benches once without this flag: there is nothing to assert here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    if std::env::var("VK_ICD_FILENAMES").is_err() {
        return println!("skipped: VK_ICD_FILENAMES names no drivers");
    }
    let selected = |part: &str| {
        let mut parts = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|arg| arg == part)
    };
    let identity = server::repository("identity", IDENTITY);
    type Part = (&'static str, fn(&Path));
    let parts: [Part; 4] = [
        ("unequal", unequal),
        ("chunks", chunks),
        ("digits", |_| real_chunks()),
        ("growth", growth),
    ];
    parts.iter().filter(|(name, _)| selected(name)).for_each(|(_, run)| run(&identity));
    std::fs::remove_dir_all(identity).unwrap();
}

/// A server with only these adapters, each slowed to this number of milliseconds per row unless it
/// is 0, and these settings of `[adapters]`.
fn slowed(models: Option<&Path>, adapters: &[(&str, u64)], settings: &str) -> Server {
    let excluded = [FIRST, SECOND].into_iter().chain(OTHERS);
    let excluded = excluded.filter(|id| adapters.iter().all(|(used, _)| used != id));
    let excluded: Vec<_> = excluded.collect();
    let slow = |(id, row): &(&str, u64)| format!("[test.slow.\"{id}\"]\nrow = \"{row}ms\"\n");
    let slow: String = adapters.iter().filter(|(_, row)| *row > 0).map(slow).collect();
    let lines = format!("[adapters]\nexclude = {excluded:?}\n{settings}\n{slow}");
    let models = models.map(|folder| format!("--models={}", folder.display()));
    let mut args = vec!["--software-adapters=allow"];
    args.extend(models.as_deref());
    // A target that eight clients with four rows each miss on one adapter.
    Server::start_with(&args, &format!("latency_target = \"30ms\"\n{lines}"), true)
}

fn always_on(models: Option<&Path>, adapters: &[(&str, u64)]) -> Server {
    let server = slowed(models, adapters, &format!("min = {}", adapters.len()));
    server.wait_for_idle(adapters.len());
    server
}

/// Measures two adapters with a ratio of speeds of 4 : 1.
fn unequal(models: &Path) {
    println!("two adapters, 5 and 20 ms a row");
    let fast = always_on(Some(models), &[(FIRST, 5)]);
    let slow = always_on(Some(models), &[(SECOND, 20)]);
    let both = always_on(Some(models), &[(FIRST, 5), (SECOND, 20)]);
    let apart = [fast.address, slow.address];
    let single = |server: &Server| Balancer::new(&[server.address], Balance::RoundRobin);
    let setups = [
        ("the fast one alone", single(&fast)),
        ("the slow one alone", single(&slow)),
        ("concertina, both", single(&both)),
        ("round-robin, both", Balancer::new(&apart, Balance::RoundRobin)),
        ("least connections, both", Balancer::new(&apart, Balance::LeastConnections)),
    ];
    let request = row(1);
    let rate = |balancer: &Balancer| {
        let mut rates: Vec<_> = (0..ROUNDS)
            .map(|_| saturate(balancer, ECHO, &request, 32, Duration::from_secs(2)))
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    };
    let rates: Vec<f64> = setups.iter().map(|(_, balancer)| rate(balancer)).collect();
    let sum = rates[0] + rates[1];
    // A tenth of the capacity of the fast adapter; every setup gets the same arrival times.
    let moments = poisson(150, 20.0, 7);
    let mut latencies = setups.each_ref().map(|_| Vec::new());
    for _ in 0..3 {
        for ((_, balancer), latencies) in setups.iter().zip(&mut latencies) {
            latencies.extend(at_moments(balancer, ECHO, &request, &moments));
        }
    }
    for (((name, _), rate), mut latencies) in setups.iter().zip(&rates).zip(latencies) {
        let (p50, p99) = (percentile(&mut latencies, 50), percentile(&mut latencies, 99));
        println!(
            "  {name:<24} {rate:>4.0} rows/s, {:>3.0} % of the sum; at 20 requests/s p50 {p50:.1?} \
             p99 {p99:.1?}",
            100.0 * rate / sum
        );
    }
}

/// Measures one request of 256 rows, on one and on two adapters of 2 ms per row.
fn chunks(models: &Path) {
    let one = always_on(Some(models), &[(FIRST, 2)]);
    let two = always_on(Some(models), &[(FIRST, 2), (SECOND, 2)]);
    compare("256 rows at 2 ms a row", &one, &two, ECHO, &row(256));
}

/// The same with real computation: `digits` on lavapipes of one thread each.
fn real_chunks() {
    let one = always_on(None, &[(FIRST, 0)]);
    let two = always_on(None, &[(FIRST, 0), (SECOND, 0)]);
    let pixels = vec![7u8; 256 * 28 * 28];
    let request = binary_request("image", "UINT8", &[256, 28, 28], &pixels);
    compare("256 rows of digits", &one, &two, DIGITS, &request);
}

/// Compares medians of enough rounds that noise from the two threads of the test machine cancels
/// out.
fn compare(what: &str, one: &Server, two: &Server, path: &str, request: &Request) {
    let mut clients = [Client::connect(one.address), Client::connect(two.address)];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..3 * ROUNDS {
        for (client, times) in clients.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            client.post(path, request);
            times.push(begin.elapsed());
        }
    }
    let [one, two] = times.map(|mut times| median(&mut times));
    let gain = one.as_secs_f64() / two.as_secs_f64();
    println!("{what}: one adapter {one:.1?}, two {two:.1?}, {gain:.2} x");
}

/// Measures the time from a load step to the first answer of a second adapter, and the cost of
/// turning it off.
fn growth(models: &Path) {
    let server = slowed(Some(models), &[(FIRST, 2), (SECOND, 2)], "");
    server.wait_for_listing();
    let mut overheads = Vec::new();
    for round in 0..ROUNDS {
        turn_off(&server);
        settle(&server);
        let (second, second_at, slowest_before) = step(&server);
        let cold = cold_start_of(&server, &second);
        println!(
            "load step {round}: second adapter answers after {second_at:.0?}, its cold start was \
             {cold:.0?}; the slowest answer before that took {slowest_before:.0?}",
        );
        overheads.push(second_at.saturating_sub(cold));
    }
    println!("over the cold start             median {:.0?}", median(&mut overheads));
    shrink(&server);
}

/// Runs a load for which one adapter suffices until its start is over: an adapter that has just
/// been turned on is expected to serve the requests that wait, so that no other one is started.
fn settle(server: &Server) {
    let mut client = Client::connect(server.address);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        client.post(ECHO, &row(1));
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// Runs eight clients at once, which is more than one adapter serves within the target. Returns the
/// adapter that was started, the time of its first answer, and the slowest answer before that.
fn step(server: &Server) -> (String, Duration, Duration) {
    let begin = Instant::now();
    let lasting = Duration::from_secs(3);
    let run = || {
        let mut client = Client::connect(server.address);
        let mut answers = Vec::new();
        while begin.elapsed() < lasting {
            let sent = Instant::now();
            client.post(ECHO, &row(4));
            answers.push((begin.elapsed(), client.adapter.clone(), sent.elapsed()));
        }
        answers
    };
    let mut answers: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    answers.sort();
    let first = answers[0].1.clone();
    let second = answers.iter().position(|(_, adapter, _)| *adapter != first);
    let second = second.expect("the load makes it grow");
    let slowest = answers[..second].iter().map(|(_, _, took)| *took).max().unwrap_or_default();
    let (at, adapter, _) = answers.swap_remove(second);
    (adapter, at, slowest)
}

/// The time of the last start of this adapter.
fn cold_start_of(server: &Server, id: &str) -> Duration {
    let adapters = server.adapters();
    let adapter = adapters.iter().find(|adapter| adapter["id"] == id).expect("it is listed");
    Duration::from_millis(adapter["cold_start_ms"].as_u64().expect("it was started"))
}

/// Runs a steady small load while the second adapter is turned off: no request fails or takes
/// longer.
fn shrink(server: &Server) {
    step(server);
    let mut client = Client::connect(server.address);
    let mut latencies = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        let sent = Instant::now();
        client.post(ECHO, &row(1));
        latencies.push(sent.elapsed());
        std::thread::sleep(Duration::from_millis(15));
    }
    let on = count_on(server);
    let slowest = latencies.iter().max().copied().unwrap_or_default();
    println!(
        "shrink: {} requests while {on} of 2 stayed on, none failed; p50 {:.1?}, slowest {slowest:.1?}",
        latencies.len(),
        median(&mut latencies),
    );
}

fn count_on(server: &Server) -> usize {
    let on = |a: &&serde_json::Value| {
        !["off", "unused", "quarantined"].contains(&a["state"].as_str().unwrap_or_default())
    };
    server.adapters().iter().filter(on).count()
}

/// Turns all adapters off by hand, and returns them to mode `auto`.
fn turn_off(server: &Server) {
    let mut client = Client::connect(server.address);
    for mode in ["off", "auto"] {
        for id in [FIRST, SECOND] {
            let body = format!("{{\"mode\":\"{mode}\"}}").into_bytes();
            client.post(&format!("/api/adapters/{id}"), &Request::json(body));
        }
        let begin = Instant::now();
        while count_on(server) > 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "the adapters should be off");
        }
    }
}

fn row(rows: usize) -> Request {
    binary_request("x", "FP32", &[rows, 16], &vec![0u8; rows * 16 * 4])
}
