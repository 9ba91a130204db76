//! Starts and ends the real program.

use super::http::{Connection, Response, request};
use super::process::{Signal, signal};
use super::{Folder, HANG, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The program of this build: tests and benches are in `deps`, a subfolder of its folder.
fn executable() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    let build = this.parent().and_then(Path::parent).expect("a folder of cargo");
    let program = build.join("concertina").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.is_file(), "{}: build the program first", program.display());
    program
}

/// The program, without any settings of Vulkan.
fn program() -> Command {
    let mut command = Command::new(executable());
    // Settings in the environment of the tests must not affect the program.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONCERTINA_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Hides all Vulkan drivers.
fn without_vulkan(command: &mut Command) {
    for name in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"] {
        command.env(name, "/nonexistent/driver.json");
    }
}

/// The program with no Vulkan driver, for a test that runs it in a special way.
pub fn command(args: &[&str]) -> Command {
    let mut command = program();
    without_vulkan(&mut command);
    command.args(args);
    command
}

/// Runs the program to its end, with no Vulkan driver.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = command(args);
    command.envs(env.iter().copied());
    command.output().expect("the program can be run")
}

/// The configuration of a server to start.
#[derive(Debug)]
pub struct Setup {
    args: Vec<String>,
    env: Vec<(String, String)>,
    config: String,
    /// Vulkan drivers to use; none if empty.
    drivers: String,
    listen: String,
    cache_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    /// Shell commands that run before the program, in its process.
    before: String,
    program: Option<PathBuf>,
    /// False if the server chooses the runtime folder.
    has_runtime_dir: bool,
    /// False if the server chooses the folder for locks. Otherwise it is in the runtime folder, so
    /// that servers of different tests do not exclude each other from adapters.
    has_lock_dir: bool,
    /// True if the modes that an earlier server saved are restored.
    has_modes: bool,
}

impl Setup {
    /// A server with the `cpu` adapter and no Vulkan driver.
    pub fn cpu() -> Setup {
        Setup {
            args: Vec::new(),
            env: Vec::new(),
            config: String::new(),
            drivers: String::new(),
            listen: "127.0.0.1:0".to_owned(),
            cache_dir: None,
            runtime_dir: None,
            before: String::new(),
            program: None,
            has_runtime_dir: true,
            has_lock_dir: true,
            has_modes: false,
        }
    }

    /// Runs shell commands before the program, in its process: limits, control groups.
    pub fn before(self, lines: &str) -> Setup {
        Setup { before: lines.to_owned(), ..self }
    }

    /// Starts another program file.
    pub fn program(self, path: &Path) -> Setup {
        Setup { program: Some(path.to_owned()), ..self }
    }

    /// A server with these Vulkan drivers, as in `VK_ICD_FILENAMES`, and a persistent cache. The
    /// CPU serves only if a test enables it: otherwise it would take the load that is to start
    /// adapters.
    pub fn software(drivers: &str, cache_dir: &Path) -> Setup {
        let setup = Setup { drivers: drivers.to_owned(), ..Setup::cpu() };
        let setup = Setup { cache_dir: Some(cache_dir.to_owned()), ..setup };
        setup.args(&["--software-adapters", "allow"]).env("CONCERTINA_CPU", "fallback")
    }

