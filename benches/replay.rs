//! Compares the simulator with a real server: a minute of traffic over HTTP to a server with two
//! software adapters that turn on and off, and the same minute, as the server recorded it, in
//! virtual time on the adapters as the server measured them.
//!
//! `VK_ICD_FILENAMES=$(tests/software_adapters.sh) cargo bench --bench replay [-- TRACE.csv ...]`;
//! without a trace it generates one of bursts. With `bridge` the CPU serves beside the adapters,
//! and only the time of the adapters is compared. Workers are slowed by sleeping, so that they do
//! not compete for the processor. Sends bounded traffic to 127.0.0.1 only.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a bench is about clocks and environment")]

#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/client.rs"]
mod client;
#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/server.rs"]
mod server;
#[allow(dead_code, reason = "each bench uses its own part")]
#[path = "common/traffic.rs"]
mod traffic;

use client::{Client, binary_request, percentile};
use config::Adapters;
use server::Server;
use simulate::{Mix, Options, Outcome, Trace, simulate};
use std::path::Path;
use std::time::{Duration, Instant};
use traffic::{Balance, Balancer, at_moments};
use types::random::SplitMix64;

const FIRST: &str = "vulkan-10005-0000-0";
const SECOND: &str = "vulkan-10005-0000-1";
const CPU: &str = "cpu";
/// The factor by which the CPU is slower than the first adapter.
const CPU_SLOWER: f64 = 4.0;
const MINUTE: f64 = 60.0;
const SLO: f64 = 0.5;
/// Share of the minute for which the first adapter would work if it ran all requests alone.
const LOAD: f64 = 0.3;

const IDENTITY: &str = r#"
kind = "identity"
latency_target = "500ms"
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
    let mut files: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let bridge = files.iter().any(|arg| arg == "bridge");
    files.retain(|arg| arg != "bridge");
    if files.is_empty() {
        compare("bursts", &bursts(), bridge);
    }
    for file in files {
        let trace = Trace::open(Path::new(&file)).expect("a trace").busiest(MINUTE);
        compare(&file, &trace.times(), bridge);
    }
}

/// Bursts of some seconds with pauses of up to ten seconds.
fn bursts() -> Vec<f64> {
    let mut noise = SplitMix64::new(5);
    let (mut at, mut times) = (0.0, Vec::new());
    while at < MINUTE {
        let (rate, end) = (5.0 + 25.0 * noise.uniform(), at + 1.0 + 4.0 * noise.uniform());
        while at < end.min(MINUTE) {
            at -= (1.0 - noise.uniform()).ln() / rate;
            times.push(at);
        }
        at += 1.0 + 9.0 * noise.uniform();
    }
    times
}

/// The cost of a real or simulated run.
#[derive(Debug)]
struct Taken {
    device_seconds: f64,
    p50: f64,
    p99: f64,
    activations: u64,
}

fn compare(name: &str, times: &[f64], bridge: bool) {
    let row = LOAD * MINUTE / times.len() as f64;
    println!("{name}: {} requests in a minute, rows of {:.1} ms", times.len(), row * 1e3);
    let (real, trace, mix) = replay(times, row, bridge);
    let policy = Adapters::default().policy();
    let options = Options::new(policy, SLO);
    let run = simulate(&trace, &mix, &options, None).expect("it was recorded");
    let machines = mix.machines("identity").expect("it was recorded");
    let outcome = Outcome::of(&run, &machines);
    let cards = || outcome.adapters.iter().filter(|share| !is_cpu(&mix, &share.name));
    let simulated = Taken {
        device_seconds: cards().map(|it| it.starting_s + it.idle_s + it.busy_s).sum(),
        p50: outcome.p50_s,
        p99: outcome.p99_s,
        activations: cards().map(|it| it.activations).sum(),
    };
    for (what, taken) in [("real", &real), ("simulated", &simulated)] {
        println!(
            "  {what:<10} {:5.1} device-seconds, p50 {:5.1} ms, p99 {:5.1} ms, {} activations",
            taken.device_seconds,
            taken.p50 * 1e3,
            taken.p99 * 1e3,
            taken.activations
        );
    }
    let percent = |real: f64, simulated: f64| 100.0 * (simulated / real - 1.0);
    println!(
        "  simulated over real: device-seconds {:+.1} %, p99 {:+.1} %, activations {:+}",
        percent(real.device_seconds, simulated.device_seconds),
        percent(real.p99, simulated.p99),
        simulated.activations as i64 - real.activations as i64
    );
}

fn is_cpu(mix: &Mix, name: &str) -> bool {
    mix.adapters.iter().any(|adapter| adapter.cpu && adapter.name == name)
}

