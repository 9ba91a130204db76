//! Signals of the system to end. A killed program would leave the terminal in an unusable state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::time::Duration;

/// Time that the view may take to end by itself.
#[cfg(unix)]
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A flag that is set once when the view is to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
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
pub(crate) fn stop_on_signals() -> anyhow::Result<StopFlag> {
    use anyhow::Context;
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to listen for signals")?;
    let flag = StopFlag::default();
    let setter = flag.clone();
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        setter.set();
        // With a closed terminal, the view may never check the flag, since its library keeps
        // reading.
        std::thread::sleep(END_TIMEOUT);
        let _ = ratatui::try_restore();
        std::process::exit(1);
    });
    Ok(flag)
}

/// On other platforms the terminal ends with the program.
#[cfg(not(unix))]
pub(crate) fn stop_on_signals() -> anyhow::Result<StopFlag> {
    Ok(StopFlag::default())
}
