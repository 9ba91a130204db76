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
use testkit::{Folder, Server, Setup, load::Load, tell};

/// Tuning kernels for a new adapter takes most of a minute on an idle machine.
pub const TUNING: Duration = Duration::from_secs(900);

/// Limit for a start whose kernels are tuned.
pub const START: Duration = Duration::from_secs(180);

/// The drivers and the one cache that all tests share. Holding it keeps every other test of the
/// kind waiting, in this process and in others: three adapters share two cores as it is, and a
/// cache has one writer.
pub struct Machine {
    drivers: String,
    cache: PathBuf,
    /// With `digits` alone: how adapters come and go is the same for every model, and others take
    /// a software adapter a minute each to warm up.
    models: Folder,
    _file: File,
    _guard: MutexGuard<'static, bool>,
}

impl Machine {
    /// `None`, and the reason on stderr, where the drivers are missing.
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
            tell(&format!(
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

    /// Their drivers, as `VK_ICD_FILENAMES` names them.
    pub fn drivers(&self) -> &str {
        &self.drivers
    }

    /// The cache that all tests share.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder with `digits` alone.
    pub fn models(&self) -> &Path {
        self.models.path()
    }

    /// A server of `digits` that may use the three adapters, and the CPU while there is none.
    pub fn setup(&self) -> Setup {
        self.serving(&self.models)
    }

    /// The same with the models of another folder.
    pub fn serving(&self, models: &Folder) -> Setup {
        self.embedded().models(models.path())
    }

    /// The same with the models that every server has.
    pub fn embedded(&self) -> Setup {
        Setup::software(&self.drivers, &self.cache)
    }

    /// The same with a cache of its own, so that a start tunes and compiles for a long time.
    pub fn untuned(&self, cache: &Path) -> Setup {
        Setup::software(&self.drivers, cache).models(self.models.path())
    }

    /// Starts each adapter once, so that kernels are tuned before anything is tested.
    fn warm_up(&self) {
        let begin = Instant::now();
        tell("warming the software adapters up; the first time on a machine this takes minutes");
        let server = self.setup().start();
        for id in adapters(&server) {
            server.set_mode(&id, "on");
            let adapter = server.wait_for_state(&id, &["idle"], TUNING);
            tell(&format!("{id} ({}) started in {} ms", adapter["name"], adapter["cold_start_ms"]));
            server.set_mode(&id, "off");
            server.wait_for_state(&id, &["off"], START);
        }
        tell(&format!("warmed up in {:.1?}", begin.elapsed()));
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

/// Adapters that are on at this moment, with the ids of their processes where there is one yet.
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

/// Looks at the serving process's mappings again and again, for any graphics driver.
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

    /// Fails the test if one was ever there.
    #[track_caller]
    pub fn check(self) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.watch.join().expect("watching does not panic");
        assert!(seen.is_empty(), "the serving process held drivers: {seen:?}");
    }
}

/// Waits until the clients have had so many more answers.
#[track_caller]
pub fn more_answers(load: &Load, count: u64) {
    let goal = load.answers() + count;
    testkit::wait_for("answers keep coming", START, || load.answers() >= goal);
}
