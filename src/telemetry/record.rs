//! Recording of request arrivals for `concertina simulate`, without payloads and clients.

use anyhow::Context;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Maximum number of arrivals that wait to be written; further ones are dropped rather than slow
/// down a request.
const WAITING_MAX: usize = 1 << 16;

#[derive(Debug)]
struct RecordLine {
    at: Duration,
    rows: u32,
    model: String,
}

/// Sends arrivals to a thread that writes them as CSV: `arrival_s,rows,model`.
#[derive(Clone, Debug)]
pub struct Recorder(SyncSender<RecordLine>);

impl Recorder {
    /// Creates the file.
    ///
    /// # Errors
    /// If the file exists already or cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Recorder> {
        let file = File::create_new(path);
        let file =
            file.with_context(|| format!("failed to create the recording {}", path.display()))?;
        let mut file = BufWriter::new(file);
        writeln!(file, "arrival_s,rows,model")?;
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let write = move || {
            if let Err(error) = write_all(&receiver, &mut file) {
                tracing::warn!("recording stopped: failed to write the file: {error}");
            }
        };
        std::thread::Builder::new().name("record".to_owned()).spawn(write)?;
        Ok(Recorder(sender))
    }

    /// Records a request that arrived at this time after the start of the server.
    pub fn arrived(&self, at: Duration, rows: u32, model: &str) {
        // If the queue is full, the disk is slow. If it is disconnected, a failed write was logged
        // already.
        let _ = self.0.try_send(RecordLine { at, rows, model: model.to_owned() });
    }
}

/// Writes lines until all senders are dropped; the buffer is flushed whenever the queue is empty.
fn write_all(lines: &Receiver<RecordLine>, file: &mut impl Write) -> std::io::Result<()> {
    let mut first = None;
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => return file.flush(),
            Err(TryRecvError::Empty) => {
                file.flush()?;
                let Ok(line) = lines.recv() else { return Ok(()) };
                line
            }
        };
        let first = *first.get_or_insert(line.at);
        let at = line.at.saturating_sub(first).as_secs_f64();
        writeln!(file, "{at:.6},{},{}", line.rows, quoted(&line.model))?;
    }
}

/// Quotes a field of a CSV file.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r', ' ']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_become_lines() {
        let (sender, receiver) = sync_channel(8);
        for (at, rows, model) in [(5000, 1, "a"), (5250, 3, "b \"x\", y")] {
            let line = RecordLine { at: Duration::from_millis(at), rows, model: model.to_owned() };
            sender.try_send(line).unwrap();
        }
        drop(sender);
        let mut written = Vec::new();
        write_all(&receiver, &mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text, "0.000000,1,a\n0.250000,3,\"b \"\"x\"\", y\"\n");
    }
}
