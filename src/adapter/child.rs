//! Probes each adapter in a process of its own, so that a driver that crashes or hangs takes
//! nothing with it.

use crate::adapter::check::check;
use crate::adapter::entry::{AdapterEntry, Api, Probe, Usability};
use crate::adapter::open::open_id;
use crate::adapter::probe::probe;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Time for one child unless the caller says otherwise: loading a driver and compiling ten
/// small kernels on a machine that is busy.
pub const PROBE_LIMIT_DEFAULT: Duration = Duration::from_secs(30);
/// A killed child that is still there after this is stuck in its driver and left to itself.
const REAP_MAX: Duration = Duration::from_secs(1);
/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Drivers may print on stdout before the report; more than this is no report.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// What one probing process says on its last line of output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeReport {
    Probe(Probe),
    /// The adapter did not open, failed its check or did not finish.
    Error(String),
}

/// The child's side: opens the adapter, checks it and measures it.
pub fn probe_one(id: &str) -> ProbeReport {
    let measured = || -> Result<Probe, String> {
        let opened = open_id(id).map_err(|error| error.to_string())?;
        check(&opened.device, &opened.queue)
            .map_err(|error| format!("failed its check: {error}"))?;
        probe(&opened.device, &opened.queue).map_err(|error| format!("failed its probe: {error}"))
    };
    measured().map_or_else(ProbeReport::Error, ProbeReport::Probe)
}

/// Probes every graphics adapter, one after the other so that they do not share the processor.
///
/// `executable` is run as `executable adapters --probe-one <id>`. An adapter that fails is not
/// usable any more and says why. The CPU is not probed: its speed is that of burn's own kernels,
/// which no loop of ours would tell.
pub fn probe_all(entries: &mut [AdapterEntry], executable: &Path, limit: Duration) {
    for entry in entries.iter_mut().filter(|entry| entry.api != Api::Cpu) {
        let mut command = Command::new(executable);
        command.args(["adapters", "--probe-one", &entry.id]);
        match report_of(command, limit) {
            ProbeReport::Probe(probe) => entry.probe = Some(probe),
            ProbeReport::Error(message) => fail(entry, message),
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

fn report_of(mut command: Command, limit: Duration) -> ProbeReport {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => follow(child, limit),
        Err(error) => ProbeReport::Error(format!("its probing process did not start: {error}")),
    }
}

fn follow(mut child: Child, limit: Duration) -> ProbeReport {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // Read beside waiting: a child that prints more than a pipe holds would never end.
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still looked through.
            let _ = stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
            // Nobody listens any more if the child took too long.
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
    }
    let Some(status) = wait(&mut child, limit) else {
        let limit = limit.as_secs_f64();
        return ProbeReport::Error(format!("did not finish its probe within {limit} s"));
    };
    // The pipe stays open if the driver left a process behind, so this wait needs an end too.
    let output = receiver.recv_timeout(REAP_MAX).unwrap_or_default();
    last_report(&output).unwrap_or_else(|| crashed(status))
}

fn last_report(output: &str) -> Option<ProbeReport> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty())?;
    serde_json::from_str(line).ok()
}

fn crashed(status: ExitStatus) -> ProbeReport {
    ProbeReport::Error(format!("its probing process died ({status}): the driver may be broken"))
}

/// The child's end, or `None` after killing one that took too long.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Some(status) = ended(child, limit) {
        return Some(status);
    }
    // Failing means that it has just ended by itself.
    let _ = child.kill();
    ended(child, REAP_MAX);
    None
}

fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = crate::clock::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < limit => thread::sleep(LOOK_EVERY),
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
        match report_of(shell(script), limit) {
            ProbeReport::Error(message) => message,
            ProbeReport::Probe(probe) => panic!("unexpected {probe:?}"),
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_last_line_is_the_report() {
        let script = r#"echo driver noise; echo '{"probe":{"gflops":2.5,"copy_gbytes_per_s":1}}'"#;
        let report = report_of(shell(script), Duration::from_secs(10));
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
    fn a_hang_is_killed() {
        let start = crate::clock::now();
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
        let report = report_of(Command::new("/nonexistent/concertina"), Duration::from_secs(1));
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
