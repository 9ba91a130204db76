use crate::crowd::{Crowd, DEADLINE, Offered};
use crate::steps::Holds;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::{Connection, images};

/// Offered load, as multiples of the capacity.
const TIMES: [f64; 6] = [0.5, 0.8, 1.0, 2.0, 3.0, 5.0];

/// Prints the answers in time at increasing load, and those of a second client at the highest load.
pub(crate) fn report(seconds: u64) {
    let (crowd, lasting) = (Crowd::new(), Duration::from_secs(seconds));
    let capacity = crowd.capacity(lasting);
    println!("Served without a deadline: {capacity:.0} per second. Deadline: {DEADLINE:?}.\n");
    println!("| offered | {} | resident MiB |\n{}|", Offered::COLUMNS, "|---".repeat(10));
    let mut rates = Vec::new();
    for times in TIMES {
        let offered = crowd.offer(capacity * times, lasting);
        rates.push(offered.goodput());
        row(times, &offered, Holds::of(&crowd.server).resident_kb);
    }
    let peak = rates.iter().copied().fold(0.0, f64::max);
    let last = rates.last().copied().unwrap_or_default();
    println!("\nAt 5 times: {:.1} % of the peak.\n", last / peak * 100.0);
    beside(&crowd, capacity, lasting);
}

fn row(times: f64, offered: &Offered, resident_kb: u64) {
    assert!(offered.other.is_empty(), "{:?}", offered.other);
    println!("| {times} x | {} | {:.0} |", offered.columns(), resident_kb as f64 / 1024.0);
}

/// Measures a client that sends one request at a time, alone and beside one that sends five times
/// the capacity.
fn beside(crowd: &Crowd, capacity: f64, lasting: Duration) {
    let (alone, _) = crowd.one_by_one(lasting);
    let (beside, refused) = std::thread::scope(|scope| {
        let much = scope.spawn(|| crowd.offer(5.0 * capacity, lasting));
        let little = crowd.one_by_one(lasting);
        drop(much.join());
        little
    });
    let at = |took: &[Duration], percent: usize| {
        took.get(took.len() * percent / 100).copied().unwrap_or_default()
    };
    for (what, took) in [("alone", &alone), ("beside 5 x", &beside)] {
        println!(
            "one at a time, {what}: {} answers, {:.1?}, p99 {:.1?}",
            took.len(),
            at(took, 50),
            at(took, 99)
        );
    }
    println!("refused beside 5 x: {refused}");
}

/// Measures other clients while some send a byte at a time or do not read.
pub(crate) fn slow(clients: u64) {
    let crowd = Crowd::new();
    let lasting = Duration::from_secs(8);
    let report = |what: &str| {
        let (took, refused) = crowd.one_by_one(lasting);
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        println!("{what}: {} answers, median {median:.1?}, {refused} refused", took.len());
    };
    report("alone");
    let begin = Instant::now();
    let dribble = || {
        let Ok(mut connection) = Connection::open(crowd.server.address) else { return };
        let header = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ";
        for byte in header.iter().chain(std::iter::repeat(&b'x')) {
            if begin.elapsed() > lasting || connection.send(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(dribble);
        }
        report(&format!("beside {clients} that send a header byte by byte"));
    });
    report("afterwards");
    match h2load(&crowd, clients, lasting) {
        Ok(mut load) => {
            report(&format!("beside h2load with {clients} connections"));
            println!("h2load ended: {}", load.wait().expect("it was started"));
        }
        Err(error) => println!("beside h2load: SKIPPED: {error}"),
    }
}

/// Starts h2load (of nghttp2) as the other client: it sends requests without pause on `clients`
/// connections.
fn h2load(crowd: &Crowd, clients: u64, lasting: Duration) -> std::io::Result<Child> {
    let body = std::env::temp_dir().join("concertina-bench-body.json");
    std::fs::write(&body, images::as_uint8(&images::seven()))?;
    let (key, server) = (format!("X-API-Key: {}", crowd.keys[0]), crowd.server.address);
    let mut command = Command::new("h2load");
    command.args(["--h1", "-t1", "-c", &clients.to_string(), "-H", &key]);
    command.args(["-D", &(lasting.as_secs() + 1).to_string(), "-d"]).arg(body);
    command.arg(format!("http://{server}/v2/models/digits/infer"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
