//! The lines that a worker and its driver write to stderr. They are logged at DEBUG, since drivers
//! also print errors that they recover from. If the worker fails, the last lines are logged at
//! WARN.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::task::JoinHandle;
use tracing::Level;
use types::clock;

/// Maximum number of lines that are logged per second; drivers can print thousands.
const LINES_MAX: u32 = 20;
/// Maximum length of a line in bytes.
const LINE_MAX: u64 = 2048;
/// Maximum number of lines that are kept for the case of a failure.
const KEPT_MAX: usize = 20;
/// Timeout of the last output of a worker that has exited: a driver may have left a process behind
/// that keeps the pipe open.
const END_MAX: Duration = Duration::from_millis(200);

/// The stderr of one worker.
pub(crate) struct WorkerStderr {
    adapter: String,
    kept: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl WorkerStderr {
    /// Reads and logs the lines of `from` until its end.
    pub(crate) fn follow(
        from: impl AsyncRead + Send + Unpin + 'static,
        adapter: &str,
    ) -> WorkerStderr {
        let kept = Arc::<Mutex<VecDeque<String>>>::default();
        let reader = tokio::spawn(read_lines(from, adapter.to_owned(), kept.clone()));
        WorkerStderr { adapter: adapter.to_owned(), kept, reader }
    }

    /// Waits for the last lines of a worker that has exited; if it failed, logs them.
    pub(crate) async fn end(mut self, has_failed: bool) {
        // An aborted reader logs no further lines.
        if tokio::time::timeout(END_MAX, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let kept = std::mem::take(&mut *lock(&self.kept));
        for line in kept.iter().filter(|_| has_failed) {
            tracing::warn!(adapter = %self.adapter, "before it failed: {line}");
        }
    }
}

/// Locks the lines. A poisoned lock is usable, since no panic leaves the lines inconsistent.
fn lock(kept: &Mutex<VecDeque<String>>) -> std::sync::MutexGuard<'_, VecDeque<String>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs lines at a bounded rate and length, and keeps the last ones.
async fn read_lines(
    from: impl AsyncRead + Unpin,
    adapter: String,
    kept: Arc<Mutex<VecDeque<String>>>,
) {
    let mut reader = BufReader::new(from);
    let mut rate = Rate { begin: clock::now(), lines: 0, left_out: 0 };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        // `read_until` alone would read without limit if a driver writes no line break.
        let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut bytes).await;
        if !matches!(read, Ok(count) if count > 0) {
            break;
        }
        let text = String::from_utf8_lossy(&bytes);
        let (level, line) = level_of(text.trim_end());
        if rate.allows(&adapter) {
            log(level, &adapter, line);
        }
        // Lines of the worker's own log were logged at their level.
        if level == Level::DEBUG && !line.trim().is_empty() {
            let mut kept = lock(&kept);
            kept.push_back(line.to_owned());
            if kept.len() > KEPT_MAX {
                kept.pop_front();
            }
        }
    }
    rate.log_left_out(&adapter);
}

fn log(level: Level, adapter: &str, line: &str) {
    match level {
        Level::ERROR => tracing::error!(adapter, "{line}"),
        Level::WARN => tracing::warn!(adapter, "{line}"),
        _ => tracing::debug!(adapter, "{line}"),
    }
}

/// The level of a line, and the line without it. Lines of a driver, and lines of the worker's own
/// log below WARN, have level DEBUG.
fn level_of(line: &str) -> (Level, &str) {
    // The worker's log pads the names of levels to five characters.
    for (begin, level) in [("ERROR ", Level::ERROR), (" WARN ", Level::WARN)] {
        if let Some(rest) = line.strip_prefix(begin) {
            return (level, rest);
        }
    }
    (Level::DEBUG, line)
}

/// The number of lines in the current second.
struct Rate {
    begin: Instant,
    lines: u32,
    left_out: u64,
}

impl Rate {
    fn allows(&mut self, adapter: &str) -> bool {
        if self.begin.elapsed() >= Duration::from_secs(1) {
            self.log_left_out(adapter);
            *self = Rate { begin: clock::now(), lines: 0, left_out: 0 };
        }
        self.lines += 1;
        let allowed = self.lines <= LINES_MAX;
        self.left_out += u64::from(!allowed);
        allowed
    }

    fn log_left_out(&self, adapter: &str) {
        if self.left_out > 0 {
            let lines = self.left_out;
            tracing::debug!(adapter, lines, "further lines of the worker were not logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kept_of(text: Vec<u8>) -> Vec<String> {
        let stderr = WorkerStderr::follow(std::io::Cursor::new(text), "cpu");
        let kept = stderr.kept.clone();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let lines = lock(&kept).iter().cloned().collect();
        stderr.end(true).await;
        assert!(lock(&kept).is_empty());
        lines
    }

    #[tokio::test]
    async fn the_last_lines_of_a_driver_are_kept() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let kept = kept_of(text.into_bytes()).await;
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept.last().unwrap(), "line 99");
        let kept =
            kept_of([b"a\n\n WARN ours\n".as_slice(), &[b'x'; 5000], &[0xff]].concat()).await;
        assert_eq!(kept.iter().map(String::len).collect::<Vec<_>>(), [1, 2048, 2048, 907]);
    }

    #[test]
    fn lines_of_the_workers_own_log_have_its_level() {
        assert_eq!(level_of(" WARN files are not confined").0, Level::WARN);
        assert_eq!(level_of("ERROR worker ends"), (Level::ERROR, "worker ends"));
        assert_eq!(level_of("WARNING: lavapipe is not a conformant driver").0, Level::DEBUG);
        assert_eq!(level_of("error: XDG_RUNTIME_DIR is invalid").0, Level::DEBUG);
    }
}
