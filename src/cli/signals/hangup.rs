//! SIGHUP, which has two meanings: the terminal of the process is gone, or files are to be read
//! again.

use super::{Hangup, POLL};
use anyhow::Context;
use std::io::{IsTerminal, stderr, stdin};
use std::time::Duration;

/// How long after SIGHUP a terminal may still look as if it were there, and the reverse.
const SETTLES: Duration = Duration::from_millis(200);

/// The terminals of a process at one time: the controlling one, and what stdin and stderr are
/// connected to. `None` where it is unknown, as without a descriptor to look with.
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

    /// True if there is any that can go.
    fn are_there(self) -> bool {
        self.controlling == Some(true) || self.has_stream()
    }

    fn has_stream(self) -> bool {
        self.stdin || self.stderr
    }

    /// True if one of them is not there any more `now`.
    fn have_gone(self, now: Terminals) -> bool {
        let controlling = self.controlling == Some(true) && now.controlling == Some(false);
        controlling || self.streams_have_gone(now)
    }

    fn streams_have_gone(self, now: Terminals) -> bool {
        (self.stdin && !now.stdin) || (self.stderr && !now.stderr)
    }

    /// The meaning of a signal that has just come to a process that began with these terminals.
    async fn meaning(self) -> Hangup {
        if self.are_there() && !self.have_gone(Terminals::now()) {
            tokio::time::sleep(SETTLES).await;
        }
        match self.have_gone(Terminals::now()) {
            true => Hangup::Terminal,
            false => Hangup::Order,
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

/// The signal of a terminal that is gone, and of operators who want files to be read again.
pub(super) struct Hangups {
    /// `None` if the signal is ignored, as under `nohup`.
    signal: Option<tokio::signal::unix::Signal>,
    begin: Terminals,
    /// True if a signal has come whose meaning is not known yet.
    has_come: bool,
}

impl Hangups {
    pub(super) fn catch() -> anyhow::Result<Hangups> {
        use tokio::signal::unix::{SignalKind, signal};
        let is_caught = !is_hangup_ignored();
        let signal = is_caught.then(|| signal(SignalKind::hangup())).transpose();
        let signal = signal.context("cannot listen for SIGHUP")?;
        Ok(Hangups { signal, begin: Terminals::now(), has_come: false })
    }

    /// Waits for the next one. No signal is lost if this is dropped.
    pub(super) async fn next(&mut self) -> Hangup {
        let Some(signal) = &mut self.signal else { return std::future::pending().await };
        loop {
            if self.has_come {
                let meaning = self.begin.meaning().await;
                self.has_come = false;
                return meaning;
            }
            tokio::select! {
                told = signal.recv() => {
                    self.has_come = told.is_some();
                    continue;
                }
                () = tokio::time::sleep(POLL), if self.begin.are_there() => {}
            }
            let now = Terminals::now();
            if self.begin.streams_have_gone(now) {
                return Hangup::Terminal;
            }
            // A process that outlives its session with stdin and stderr elsewhere is a daemon.
            if self.begin.have_gone(now) && !self.begin.has_stream() {
                let told = tokio::time::timeout(SETTLES, signal.recv()).await;
                if told.is_ok() {
                    return Hangup::Terminal;
                }
                self.begin = now;
            }
        }
    }
}

/// True if this process was started with SIGHUP ignored. To be called before it is caught.
#[cfg(target_os = "linux")]
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Only unsafe code could ask elsewhere.
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
    fn a_terminal_that_was_never_there_or_is_not_known_cannot_go() {
        let none = Terminals { controlling: Some(false), stdin: false, stderr: false };
        let all = Terminals { controlling: Some(true), stdin: true, stderr: true };
        assert!(!none.are_there() && !none.have_gone(none) && !none.have_gone(all));
        assert!(all.are_there() && !all.have_gone(all) && all.have_gone(none));
        assert!(all.have_gone(Terminals { controlling: Some(false), ..all }));
        assert!(all.streams_have_gone(Terminals { stderr: false, ..all }));
        // Without a descriptor left nothing can be opened.
        assert!(!all.have_gone(Terminals { controlling: None, ..all }));
    }
}
