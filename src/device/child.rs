//! Lists adapters, and probes each, in separate processes, so that a driver that crashes or hangs
//! does not affect this program, and output of drivers does not mix with its own.

use crate::check::{CheckError, check};
use crate::kernel::KernelError;
use crate::open::{OpenError, open_id};
use crate::probe::probe;
use adapter::entry::{AdapterEntry, Api, Probe, Usability};
use adapter::listing;
use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Default timeout of one child, for loading a driver and compiling ten small kernels on a busy
/// machine.
pub const LIMIT_DEFAULT: Duration = Duration::from_secs(30);
/// Time to wait for a killed child; after that it is stuck in its driver and is not waited for.
const REAP_MAX: Duration = Duration::from_secs(1);
/// Interval at which a child is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum length of the output of a child, since drivers may print before the report. Further
/// output is ignored.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// The report of a probing process in its last line of output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeReport {
    Probe(Probe),
    /// The adapter did not open, failed its check or did not finish.
    Error(String),
}

/// An error in the child.
#[derive(Debug, thiserror::Error)]
enum ProbeFailure {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("failed its check: {0}")]
    Check(CheckError),
    #[error("failed its probe: {0}")]
    Probe(KernelError),
}

/// Runs in the child: opens, checks and measures the adapter.
pub fn probe_one(id: &str) -> ProbeReport {
    let measured = || -> Result<Probe, ProbeFailure> {
        let opened = open_id(id)?;
        check(&opened.device, &opened.queue).map_err(ProbeFailure::Check)?;
        probe(&opened.device, &opened.queue).map_err(ProbeFailure::Probe)
    };
    let failed = |error: ProbeFailure| ProbeReport::Error(error.to_string());
    measured().map_or_else(failed, ProbeReport::Probe)
}

/// The program and environment of the children that query the drivers.
#[derive(Debug)]
pub struct Children<'a> {
    pub executable: &'a Path,
    /// The complete environment of the children.
    pub environment: Vec<(OsString, OsString)>,
    /// Receives the stderr of a child, if the child failed or if `forwards_all` is set.
    pub forward: fn(&str),
    pub forwards_all: bool,
}

impl Children<'_> {
    /// Lists the adapters in a child process. `rules` are the arguments that select among them.
    ///
    /// # Errors
    /// If the process fails, crashes or times out.
    pub fn list(&self, rules: &[String]) -> anyhow::Result<Vec<AdapterEntry>> {
        let mut command = self.command(&listing::ARGUMENTS);
        command.args(rules);
        let ended = run(command, LIMIT_DEFAULT).context("failed to list the adapters")?;
        let listed = match ended.status {
            None => Err(anyhow!("timeout of {LIMIT_DEFAULT:?} of the process that lists them")),
            Some(status) if !status.success() => {
                Err(anyhow!("the process that lists them ended with {status}"))
            }
            Some(_) => listing::read(ended.stdout.as_bytes()),
        };
        self.forward_stderr(&ended.stderr, listed.is_err());
        listed.context("failed to list the adapters")
    }

    /// Probes every graphics adapter, one after the other so that they do not share the processor.
    ///
    /// An adapter that fails is marked as unused, with the reason. The CPU is not probed: its speed
    /// is that of burn's own kernels, which the probe cannot measure.
    pub fn probe_all(&self, entries: &mut [AdapterEntry], limit: Duration) {
        for entry in entries.iter_mut().filter(|entry| entry.api != Api::Cpu) {
            let command = self.command(&["adapters", "--probe-one", &entry.id]);
            let (report, stderr) = report_of(command, limit);
            self.forward_stderr(&stderr, matches!(report, ProbeReport::Error(_)));
            match report {
                ProbeReport::Probe(probe) => entry.probe = Some(probe),
                ProbeReport::Error(message) => fail(entry, message),
            }
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.executable);
        command.args(args).env_clear().envs(self.environment.iter().cloned());
        // Mesa's device selection layer is not needed, and it writes warnings to stderr.
        command.env("NODEVICE_SELECT", "1");
        command
    }

    fn forward_stderr(&self, stderr: &str, has_failed: bool) {
        if (has_failed || self.forwards_all) && !stderr.trim().is_empty() {
            (self.forward)(stderr.trim_end());
        }
    }
}

