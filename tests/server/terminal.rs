use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use testkit::http::request;
use testkit::process::{Signal, children_of, is_running, signal, workers_of};
use testkit::{
    Connection, Folder, HANG, Setup, command, models, report, run, wait_for, wait_until,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that was started in a terminal of its own, which `script` keeps.
struct InTerminal {
    script: Child,
    folder: Folder,
    pid: u32,
    address: SocketAddr,
}

impl InTerminal {
    /// Starts the server by a line of shell, where `$SERVE` is its command line and `$LOG` a file;
    /// `None` if `script` is not installed.
    fn start(line: &str) -> Option<InTerminal> {
        let folder = Folder::new();
        let (typed, log) = (folder.join("typed"), folder.join("log"));
        let (run, locks) = (folder.join("run"), folder.join("locks"));
        let config =
            format!("runtime_dir = {run:?}\nlock_dir = {locks:?}\nlatency_target = '100ms'");
        let config = folder.write("c.toml", config);
        let serve = format!(
            "{} serve --listen 127.0.0.1:0 --config {} --cache-dir {}",
            env!("CARGO_BIN_EXE_concertina"),
            config.display(),
            folder.join("cache").display(),
        );
        let mut script = Command::new("script");
        script.args(["-q", "-f", "-c", line]).arg(&typed).env("SERVE", serve).env("LOG", &log);
        script.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
        script.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::null());
        let Ok(script) = script.spawn() else {
            report("SKIPPED: script (util-linux) is not installed; it provides the terminal");
            return None;
        };
        let written = || [&typed, &log].map(|file| text(&std::fs::read(file).unwrap_or_default()));
        let address = wait_until("the server has an address", HANG, || {
            let written = written().concat();
            let (_, rest) = written.split_once("on http://")?;
            let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))?;
            rest[..end].parse().ok()
        });
        let pid = server_below(script.id()).expect("the server is below the terminal");
        Some(InTerminal { script, folder, pid, address })
    }

    fn log(&self) -> String {
        let files = ["typed", "log"].map(|name| self.folder.join(name));
        files.map(|file| text(&std::fs::read(file).unwrap_or_default())).concat()
    }

    fn status(&self, path: &str) -> Option<u16> {
        let mut connection = Connection::open(self.address).ok()?;
        Some(connection.exchange(&request("GET", path, &[], b"")).ok()?.status)
    }

    fn turn_on(&self) -> u32 {
        wait_for("the server is ready", HANG, || self.status("/v2/health/ready") == Some(200));
        let headers = [("Content-Type", "application/json")];
        let on = request("POST", "/api/adapters/cpu", &headers, b"{\"mode\":\"on\"}");
        let answer = Connection::open(self.address).unwrap().exchange(&on).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        wait_until("a worker", HANG, || workers_of(self.pid).first().copied())
    }

    /// Ends the terminal, as closing its window does.
    fn hang_up(&mut self) {
        self.script.kill().unwrap();
        self.script.wait().unwrap();
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}\n---", self.log());
        }
        if is_running(self.pid) {
            signal(self.pid, Signal::TERM);
            wait_for("the server ends", HANG, || !is_running(self.pid));
        }
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// The process of `serve` among the descendants of a process.
fn server_below(pid: u32) -> Option<u32> {
    let line = text(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default());
    if line.starts_with(env!("CARGO_BIN_EXE_concertina")) {
        return Some(pid);
    }
    children_of(pid).into_iter().find_map(server_below)
}

#[test]
fn a_foreground_server_ends_when_its_terminal_is_gone() {
    let Some(mut server) = InTerminal::start("exec $SERVE") else { return };
    let worker = server.turn_on();
    // The signal alone, as an operator sends it, makes the server read its settings.
    std::fs::write(server.folder.join("c.toml"), "latency_target = '70ms'").unwrap();
    signal(server.pid, Signal::HUP);
    wait_for("settings are read again", HANG, || server.log().contains("changed: latency_target"));
    assert_eq!(server.status("/v2/health/live"), Some(200));
    server.hang_up();
    wait_for("the server has ended", HANG, || !is_running(server.pid));
    wait_for("its worker has ended", HANG, || !is_running(worker));
    assert_eq!(server.status("/v2/health/live"), None);
    let status = server.log();
    assert!(!status.contains("panicked"), "{status}");
}

#[test]
fn a_background_server_ends_when_its_terminal_is_gone() {
    // In a session of its own, with stdin and stderr in the terminal, the kernel sends no signal.
    let Some(mut server) = InTerminal::start("exec setsid -w $SERVE") else { return };
    server.turn_on();
    server.hang_up();
    wait_for("the server has ended", HANG, || !is_running(server.pid));
}

#[test]
fn a_server_that_ignores_hangups_outlives_its_terminal() {
    let line = "exec nohup $SERVE >$LOG 2>&1";
    let Some(mut server) = InTerminal::start(line) else { return };
    server.turn_on();
    server.hang_up();
    std::thread::sleep(Duration::from_secs(5));
    assert!(is_running(server.pid), "{}", server.log());
    assert_eq!(server.status("/v2/health/live"), Some(200));
}

#[test]
fn a_daemon_outlives_the_terminal_and_reads_its_settings_again() {
    // A daemon has no stream in the terminal.
    let line = "setsid $SERVE </dev/null >$LOG 2>&1 & sleep 60";
    let Some(mut server) = InTerminal::start(line) else { return };
    server.turn_on();
    server.hang_up();
    std::thread::sleep(Duration::from_secs(3));
    std::fs::write(server.folder.join("c.toml"), "latency_target = '70ms'").unwrap();
    signal(server.pid, Signal::HUP);
    wait_for("settings are read again", HANG, || server.log().contains("changed: latency_target"));
    assert_eq!(server.status("/v2/health/live"), Some(200));
}

