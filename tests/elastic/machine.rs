use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::models::{add_digits, package};
use testkit::process::drivers_in;
use testkit::{Folder, Server, Setup, load::Load, report};

/// Tuning kernels for a new adapter takes most of a minute on an idle machine.
pub const TUNING: Duration = Duration::from_secs(900);

/// Limit for a start with tuned kernels.
pub const START: Duration = Duration::from_secs(180);

/// The drivers and the one cache that all tests share. While it is held, every other test of this
/// kind waits, in this process and in others: three adapters already share two cores, and a cache
/// has one writer.
pub struct Machine {
    drivers: String,
    cache: PathBuf,
    /// A repository with `digits` only: adapters turn on and off in the same way for every model,
    /// and a software adapter takes a minute to warm up each of the others.
    models: Folder,
    _file: File,
    _guard: MutexGuard<'static, bool>,
}

impl Machine {
    /// Returns `None`, with the reason on stderr, if the drivers are missing.
    pub fn get() -> Option<Machine> {
        static WARM: Mutex<bool> = Mutex::new(false);
        let mut warm = WARM.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = std::env::temp_dir().join("concertina-test-cache");
        std::fs::create_dir_all(&cache).expect("the temporary folder can be written to");
        let file = File::create(cache.join("lock")).expect("a file in the temporary folder");
        file.lock().expect("waiting for other test runs");
        let drivers = drivers(&cache.join("drivers"));
        let known = drivers.split(':').filter(|path| !path.is_empty()).count();
        if known < 3 {
            report(&format!(
                "SKIPPED: {known} of 3 software adapters found; `apt-get install \
                 mesa-vulkan-drivers chromium` brings them"
            ));
            return None;
        }
        let models = Folder::new();
        add_digits(&models, "digits");
        let cold = !std::mem::replace(&mut *warm, true);
        let machine = Machine { drivers, cache, models, _file: file, _guard: warm };
        if cold {
            machine.warm_up();
        }
        Some(machine)
    }

    /// The drivers, as a value of `VK_ICD_FILENAMES`.
    pub fn drivers(&self) -> &str {
        &self.drivers
    }

    /// The cache that all tests share.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder with `digits` only.
    pub fn models(&self) -> &Path {
        self.models.path()
    }

    /// A server of `digits` that may use the three adapters, and the CPU while none is on.
    pub fn setup(&self) -> Setup {
        self.serving(&self.models)
    }

    /// The same with the models of another folder.
    pub fn serving(&self, models: &Folder) -> Setup {
        self.embedded().models(models.path())
    }

    /// The same with the built-in models.
    pub fn embedded(&self) -> Setup {
        Setup::software(&self.drivers, &self.cache)
    }

    /// The same with an empty cache, so that a start tunes and compiles for a long time.
    pub fn untuned(&self, cache: &Path) -> Setup {
        Setup::software(&self.drivers, cache).models(self.models.path())
    }

    /// Starts each adapter once, so that kernels are tuned before the tests.
    fn warm_up(&self) {
        let begin = Instant::now();
        report("warming the software adapters up; the first time on a machine this takes minutes");
        let server = self.setup().start();
        for id in adapters(&server) {
            server.set_mode(&id, "on");
            let adapter = server.wait_for_state(&id, &["idle"], TUNING);
            report(&format!(
                "{id} ({}) started in {} ms",
                adapter["name"], adapter["cold_start_ms"]
            ));
            server.set_mode(&id, "off");
            server.wait_for_state(&id, &["off"], START);
        }
        report(&format!("warmed up in {:.1?}", begin.elapsed()));
    }
}

/// The value for `VK_ICD_FILENAMES`.
fn drivers(folder: &Path) -> String {
    let script = package().join("tests/software_adapters.sh");
    let output = Command::new("bash").arg(script).arg(folder).output().expect("bash is there");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Ids of the three software adapters, as the server lists them.
#[track_caller]
pub fn adapters(server: &Server) -> Vec<String> {
    server.wait_until_ready();
    let snapshot = server.snapshot();
    let all = snapshot["adapters"].as_array().expect("a list of adapters");
    let used = |adapter: &&Value| adapter["api"] == "vulkan" && adapter["state"] != "unused";
    let id = |adapter: &Value| adapter["id"].as_str().expect("an id").to_owned();
    let ids: Vec<_> = all.iter().filter(used).map(id).collect();
    assert_eq!(ids.len(), 3, "{snapshot:#}");
    ids
}

/// Adapters that are on at this moment, with the process ids of the workers that already run.
pub fn on(server: &Server) -> Vec<(String, Option<u32>)> {
    let is_on = |adapter: &&Value| {
        let state = adapter["state"].as_str().unwrap_or_default();
        ["starting", "loading", "idle", "busy", "draining", "stopping"].contains(&state)
    };
    let pid = |adapter: &Value| adapter["pid"].as_u64().map(|pid| u32::try_from(pid).expect("pid"));
    let name = |adapter: &Value| adapter["id"].as_str().expect("an id").to_owned();
    let snapshot = server.snapshot();
    let all = snapshot["adapters"].as_array().expect("a list of adapters");
    all.iter().filter(is_on).map(|adapter| (name(adapter), pid(adapter))).collect()
}

/// Searches the memory map of the serving process repeatedly for graphics drivers.
pub struct DriverWatch {
    stop: Arc<AtomicBool>,
    watch: JoinHandle<Vec<String>>,
}

impl DriverWatch {
    pub fn start(server: &Server) -> DriverWatch {
        let (stop, pid) = (Arc::new(AtomicBool::new(false)), server.pid());
        let stopped = stop.clone();
        let watch = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) && seen.is_empty() {
                seen = drivers_in(pid);
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        DriverWatch { stop, watch }
    }

    /// Fails the test if a driver was ever found.
    #[track_caller]
    pub fn check(self) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.watch.join().expect("watching does not panic");
        assert!(seen.is_empty(), "the serving process held drivers: {seen:?}");
    }
}

/// Waits until the clients have received `count` more answers.
#[track_caller]
pub fn more_answers(load: &Load, count: u64) {
    let goal = load.answers() + count;
    testkit::wait_for("answers keep coming", START, || load.answers() >= goal);
}
