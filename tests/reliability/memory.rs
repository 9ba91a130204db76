//! Clients that make the server hold as much memory as possible, in a memory cgroup.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use testkit::http::{Connection, request};
use testkit::models::add_echo;
use testkit::{Folder, Server, Setup, report, wait_for};

/// Clients that send at once.
const CLIENTS: usize = 64;
/// Limit of the cgroup, in bytes.
const CGROUP_BYTES: u64 = 1536 << 20;
/// The default of `limits.host_memory_bytes`.
const HELD_BYTES: u64 = 1 << 30;
/// Memory of the process that the bound does not count, in bytes.
const OWN_BYTES: u64 = 300_000_000;
/// Memory of the process when nothing is held, in bytes.
const IDLE_BYTES: u64 = 100_000_000;
/// Longest time until the memory is returned to the system.
const RETURN: Duration = Duration::from_secs(30);
/// Length of the largest bodies, below the limit of 64 MiB.
const LARGE_BYTES: usize = 62_000_000;
/// Length of the tensors of correct requests.
const TENSOR_BYTES: usize = 8_000_000;
const INFER: &str = "/v2/models/echo/infer";
const SMALL: &str = r#""datatype":"UINT8","shape":[1,1],"data":[1]"#;

/// A memory cgroup below that of the test.
struct Cgroup {
    folder: PathBuf,
    /// The file with the number of processes that the kernel has killed.
    events: &'static str,
}

impl Cgroup {
    /// # Errors
    /// Returns the reason if no cgroup can be made.
    fn new(bytes: u64) -> Result<Cgroup, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let find = |mark: &str| own.lines().find_map(|line| line.split_once(mark)).map(|two| two.1);
        let (root, own, limit, events) = match (find(":memory:/"), find("0::/")) {
            (Some(own), _) => {
                ("/sys/fs/cgroup/memory", own, "memory.limit_in_bytes", "memory.oom_control")
            }
            (None, Some(own)) => ("/sys/fs/cgroup", own, "memory.max", "memory.events"),
            (None, None) => return Err("no memory cgroup is mounted".to_owned()),
        };
        let parent = Some(Path::new(root).join(own)).filter(|folder| folder.is_dir());
        let parent = parent.unwrap_or_else(|| root.into());
        let folder = parent.join(format!("concertina-test-{}", std::process::id()));
        let failed = |error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(failed)?;
        let made = Cgroup { folder: folder.clone(), events };
        fs::write(folder.join(limit), bytes.to_string()).map_err(failed)?;
        Ok(made)
    }

    fn add(&self, process: u32) {
        fs::write(self.folder.join("cgroup.procs"), process.to_string()).unwrap();
    }

    fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.folder.join(self.events)).unwrap();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes need a moment to end.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A body that takes much memory unless memory is bounded.
struct Body {
    name: &'static str,
    request: Vec<u8>,
    /// The speed at which the answer is read.
    reading: Reading,
}

#[derive(Clone, Copy)]
enum Reading {
    Whole,
    Never,
    /// A thousand bytes per second.
    Slowly,
}

