//! The real server as a child process.

use super::client::Client;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; stopped when dropped.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `concertina serve` on a free port. With `shared`, caches are kept between runs:
    /// tuning kernels for a software adapter takes half a minute.
    pub(crate) fn start(args: &[&str], shared: bool) -> Server {
        Server::start_with(args, "", shared)
    }

    /// The same with these lines in the configuration file.
    pub(crate) fn start_with(args: &[&str], lines: &str, shared: bool) -> Server {
        let folder = folder("server");
        let cache =
            if shared { folder.with_file_name("concertina-test-cache") } else { folder.clone() };
        let config = folder.join("config.toml");
        let runtime = folder.join("run");
        let locks = runtime.join("locks");
        let lines = format!("runtime_dir = {runtime:?}\nlock_dir = {locks:?}\n{lines}");
        std::fs::write(&config, lines).expect("a config file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_concertina"));
        command.args(["serve", "--listen=127.0.0.1:0"]).args(args);
        command.arg("--config").arg(&config).arg("--cache-dir").arg(cache);
        command.env("LP_NUM_THREADS", "1").stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split("http://")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        });
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, folder, address: address.expect("the log has the address") }
    }

    pub(crate) fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.child.id())
    }

    /// Processor time of all workers that are on.
    pub(crate) fn worker_time(&self) -> Duration {
        let adapters = self.adapters();
        let pids = adapters.iter().filter_map(|adapter| adapter["pid"].as_u64());
        pids.map(|pid| processor_time(pid as u32)).sum()
    }

    pub(crate) fn rows_per_batch(&self) -> f64 {
        let adapters = self.adapters();
        let sum =
            |field: &str| adapters.iter().filter_map(|a| a[field].as_u64()).sum::<u64>() as f64;
        sum("rows") / sum("batches").max(1.0)
    }

    pub(crate) fn adapters(&self) -> Vec<serde_json::Value> {
        // Snapshots follow changes by some milliseconds.
        std::thread::sleep(Duration::from_millis(200));
        let body = Client::connect(self.address).get("/api/adapters");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        body["adapters"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the adapters of the machine are known.
    pub(crate) fn wait_for_listing(&self) {
        let begin = Instant::now();
        while self.adapters().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(60), "no adapter was listed");
        }
    }

    /// Waits until `count` adapters are on and idle.
    pub(crate) fn wait_for_idle(&self, count: usize) {
        let begin = Instant::now();
        while self.adapters().iter().filter(|adapter| adapter["state"] == "idle").count() < count {
            assert!(begin.elapsed() < Duration::from_secs(300), "{count} adapters did not come on");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A repository with this one model.
pub(crate) fn repository(name: &str, config: &str) -> PathBuf {
    let folder = folder("models");
    let model: &Path = &folder.join(name);
    std::fs::create_dir_all(model.join("1")).expect("a folder");
    std::fs::write(model.join("model.toml"), config).expect("a file");
    folder
}

fn folder(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir()
        .join(format!("concertina-bench-{name}-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// User and system time; the kernel counts in hundredths of a second.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain spaces; utime and stime are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
