//! What the operating system tells a server: to stop, or to read its files again.

use anyhow::Context;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How often files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// Files that are read again when one of them changes, or when SIGHUP says so.
pub(crate) struct Followed {
    files: Vec<PathBuf>,
    /// When each was written, as last seen.
    seen: Vec<Option<SystemTime>>,
    hangups: Hangups,
}

impl Followed {
    /// To be made before the files are read, so that no change is missed. Without any file only
    /// SIGHUP counts.
    ///
    /// # Errors
    /// If signals cannot be caught.
    pub(crate) fn new(files: Vec<PathBuf>) -> anyhow::Result<Followed> {
        let seen = written(&files);
        Ok(Followed { files, seen, hangups: Hangups::catch()? })
    }

    /// Calls `reread` whenever it is due. `what` is in the files, for the log; if it cannot be
    /// read, nothing changes.
    pub(crate) async fn follow(
        mut self,
        what: &'static str,
        mut reread: impl FnMut() -> anyhow::Result<()>,
    ) {
        loop {
            let told = tokio::select! {
                () = self.hangups.next() => true,
                () = tokio::time::sleep(POLL), if !self.files.is_empty() => false,
            };
            let now = written(&self.files);
            if now == self.seen && !told {
                continue;
            }
            self.seen = now;
            match reread() {
                Ok(()) => tracing::info!("{what} are read again"),
                Err(error) => tracing::error!("{what} stay as they were: {error:#}"),
            }
        }
    }
}

fn written(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|file| std::fs::metadata(file).ok()?.modified().ok()).collect()
}

/// The signals that ask the server to stop; caught as long as this exists.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn catch() -> anyhow::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The signal that asks the server to read its files again.
#[cfg(unix)]
pub(crate) struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    pub(crate) fn catch() -> anyhow::Result<Hangups> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Hangups(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?))
    }

    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Other platforms have none.
#[cfg(not(unix))]
pub(crate) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    pub(crate) fn catch() -> anyhow::Result<Hangups> {
        Ok(Hangups)
    }

    pub(crate) async fn next(&mut self) {
        std::future::pending().await
    }
}

#[cfg(not(unix))]
pub(crate) struct Signals(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn catch() -> anyhow::Result<Signals> {
        Ok(Signals(tokio::signal::windows::ctrl_c().context("cannot listen for Ctrl-C")?))
    }

    pub(crate) async fn next(&mut self) {
        let _ = self.0.recv().await;
    }
}