/// Runs the minute over HTTP; returns its cost, and the trace and adapters that the server
/// recorded.
fn replay(times: &[f64], row: f64, bridge: bool) -> (Taken, Trace, Mix) {
    let models = server::repository("identity", IDENTITY);
    let record = models.with_extension("csv");
    let args = [
        "--software-adapters=allow".to_owned(),
        format!("--models={}", models.display()),
        format!("--record={}", record.display()),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Server::start_with(&args, &settings(row, bridge), true);
    server.wait_for_listing();
    warm_up(&server);
    let counters = || {
        let on = metric(&server, "concertina_adapter_on_seconds_total");
        (on, metric(&server, "concertina_adapter_starts_total"))
    };
    let before = counters();
    let moments: Vec<_> = times.iter().map(|at| Duration::from_secs_f64(*at)).collect();
    let balancer = Balancer::new(&[server.address], Balance::RoundRobin);
    let mut latencies = at_moments(&balancer, "/v2/models/identity/infer", &one_row(), &moments);
    let after = counters();
    let (device_seconds, activations) = (after.0 - before.0, (after.1 - before.1) as u64);
    drop(server);
    let (p50, p99) = (percentile(&mut latencies, 50), percentile(&mut latencies, 99));
    let (p50, p99) = (p50.as_secs_f64(), p99.as_secs_f64());
    let trace = Trace::open(&record).expect("it was recorded");
    let mix = Mix::open(&record.with_extension("toml")).expect("it was recorded");
    let _ = std::fs::remove_file(record.with_extension("toml"));
    let _ = std::fs::remove_file(&record);
    let _ = std::fs::remove_dir_all(models);
    (Taken { device_seconds, p50, p99, activations }, only_the_minute(trace, times.len()), mix)
}

/// The last requests of a trace, with times from zero: the earlier ones were for warming up.
fn only_the_minute(mut trace: Trace, requests: usize) -> Trace {
    let warm_up = trace.requests.len() - requests;
    trace.requests.drain(..warm_up);
    let begin = trace.requests.first().map_or(0.0, |request| request.at);
    trace.requests.iter_mut().for_each(|request| request.at -= begin);
    trace
}

fn settings(row: f64, bridge: bool) -> String {
    let adapter = |id: &str, row: f64| {
        format!(
            "[adapters.power.{id}]\nidle = 10.0\nactive = 100.0\nstart = 40.0\n\
             [test.slow.{id}]\nrow = \"{:.0}us\"\n",
            row * 1e6
        )
    };
    let two = adapter(FIRST, row) + &adapter(SECOND, 2.0 * row);
    let cpu = adapter(CPU, CPU_SLOWER * row);
    let (excluded, cpu) = if bridge { ("", cpu.as_str()) } else { (", \"cpu\"", "") };
    format!("[adapters]\nexclude = [\"vulkan-1ae0-c0de-0\"{excluded}]\n{two}{cpu}")
}

/// Starts both adapters once, so that batch times are learned, and turns all off.
fn warm_up(server: &Server) {
    let mut client = Client::connect(server.address);
    let mut mode = |mode: &str| {
        for id in [FIRST, SECOND] {
            let body = format!("{{\"mode\":\"{mode}\"}}").into_bytes();
            client.post(&format!("/api/adapters/{id}"), &client::Request::json(body));
        }
    };
    mode("on");
    // With a bridge the CPU is on and idle without requests.
    wait_for_cards(server, "idle");
    let balancer = Balancer::new(&[server.address], Balance::RoundRobin);
    traffic::saturate(
        &balancer,
        "/v2/models/identity/infer",
        &one_row(),
        16,
        Duration::from_secs(4),
    );
    mode("off");
    wait_for_cards(server, "off");
    mode("auto");
}

fn wait_for_cards(server: &Server, state: &str) {
    let begin = Instant::now();
    let is_card = |adapter: &&serde_json::Value| {
        [FIRST, SECOND].contains(&adapter["id"].as_str().unwrap_or_default())
    };
    let reached = |server: &Server| {
        let adapters = server.adapters();
        adapters.iter().filter(is_card).filter(|adapter| adapter["state"] == state).count() == 2
    };
    while !reached(server) {
        assert!(begin.elapsed() < Duration::from_secs(300), "the adapters should be {state}");
    }
}

fn one_row() -> client::Request {
    binary_request("x", "FP32", &[1, 16], &[0u8; 64])
}

/// The sum of a metric over the cards.
fn metric(server: &Server, name: &str) -> f64 {
    let text = Client::connect(server.address).get("/metrics");
    let text = String::from_utf8_lossy(&text).into_owned();
    let of = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok();
    let cards = text.lines().filter(|line| [FIRST, SECOND].iter().any(|id| line.contains(id)));
    cards.filter_map(of).sum()
}