fn fail(entry: &mut AdapterEntry, message: String) {
    entry.state = Usability::Unused;
    entry.reason = Some(match entry.reason.take() {
        Some(reason) => format!("{reason}; {message}"),
        None => message,
    });
}

/// The report of a probing process, and its stderr.
fn report_of(command: Command, limit: Duration) -> (ProbeReport, String) {
    let ended = match run(command, limit) {
        Ok(ended) => ended,
        Err(error) => {
            let message = format!("failed to start its probing process: {error}");
            return (ProbeReport::Error(message), String::new());
        }
    };
    let Some(status) = ended.status else {
        let limit = limit.as_secs_f64();
        let message = format!("did not finish its probe within {limit} s");
        return (ProbeReport::Error(message), ended.stderr);
    };
    (last_report(&ended.stdout).unwrap_or_else(|| crashed(status)), ended.stderr)
}

/// A process that has exited, or was killed after its timeout.
struct Ended {
    status: Option<ExitStatus>,
    stdout: String,
    stderr: String,
}

/// Runs a process to its exit; kills it after `limit`.
fn run(mut command: Command, limit: Duration) -> std::io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Read in other threads: a child that prints more than the size of a pipe would never exit.
    let stdout = child.stdout.take().map(read_in_background);
    let stderr = child.stderr.take().map(read_in_background);
    let status = wait(&mut child, limit);
    // The pipes stay open if the driver left a process behind, so this wait also needs a timeout.
    let text = |read: Option<mpsc::Receiver<String>>| {
        read.and_then(|read| read.recv_timeout(REAP_MAX).ok()).unwrap_or_default()
    };
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}

fn read_in_background(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // Output before an error is still used.
        let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        // The receiver is dropped if the child timed out.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn last_report(output: &str) -> Option<ProbeReport> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty())?;
    serde_json::from_str(line).ok()
}

fn crashed(status: ExitStatus) -> ProbeReport {
    ProbeReport::Error(format!("its probing process crashed ({status}); the driver may be broken"))
}

/// The exit status of the child; `None` if it was killed after `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Some(status) = ended(child, limit) {
        return Some(status);
    }
    // This fails only if the child has just exited.
    let _ = child.kill();
    ended(child, REAP_MAX);
    None
}

fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = types::clock::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < limit => thread::sleep(POLL_INTERVAL),
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[cfg(unix)]
    fn error_of(script: &str, limit: Duration) -> String {
        match report_of(shell(script), limit).0 {
            ProbeReport::Error(message) => message,
            ProbeReport::Probe(probe) => panic!("unexpected {probe:?}"),
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_last_line_is_the_report() {
        let script = r#"echo driver noise; echo '{"probe":{"gflops":2.5,"copy_gbytes_per_s":1}}'"#;
        let (report, _) = report_of(shell(script), Duration::from_secs(10));
        let probe = Probe { gflops: 2.5, copy_gbytes_per_s: 1.0 };
        assert_eq!(report, ProbeReport::Probe(probe));
    }

    #[test]
    #[cfg(unix)]
    fn a_crash_is_an_error_of_that_adapter() {
        let message = error_of("kill -SEGV $$", Duration::from_secs(10));
        assert!(message.contains("signal: 11"), "{message}");
    }

    #[test]
    #[cfg(unix)]
    fn hanging_child_is_killed() {
        let start = types::clock::now();
        let message = error_of("exec sleep 600", Duration::from_millis(50));
        assert!(message.contains("within 0.05 s"), "{message}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    #[cfg(unix)]
    fn more_output_than_a_pipe_holds_does_not_block() {
        let script = r#"head -c 300000 /dev/zero | tr '\0' x; echo; echo '{"error":"no"}'"#;
        assert_eq!(error_of(script, Duration::from_secs(10)), "no");
    }

    #[test]
    fn an_executable_that_is_not_there_is_an_error() {
        let (report, _) =
            report_of(Command::new("/nonexistent/concertina"), Duration::from_secs(1));
        assert!(matches!(report, ProbeReport::Error(_)));
    }

    #[test]
    fn the_childs_side_reports_errors_too() {
        assert_eq!(
            serde_json::to_string(&probe_one("cpu")).unwrap(),
            r#"{"error":"adapter cpu is not reached through a graphics API"}"#
        );
    }
}