fn bodies() -> Vec<Body> {
    let json = |fields: &str| format!("{{\"inputs\":[{{\"name\":\"x\",{fields}}}]}}");
    let body = |name, reading, text: String| {
        let headers = [("Content-Type", "application/json")];
        Body { name, reading, request: request("POST", INFER, &headers, text.as_bytes()) }
    };
    let ones = "1,".repeat(LARGE_BYTES / 2);
    let shape = json(&format!(r#""datatype":"UINT8","data":[1],"shape":[{ones}1]"#));
    let input = |at: usize| format!(r#"{{"name":"n{at:07}",{SMALL}}}"#);
    let inputs: Vec<String> = (0..LARGE_BYTES / 64).map(input).collect();
    let inputs = format!("{{\"inputs\":[{}]}}", inputs.join(","));
    let id = "i".repeat(TENSOR_BYTES);
    let id = format!("{{\"id\":\"{id}\",\"inputs\":[{{\"name\":\"x\",{SMALL}}}]}}");
    let numbers = vec!["1"; LARGE_BYTES / 2].join(",");
    let count = LARGE_BYTES / 2;
    let doubles = format!(r#""datatype":"FP64","shape":[1,{count}],"data":[{numbers}]"#);
    vec![
        body("a shape of millions of dimensions", Reading::Whole, shape),
        body("a million inputs", Reading::Whole, inputs),
        body("an id of 8 MB", Reading::Never, id),
        Body { name: "a million parameters", reading: Reading::Whole, request: parameters() },
        Body { name: "8 MB, read slowly", reading: Reading::Slowly, request: tensor() },
        Body { name: "8 MB, never read", reading: Reading::Never, request: tensor() },
        body("doubles of one digit", Reading::Never, json(&doubles)),
    ]
}

/// A small binary tensor behind a large JSON part.
fn parameters() -> Vec<u8> {
    let parameter = |at: usize| format!(r#""p{at:07}":"{at:043}""#);
    let all: Vec<String> = (0..LARGE_BYTES / 56).map(parameter).collect();
    let head = format!(
        r#"{{"parameters":{{{}}},"inputs":[{{"name":"x","datatype":"UINT8","shape":[1,1],"parameters":{{"binary_data_size":1}}}}]}}"#,
        all.join(",")
    );
    binary(&head, &[7])
}

fn tensor() -> Vec<u8> {
    let head = format!(
        r#"{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"x","datatype":"UINT8","shape":[1,{TENSOR_BYTES}],"parameters":{{"binary_data_size":{TENSOR_BYTES}}}}}]}}"#
    );
    binary(&head, &vec![7; TENSOR_BYTES])
}

fn binary(head: &str, raw: &[u8]) -> Vec<u8> {
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    request("POST", INFER, &headers, &[head.as_bytes(), raw].concat())
}

/// Numbers of answers by status; 0 for a connection that broke.
type Counts = Mutex<BTreeMap<(&'static str, u16), usize>>;

/// Sends a body again and again.
fn send(server: &Server, body: &Body, end: Instant, counts: &Counts) {
    while Instant::now() < end {
        let status = exchange(server, body, end).unwrap_or_default();
        *counts.lock().unwrap().entry((body.name, status)).or_default() += 1;
    }
}

fn exchange(server: &Server, body: &Body, end: Instant) -> std::io::Result<u16> {
    let mut connection = Connection::open(server.address)?;
    // A server that answers early stops reading.
    let sent = connection.send(&body.request);
    match body.reading {
        Reading::Whole => {
            let answer = connection.receive();
            sent.and(answer).map(|answer| answer.status)
        }
        Reading::Never => {
            std::thread::sleep(Duration::from_secs(3).min(end - Instant::now().min(end)));
            connection.head().map(|(status, _)| status)
        }
        Reading::Slowly => {
            let (status, _) = connection.head()?;
            let mut stream = connection.into_stream();
            while Instant::now() < end && stream.read(&mut [0; 100])? > 0 {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(status)
        }
    }
}

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("the server is running") * 1024
}

/// Sends all bodies for a time, and checks the memory of the server then and afterwards.
pub fn memory_is_bounded(lasting: Duration) {
    let models = Folder::new();
    add_echo(&models, "echo", 8, "0s");
    let cgroup = Cgroup::new(CGROUP_BYTES);
    if let Err(reason) = &cgroup {
        report(&format!("SKIPPED the memory cgroup: {reason}"));
    }
    let server = Setup::cpu().models(models.path()).start();
    if let Ok(cgroup) = &cgroup {
        // Its workers inherit the cgroup.
        cgroup.add(server.pid());
    }
    server.wait_until_ready();
    let (bodies, counts, idle) = (bodies(), Counts::default(), resident(server.pid()));
    let end = Instant::now() + lasting;
    let most = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, body, counts) = (&server, &bodies[client % bodies.len()], &counts);
            scope.spawn(move || send(server, body, end, counts));
        }
        let mut most = 0;
        while Instant::now() < end {
            most = most.max(resident(server.pid()));
            std::thread::sleep(Duration::from_millis(50));
        }
        most
    });
    let returned = wait_for_little(&server);
    report(&format!(
        "{CLIENTS} clients for {lasting:?}: {idle} bytes before, at most {most}, below \
         {IDLE_BYTES} after {returned:.1?}"
    ));
    for ((name, status), count) in counts.into_inner().unwrap() {
        report(&format!("{name}: {count} x {status}"));
        assert!(status < 500 || status == 503, "{name}: {status}");
    }
    if let Ok(cgroup) = &cgroup {
        assert_eq!(cgroup.kills(), 0);
    }
    assert!(most <= HELD_BYTES + OWN_BYTES, "{most} bytes were resident");
    assert!(returned < RETURN, "{} bytes are still resident", resident(server.pid()));
    // Snapshots of an idle server are a second apart.
    wait_for("the end of all charges", RETURN, || server.snapshot()["queue"]["held_bytes"] == 0);
}

fn wait_for_little(server: &Server) -> Duration {
    let begin = Instant::now();
    while resident(server.pid()) >= IDLE_BYTES && begin.elapsed() < RETURN {
        std::thread::sleep(Duration::from_millis(100));
    }
    begin.elapsed()
}
