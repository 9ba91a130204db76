//! Spinners on the terminal for adapters that are starting: a first warm-up can take a minute.
//!
//! The log shares the terminal, so its lines are written through this module and push the spinners
//! down.

use indicatif::{MultiProgress, ProgressBar};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;
use telemetry::Snapshot;
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;
use types::escape;

const TICK: Duration = Duration::from_millis(100);

/// The terminal, shared by spinners and log. Without a terminal no spinner is drawn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terminal {
    bars: MultiProgress,
}

impl Terminal {
    /// Returns true if stderr is a terminal, where spinners and colours are visible.
    pub(crate) fn is_watched() -> bool {
        std::io::stderr().is_terminal()
    }

    /// Shows a spinner for each start until the engine ends.
    pub(crate) async fn follow(self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        let mut shown: HashMap<String, ProgressBar> = HashMap::new();
        while Self::is_watched() && snapshots.changed().await.is_ok() {
            let snapshot = snapshots.borrow_and_update().clone();
            self.show(&snapshot, &mut shown);
        }
    }

    fn show(&self, snapshot: &Snapshot, shown: &mut HashMap<String, ProgressBar>) {
        for adapter in &snapshot.adapters {
            let id = &adapter.entry.id;
            if let Some(phase) = adapter.phase.as_ref() {
                let bar = shown.entry(id.clone()).or_insert_with(|| self.spinner());
                // The phase contains names of models.
                bar.set_message(escape::line(&format!("{id}: {phase}")).into_owned());
            } else if let Some(bar) = shown.remove(id) {
                bar.finish_and_clear();
            }
        }
    }

    fn spinner(&self) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.enable_steady_tick(TICK);
        bar
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = ProgressLine;

    fn make_writer(&'a self) -> ProgressLine {
        ProgressLine { bars: self.bars.clone(), bytes: Vec::new() }
    }
}

/// One event of the log, which is written as a whole when it is dropped.
pub(crate) struct ProgressLine {
    bars: MultiProgress,
    bytes: Vec<u8>,
}

impl Write for ProgressLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        // An error is ignored: a log that cannot be written cannot report it.
        self.bars.suspend(|| {
            let _ = std::io::stderr().write_all(&self.bytes);
        });
    }
}
