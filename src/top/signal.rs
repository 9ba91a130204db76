//! The system's wish that we end. A killed program leaves a terminal that nobody can use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::time::Duration;

/// How long the view may take to end by itself.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(1);

/// Set once, when it is time to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<AtomicBool>);

impl Told {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(unix)]
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Listens for SIGTERM, SIGHUP and SIGINT from now on; Ctrl-C is a key while the view is live.
#[cfg(unix)]
pub(crate) fn told_to_end() -> anyhow::Result<Told> {
    use anyhow::Context;
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot listen for signals")?;
    let told = Told::default();
    let teller = told.clone();
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        teller.set();
        // A terminal that is gone can keep the view from ever looking: its library reads on.
        std::thread::sleep(PATIENCE);
        let _ = ratatui::try_restore();
        std::process::exit(1);
    });
    Ok(told)
}

/// Elsewhere the terminal goes with the program.
#[cfg(not(unix))]
pub(crate) fn told_to_end() -> anyhow::Result<Told> {
    Ok(Told::default())
}