    pub fn args(mut self, args: &[&str]) -> Setup {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn models(self, folder: &Path) -> Setup {
        let folder = folder.to_str().expect("a plain path");
        self.args(&["--models", folder])
    }

    /// Adds lines to the config file.
    pub fn config(mut self, lines: &str) -> Setup {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    pub fn listen(self, address: SocketAddr) -> Setup {
        self.listen_to(&address.to_string())
    }

    /// Sets the address to listen on, in the form of the setting.
    pub fn listen_to(self, address: &str) -> Setup {
        Setup { listen: address.to_owned(), ..self }
    }

    /// Sets a folder for caches that outlives the server.
    pub fn cache_dir(self, folder: &Path) -> Setup {
        Setup { cache_dir: Some(folder.to_owned()), ..self }
    }

    pub fn runtime_dir(self, folder: &Path) -> Setup {
        Setup { runtime_dir: Some(folder.to_owned()), ..self }
    }

    /// Lets the server choose the runtime folder.
    pub fn without_runtime_dir(self) -> Setup {
        Setup { has_runtime_dir: false, ..self }
    }

    /// Lets the server choose the folder for locks.
    pub fn without_lock_dir(self) -> Setup {
        Setup { has_lock_dir: false, ..self }
    }

    /// Restores the modes of adapters that an earlier server with the same cache folder saved.
    pub fn with_modes(self) -> Setup {
        Setup { has_modes: true, ..self }
    }

    /// Starts the server and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Server {
        let folder = Folder::new();
        let (child, lines) = self.spawn(&folder);
        let server = Server { address: ([0, 0, 0, 0], 0).into(), child, log: lines, folder };
        server.wait_for_address()
    }

    /// Starts a server that is expected to fail, and waits for its end.
    #[track_caller]
    pub fn fail(self) -> (ExitStatus, String) {
        let folder = Folder::new();
        let (mut child, lines) = self.spawn(&folder);
        let status = wait_for_end(&mut child, HANG);
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = lines.whole();
        (status.unwrap_or_else(|| panic!("the server keeps running:\n{log}")), log)
    }

    fn spawn(&self, folder: &Folder) -> (Child, Log) {
        let config = folder.write("c.toml", self.config_text(folder));
        let cache = self.cache_dir.clone().unwrap_or_else(|| folder.join("cache"));
        if !self.has_modes {
            let _ = std::fs::remove_file(cache.join("modes.json"));
        }
        let mut command = self.command();
        match self.drivers.as_str() {
            "" => without_vulkan(&mut command),
            drivers => drop(command.env("VK_ICD_FILENAMES", drivers).env("LP_NUM_THREADS", "1")),
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--listen", &self.listen, "--config"]).arg(config);
        command.arg("--cache-dir").arg(cache).args(&self.args);
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let log = Log::new(child.stderr.take().expect("stderr is piped"));
        (child, log)
    }

    fn command(&self) -> Command {
        let own = program();
        let path = self.program.as_deref().map_or(own.get_program(), Path::as_os_str);
        let mut command = Command::new(if self.before.is_empty() { path } else { "sh".as_ref() });
        for (name, _) in own.get_envs() {
            command.env_remove(name);
        }
        if !self.before.is_empty() {
            command.arg("-c").arg(format!("{}\nexec \"$@\"", self.before)).arg("sh").arg(path);
        }
        command.stdin(Stdio::null());
        command
    }

    fn config_text(&self, folder: &Folder) -> String {
        let own = || folder.join("run");
        let runtime = self.runtime_dir.clone().unwrap_or_else(own);
        let mut lines = String::new();
        if self.has_runtime_dir {
            lines += &line("runtime_dir", &runtime);
        }
        if self.has_lock_dir {
            lines += &line("lock_dir", &runtime.join("locks"));
        }
        lines + &self.config
    }
}

/// Returns a line of the settings that sets a folder.
fn line(name: &str, folder: &Path) -> String {
    format!("{name} = {:?}\n", folder.display().to_string())
}

/// The log of a server.
#[derive(Clone)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    address: Arc<Mutex<mpsc::Receiver<SocketAddr>>>,
    reader: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Log {
    fn new(stderr: std::process::ChildStderr) -> Log {
        let (found, address) = mpsc::channel();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let named =
                    line.split_once("serving ").and_then(|(_, rest)| rest.split_once("://"));
                // In a JSON log, more text follows.
                let address = |rest: &str| {
                    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
                    rest[..end.unwrap_or(rest.len())].parse()
                };
                let named = named.map(|(_, rest)| address(rest));
                // The line is stored first: a thread that receives the address may read the log.
                kept.lock().expect("the log is whole").push(line);
                if let Some(Ok(address)) = named {
                    let _ = found.send(address);
                }
            }
        });
        let reader = Arc::new(Mutex::new(Some(reader)));
        Log { lines, address: Arc::new(Mutex::new(address)), reader }
    }

    /// Returns the whole log, once the program has ended.
    fn whole(&self) -> String {
        if let Some(reader) = self.reader.lock().expect("one reader").take() {
            reader.join().expect("reading the log does not panic");
        }
        self.text()
    }

    fn text(&self) -> String {
        self.lines.lock().expect("the log is whole").join("\n")
    }
}

