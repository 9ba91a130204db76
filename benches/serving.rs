//! Prints the numbers of the README, measured side by side in one run, as medians.
//!
//! `cargo bench --bench serving`; two software adapters are compared where VK_ICD_FILENAMES names
//! two (see tests/software_adapters.sh). Sends bounded traffic to 127.0.0.1 only.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a bench is about clocks and environment")]

#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/client.rs"]
mod client;
#[path = "common/echo.rs"]
mod echo;
#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/server.rs"]
mod server;

use client::{Client, binary_request, median, percentile};
use server::Server;
use std::time::{Duration, Instant};

/// FP32 elements of one row: 4 KB.
const ELEMENTS: usize = 1024;
const ROUNDS: usize = 5;
const REQUESTS: usize = 2000;

const IDENTITY: &str = r#"
kind = "identity"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [1024]
[[outputs]]
name = "x"
datatype = "FP32"
shape = [1024]
[batch]
max_rows = 32
"#;

fn main() {
    // `cargo test` runs benches once without this flag: there is nothing to assert here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let identity = server::repository("identity", IDENTITY);
    start_to_first_answer();
    latency(&identity);
    throughput(&identity);
    two_adapters();
    std::fs::remove_dir_all(identity).unwrap();
}

/// Measures the time from `serve` to the first answer on the CPU, and the idle memory of the
/// server.
fn start_to_first_answer() {
    let mut times = Vec::new();
    let mut resident = 0;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let server = Server::start(&["--cpu=always", "--adapters-max=1"], false);
        let mut client = Client::connect(server.address);
        client.post("/v2/models/digits/infer", &digit_request());
        times.push(begin.elapsed());
        drop(client);
        resident = server.resident_kb();
    }
    println!("serve to first answer, cpu      median {:?} of {ROUNDS}", median(&mut times));
    println!("serving process at rest         {:.1} MB resident", resident as f64 / 1024.0);
}

/// Concurrency 1: `identity` through the whole path, compared with a bare warp echo of the same
/// bytes.
fn latency(repository: &std::path::Path) {
    let server = Server::start(
        &["--models", repository.to_str().unwrap(), "--cpu=always", "--adapters-max=1"],
        false,
    );
    let echo = echo::start();
    let request = binary_request("x", "FP32", &[1, ELEMENTS], &vec![0u8; ELEMENTS * 4]);
    let mut through = Client::connect(server.address);
    let mut bare = Client::connect(echo);
    through.post("/v2/models/identity/infer", &request);
    let (mut p50, mut p99, mut echo50) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut times = timed(&mut bare, "/echo", &request);
        echo50.push(percentile(&mut times, 50));
        let mut times = timed(&mut through, "/v2/models/identity/infer", &request);
        p50.push(percentile(&mut times, 50));
        p99.push(percentile(&mut times, 99));
    }
    let (p50, p99, echo50) = (median(&mut p50), median(&mut p99), median(&mut echo50));
    println!("bare warp echo, 4 KB            p50 {echo50:?}");
    println!("identity, 4 KB, concurrency 1   p50 {p50:?}  p99 {p99:?}");
    println!("added over the echo             p50 {:?}", p50.saturating_sub(echo50));
}

fn timed(client: &mut Client, path: &str, request: &client::Request) -> Vec<Duration> {
    let one = |_| {
        let begin = Instant::now();
        client.post(path, request);
        begin.elapsed()
    };
    (0..REQUESTS).map(one).collect()
}

/// Concurrency 32: requests per second, and the processor time of each part per request.
fn throughput(repository: &std::path::Path) {
    let server = Server::start(
        &["--models", repository.to_str().unwrap(), "--cpu=always", "--adapters-max=1"],
        false,
    );
    let request = binary_request("x", "FP32", &[1, ELEMENTS], &vec![0u8; ELEMENTS * 4]);
    Client::connect(server.address).post("/v2/models/identity/infer", &request);
    let (serve, worker) = (server.processor_time(), server.worker_time());
    let begin = Instant::now();
    let (threads, each) = (32, 1000);
    let latencies = load(server.address, "/v2/models/identity/infer", &request, threads, each);
    let took = begin.elapsed();
    let count = (threads * each) as f64;
    let mut latencies = latencies;
    let per = |spent: Duration| spent.as_secs_f64() * 1e6 / count;
    println!(
        "identity, 4 KB, concurrency 32  {:.0} requests/s  p50 {:?}  p99 {:?}",
        count / took.as_secs_f64(),
        percentile(&mut latencies, 50),
        percentile(&mut latencies, 99),
    );
    println!(
        "  processor time per request    serve {:.0} us, worker {:.0} us, in batches of {:.1} rows",
        per(server.processor_time() - serve),
        per(server.worker_time() - worker),
        server.rows_per_batch(),
    );
}

fn load(
    address: std::net::SocketAddr,
    path: &str,
    request: &client::Request,
    threads: usize,
    each: usize,
) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let client = || {
            let mut client = Client::connect(address);
            let one = |_| {
                let begin = Instant::now();
                client.post(path, request);
                begin.elapsed()
            };
            (0..each).map(one).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..threads).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Measures rows per second of `digits` on one and on two equal software adapters, in turn.
fn two_adapters() {
    if std::env::var("VK_ICD_FILENAMES").is_err() {
        println!("two adapters against one: skipped, VK_ICD_FILENAMES names no drivers");
        return;
    }
    let request = digit_request();
    let servers = [1usize, 2].map(|count| {
        let max = format!("--adapters-max={count}");
        let min = format!("--adapters-min={count}");
        let server = Server::start(
            &["--software-adapters=allow", "--exclude=vulkan-1ae0-c0de-0", &max, &min],
            true,
        );
        server.wait_for_idle(count);
        server
    });
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (server, rates) in servers.iter().zip(&mut rates) {
            let (threads, each) = (32, 40);
            let begin = Instant::now();
            load(server.address, "/v2/models/digits/infer", &request, threads, each);
            rates.push((threads * each) as f64 / begin.elapsed().as_secs_f64());
        }
    }
    let [one, two] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("digits on 1 adapter             {one:.0} rows/s");
    println!("digits on 2 adapters            {two:.0} rows/s, {:.2} x", two / one);
}

fn digit_request() -> client::Request {
    client::Request::json(
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/seven.json")).unwrap(),
    )
}
