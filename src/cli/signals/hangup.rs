//! SIGHUP and its two meanings: the terminal of the process was closed, or files are to be read
//! again.

use super::{Hangup, POLL};
use anyhow::Context;
use std::io::{IsTerminal, stderr, stdin};
use std::time::Duration;

/// Time after SIGHUP for which a closed terminal may still appear open, and the reverse.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// The terminals of a process at one time: the controlling one, and those of stdin and stderr.
/// `None` if it is unknown, as without a free descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terminals {
    controlling: Option<bool>,
    stdin: bool,
    stderr: bool,
}

impl Terminals {
    fn now() -> Terminals {
        let (stdin, stderr) = (stdin().is_terminal(), stderr().is_terminal());
        Terminals { controlling: has_controlling_terminal(), stdin, stderr }
    }

    /// Returns true if there is any terminal.
    fn are_open(self) -> bool {
        self.controlling == Some(true) || self.has_stream()
    }

    fn has_stream(self) -> bool {
        self.stdin || self.stderr
    }

    /// Returns true if one of the terminals is closed in `now`.
    fn are_closed(self, now: Terminals) -> bool {
        let controlling = self.controlling == Some(true) && now.controlling == Some(false);
        controlling || self.streams_are_closed(now)
    }

    fn streams_are_closed(self, now: Terminals) -> bool {
        (self.stdin && !now.stdin) || (self.stderr && !now.stderr)
    }

    /// Returns the meaning of a signal just received by a process that began with these terminals.
    async fn meaning(self) -> Hangup {
        if self.are_open() && !self.are_closed(Terminals::now()) {
            tokio::time::sleep(SETTLE_TIME).await;
        }
        match self.are_closed(Terminals::now()) {
            true => Hangup::Terminal,
            false => Hangup::Reload,
        }
    }
}

fn has_controlling_terminal() -> Option<bool> {
    use rustix::io::Errno;
    // The kernel's name for the controlling terminal of the process that opens it.
    match std::fs::File::open("/dev/tty") {
        Ok(_) => Some(true),
        Err(error) => {
            let code = error.raw_os_error();
            let gone = [Errno::NXIO, Errno::IO].map(|errno| Some(errno.raw_os_error()));
            gone.contains(&code).then_some(false)
        }
    }
}

/// The signal that a terminal was closed, or that an operator requests a reload.
pub(super) struct Hangups {
    /// `None` if the signal is ignored, as under `nohup`.
    signal: Option<tokio::signal::unix::Signal>,
    begin: Terminals,
    /// True if a signal was received and its meaning is not determined yet.
    is_pending_hangup: bool,
}

impl Hangups {
    pub(super) fn catch() -> anyhow::Result<Hangups> {
        use tokio::signal::unix::{SignalKind, signal};
        let is_caught = !is_hangup_ignored();
        let signal = is_caught.then(|| signal(SignalKind::hangup())).transpose();
        let signal = signal.context("failed to listen for SIGHUP")?;
        Ok(Hangups { signal, begin: Terminals::now(), is_pending_hangup: false })
    }

    /// Waits for the next signal. No signal is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Hangup {
        let Some(signal) = &mut self.signal else { return std::future::pending().await };
        loop {
            if self.is_pending_hangup {
                let meaning = self.begin.meaning().await;
                self.is_pending_hangup = false;
                return meaning;
            }
            tokio::select! {
                received = signal.recv() => {
                    self.is_pending_hangup = received.is_some();
                    continue;
                }
                () = tokio::time::sleep(POLL), if self.begin.are_open() => {}
            }
            let now = Terminals::now();
            if self.begin.streams_are_closed(now) {
                return Hangup::Terminal;
            }
            // A process that outlives its session with stdin and stderr elsewhere is a daemon.
            if self.begin.are_closed(now) && !self.begin.has_stream() {
                let received = tokio::time::timeout(SETTLE_TIME, signal.recv()).await;
                if received.is_ok() {
                    return Hangup::Terminal;
                }
                self.begin = now;
            }
        }
    }
}

/// Returns true if this process was started with SIGHUP ignored. Must be called before it is
/// caught.
#[cfg(target_os = "linux")]
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Returns false: a query on other platforms needs unsafe code.
#[cfg(not(target_os = "linux"))]
fn is_hangup_ignored() -> bool {
    false
}

/// Reads the set of ignored signals in `/proc/PID/status`, where SIGHUP is the lowest bit.
#[cfg(target_os = "linux")]
fn ignores_hangup(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_read_from_the_process() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t1\n"));
        assert!(!ignores_hangup(""));
    }

    #[test]
    fn missing_or_unknown_terminal_is_not_reported_as_closed() {
        let none = Terminals { controlling: Some(false), stdin: false, stderr: false };
        let all = Terminals { controlling: Some(true), stdin: true, stderr: true };
        assert!(!none.are_open() && !none.are_closed(none) && !none.are_closed(all));
        assert!(all.are_open() && !all.are_closed(all) && all.are_closed(none));
        assert!(all.are_closed(Terminals { controlling: Some(false), ..all }));
        assert!(all.streams_are_closed(Terminals { stderr: false, ..all }));
        // Without a free descriptor, nothing can be opened.
        assert!(!all.are_closed(Terminals { controlling: None, ..all }));
    }
}