fn wait_for_end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            _ if begin.elapsed() > limit => return None,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A running server. Dropping it ends it.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    log: Log,
    /// The folder of its config, runtime folder, locks and, unless another one is set, cache.
    folder: Folder,
}

impl Server {
    #[track_caller]
    fn wait_for_address(mut self) -> Server {
        let found = self.log.address.lock().expect("one reader").recv_timeout(HANG);
        match found {
            Ok(address) => self.address = address,
            Err(_) => panic!("the server does not start"),
        }
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.text()
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("the server listens")
    }

    /// Sends one request on a new connection.
    #[track_caller]
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let response = self.connect().exchange(&request(method, path, headers, body));
        response.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    /// Posts JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Response {
        self.send("POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    #[track_caller]
    pub fn snapshot(&self) -> Value {
        self.get("/api/snapshot").json()
    }

    /// Returns one adapter of the snapshot, as soon as it is listed.
    #[track_caller]
    pub fn adapter(&self, id: &str) -> Value {
        wait_until(&format!("adapter {id} is listed"), HANG, || {
            let adapters = self.snapshot()["adapters"].as_array().cloned().unwrap_or_default();
            adapters.into_iter().find(|adapter| adapter["id"] == id)
        })
    }

    /// Waits until the adapter is in one of these states, and returns it.
    #[track_caller]
    pub fn wait_for_state(&self, id: &str, states: &[&str], limit: Duration) -> Value {
        let what = format!("adapter {id} becomes {states:?}");
        wait_until(&what, limit, || {
            let adapter = self.adapter(id);
            states.iter().any(|state| adapter["state"] == *state).then_some(adapter)
        })
    }

    /// Waits until adapters are listed.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        super::wait_for("the server is ready", HANG, || self.get("/v2/health/ready").status == 200);
    }

    /// Waits until an adapter has this mode.
    #[track_caller]
    pub fn wait_for_mode(&self, id: &str, mode: &str) {
        super::wait_for("the mode", HANG, || self.adapter(id)["mode"] == mode);
    }

    /// Sets the mode of an adapter.
    #[track_caller]
    pub fn set_mode(&self, id: &str, mode: &str) {
        let response =
            self.post(&format!("/api/adapters/{id}"), &format!("{{\"mode\":\"{mode}\"}}"));
        assert_eq!(response.status, 200, "{}", response.text());
    }

    /// Sets the mode of an adapter, as soon as adapters are listed.
    #[track_caller]
    pub fn set_mode_when_listed(&self, id: &str, mode: &str) {
        self.wait_until_ready();
        self.set_mode(id, mode);
    }

    /// Replaces lines of its config file, which it reads again at SIGHUP.
    pub fn write_config(&self, lines: &str) {
        let run = self.folder.join("run");
        let own = line("runtime_dir", &run) + &line("lock_dir", &run.join("locks"));
        self.folder.write("c.toml", own + lines);
    }

    /// Requests it to stop, as a service manager would.
    pub fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end; fails the test if it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for_end(&mut self.child, HANG);
        let status = status.unwrap_or_else(|| panic!("the server does not stop"));
        // Reads the rest of the log, which tests search after the end.
        self.log.whole();
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}\n---", self.log.text());
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.terminate();
        if wait_for_end(&mut self.child, Duration::from_secs(20)).is_none() {
            eprintln!("the server had to be killed");
            self.kill();
        }
    }
}
