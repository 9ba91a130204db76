//! Signals of the operating system to a server: to stop, or to read its files again.

#[cfg(unix)]
mod hangup;

use anyhow::Context;
#[cfg(unix)]
use hangup::Hangups;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Interval of the check for changed files.
const POLL: Duration = Duration::from_secs(2);

/// Time after the first signal to stop from which a second one counts: some launchers signal the
/// process and then its group, within milliseconds.
const SECOND_AFTER: Duration = Duration::from_secs(1);

/// Files that are read again when one of them changes, or at SIGHUP.
pub(crate) struct Followed {
    files: Vec<PathBuf>,
    /// The last known modification time of each file.
    seen: Vec<Option<SystemTime>>,
    hangups: Hangups,
}

impl Followed {
    /// Must be created before the files are read, so that no change is missed. Without any file,
    /// only SIGHUP counts.
    ///
    /// # Errors
    /// If signals cannot be caught.
    pub(crate) fn new(files: Vec<PathBuf>) -> anyhow::Result<Followed> {
        let seen = written(&files);
        Ok(Followed { files, seen, hangups: Hangups::catch()? })
    }

    /// Calls `reread` after each change or SIGHUP. `what` names the content of the files for the
    /// log. If they cannot be read, nothing changes.
    pub(crate) async fn follow(
        mut self,
        what: &'static str,
        mut reread: impl FnMut() -> anyhow::Result<()>,
    ) {
        loop {
            let is_signalled = tokio::select! {
                hangup = self.hangups.next() => hangup == Hangup::Reload,
                () = tokio::time::sleep(POLL), if !self.files.is_empty() => false,
            };
            let now = written(&self.files);
            if now == self.seen && !is_signalled {
                continue;
            }
            self.seen = now;
            match reread() {
                Ok(()) => tracing::info!("reloaded {what}"),
                Err(error) => {
                    tracing::error!("failed to reload {what}; keeping the current ones: {error:#}")
                }
            }
        }
    }
}

fn written(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|file| std::fs::metadata(file).ok()?.modified().ok()).collect()
}

/// The meaning of one SIGHUP.
#[cfg_attr(not(unix), allow(dead_code, reason = "other platforms have no such signal"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hangup {
    /// The terminal was closed: a process that was started in it ends.
    Terminal,
    /// An operator or a service manager has sent it: the files are read again.
    Reload,
}

/// The signals that request the server to stop; they are caught as long as this value exists.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangups: Hangups,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn catch() -> anyhow::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?,
            hangups: Hangups::catch()?,
        })
    }

    /// Waits for SIGTERM, SIGINT, or the hang-up of the terminal.
    pub(crate) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                hangup = self.hangups.next() => if hangup == Hangup::Terminal {
                    return tracing::info!("the terminal was closed");
                },
            }
        }
    }

    /// Waits for a further SIGTERM or SIGINT that does not belong to the first one. A hang-up does
    /// not count: shells pass it on to a process that the kernel has already signalled.
    pub(crate) async fn second(&mut self) {
        let early = async {
            loop {
                self.stop().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(SECOND_AFTER, early).await;
        self.stop().await;
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Placeholder: other platforms have no hang-up.
#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn catch() -> anyhow::Result<Hangups> {
        Ok(Hangups)
    }

    async fn next(&mut self) -> Hangup {
        std::future::pending().await
    }
}

#[cfg(not(unix))]
pub(crate) struct Signals(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn catch() -> anyhow::Result<Signals> {
        Ok(Signals(tokio::signal::windows::ctrl_c().context("failed to listen for Ctrl-C")?))
    }

    pub(crate) async fn next(&mut self) {
        let _ = self.0.recv().await;
    }

    pub(crate) async fn second(&mut self) {
        let early = async {
            loop {
                self.next().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(SECOND_AFTER, early).await;
        self.next().await;
    }
}