/// Runs a command with pipes without a reader as stdout, or as stdout and stderr.
fn without_reader(args: &[&str], stderr_too: bool) -> Output {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let mut command = command(args);
    command.stdout(closed()).stderr(Stdio::piped());
    if stderr_too {
        command.stderr(closed());
    }
    command.spawn().unwrap().wait_with_output().unwrap()
}

#[test]
fn commands_end_quietly_when_their_reader_is_gone() {
    let server = Setup::cpu().start();
    server.wait_until_ready();
    let folder = Folder::new();
    let trace = folder.write("t.csv", "arrival_s\n0\n1\n");
    let mix = folder.write(
        "m.toml",
        "[[adapters]]\nname = 'one'\ncold_start_s = 0.5\nidle_w = 10.0\nactive_w = 100.0\n\
         start_w = 50.0\nmodels.default = { alpha_s = 0.01, beta_s = 0.002 }\n",
    );
    let graph = models::package().join("tests/data/linear.onnx");
    let url = format!("http://{}", server.address);
    let [trace, mix, graph] = [&trace, &mix, &graph].map(|path| path.to_str().unwrap());
    let simulate = ["simulate", "--trace", trace, "--adapters", mix];
    for args in [
        &["adapters"][..],
        &["adapters", "--json"],
        &["models"],
        &["models", "check", graph],
        &["serve", "--print-config"],
        &["key", "--name", "a", "--scope", "read"],
        &simulate,
        &[&simulate[..], &["--json"]].concat(),
        &["top", "--once", "--url", &url],
        &["--help"],
        &["serve", "--help"],
        &["help", "models"],
        &["--version"],
    ] {
        let output = without_reader(args, false);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"), "{args:?}: {}", text(&output.stderr));
        assert_eq!(without_reader(args, true).status.code(), Some(0), "{args:?}");
    }
    // The same for errors and warnings.
    for (args, code) in [
        (&["models", "--models", "/nonexistent"][..], 1),
        (&["adapters", "--exclude", "unknown"], 0),
        (&["serve", "--listen", "127.0.0.1:1", "--config", "/nonexistent"], 1),
        (&["dance"], 2),
    ] {
        assert_eq!(without_reader(args, true).status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = command(&["models"]);
    let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("failed to write to stdout"), "{stderr}");
}

const HOSTILE: &str = "con\u{1b}[31mred\u{202e}\n INFO serving forged";

/// A repository with names that contain control characters: of a file, and in a graph.
fn hostile_repository(folder: &Folder) -> PathBuf {
    let graph = std::fs::read(models::package().join("tests/data/linear.onnx")).unwrap();
    folder.write(&format!("models/{HOSTILE}.onnx"), &graph);
    // The input `x` and the output `y` get names that begin lines and set colours.
    let renamed = |graph: Vec<u8>, from: &[u8], to: &[u8]| {
        let mut graph = graph;
        for at in 0..graph.len() - from.len() {
            if graph[at..].starts_with(from) {
                graph[at..at + to.len()].copy_from_slice(to);
            }
        }
        graph
    };
    let graph = renamed(graph, b"\x0a\x01x", b"\x0a\x01\x1b");
    let graph = renamed(graph, b"\x0a\x01y", b"\x0a\x01\n");
    let graph = renamed(graph, b"\x12\x01y", b"\x12\x01\n");
    folder.write("models/plain.onnx", graph);
    folder.join("models")
}

/// Fails if text for a terminal contains control characters.
fn check_harmless(shown: &str) {
    let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!shown.contains(acts), "{shown:?}");
    assert!(shown.lines().all(|line| !line.starts_with(" INFO serving forged")), "{shown}");
}

#[test]
fn file_names_are_escaped_on_the_terminal() {
    let folder = Folder::new();
    let repository = hostile_repository(&folder);
    let listed = run(&["models", "--models", repository.to_str().unwrap()], &[]);
    check_harmless(&text(&listed.stdout));
    check_harmless(&text(&listed.stderr));
    assert!(text(&listed.stdout).contains("con\\u{1b}[31mred"), "{}", text(&listed.stdout));
    assert!(text(&listed.stdout).contains("\\u{1b} FP32"), "{}", text(&listed.stdout));
    let broken = folder.write(&format!("{HOSTILE}2.onnx"), "no graph");
    for file in [repository.join("plain.onnx"), repository.join(format!("{HOSTILE}.onnx")), broken]
    {
        let checked = run(&["models", "check", file.to_str().unwrap()], &[]);
        check_harmless(&text(&checked.stdout));
        check_harmless(&text(&checked.stderr));
    }
    let server = Setup::cpu().models(&repository).args(&["--access-log"]).start();
    server.wait_until_ready();
    server.post("/v2/repository/models/plain/load", "");
    server.get("/v2/models/%1b%5b31m%0a%20INFO%20serving%20forged");
    wait_for("the log is written", HANG, || server.log().contains("answered"));
    check_harmless(&server.log());
}

#[test]
fn stderr_of_drivers_is_shown_only_with_verbose() {
    // The Vulkan loader writes as much as drivers do.
    let env = [("VK_LOADER_DEBUG", "all")];
    let plain = run(&["adapters"], &env);
    assert!(plain.status.success());
    assert_eq!(text(&plain.stderr), "");
    let verbose = run(&["adapters", "--verbose"], &env);
    assert_eq!(verbose.stdout, plain.stdout);
    if verbose.stderr.is_empty() {
        return report("SKIPPED: the Vulkan loader, which writes to stderr, is not installed");
    }
    let stderr = text(&verbose.stderr).to_lowercase();
    assert!(stderr.contains("/nonexistent/driver.json"), "{stderr}");
}
