//! The log: its filter, format and destination.

use crate::cli::progress::Terminal;
use config::{LogFormat, log_filter};
use std::fmt::{self, Debug};
use std::io::{self, Write};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use types::escape;
use worker::tuning;

/// Starts the server's log, on stderr, with the warnings about the start of the program.
///
/// # Errors
/// If the environment contains an invalid filter.
pub(super) fn of_server(
    terminal: &Terminal,
    format: LogFormat,
    warnings: &[String],
) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(filter("info")?);
    let log = log.with_writer(terminal.clone()).with_ansi(Terminal::is_watched());
    match format {
        LogFormat::Text => log.with_target(false).fmt_fields(Escaped).init(),
        LogFormat::Json => log.json().flatten_event(true).with_ansi(false).init(),
    }
    warn(warnings);
    Ok(())
}

/// Starts the log of a command, on stderr: warnings and errors, in plain lines. It begins with
/// `warnings`, which concern the start of the program.
///
/// # Errors
/// If the environment contains an invalid filter.
pub(super) fn of_command(warnings: &[String]) -> anyhow::Result<()> {
    tracing_subscriber::registry().with(plain(filter("warn")?)).init();
    warn(warnings);
    Ok(())
}

fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// Starts the log of a worker: plain lines, to which the server adds time and adapter. The server
/// has checked the filter. Kernel tuning is traced in addition, to be measured.
pub(super) fn of_worker() {
    let filter = filter("warn").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::registry().with(plain(filter)).with(tuning::layer()).init();
}

/// Plain lines on stderr.
fn plain<S: Subscriber + for<'a> LookupSpan<'a>>(filter: EnvFilter) -> impl Layer<S> {
    let lines = tracing_subscriber::fmt::layer().with_writer(LogStderr).fmt_fields(Escaped);
    lines.with_target(false).without_time().with_ansi(false).with_filter(filter)
}

/// Graphics libraries log a missing extension as a warning, so only their errors are logged.
fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let quiet = format!("{level},wgpu_hal=off,wgpu_core=error,naga=error,cubecl=error");
    Ok(EnvFilter::try_new(log_filter()?.unwrap_or(quiet))?)
}

/// Standard error. A failed write is ignored, since its reader may have closed it.
#[derive(Clone, Copy)]
struct LogStderr;

impl MakeWriter<'_> for LogStderr {
    type Writer = LogStderr;

    fn make_writer(&self) -> LogStderr {
        LogStderr
    }
}

impl Write for LogStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fields in the format of tracing-subscriber, each escaped: file names and texts of clients must
/// not forge lines or act on the terminal. The library escapes only control sequences, which leaves
/// line breaks and controls of writing direction.
#[derive(Clone, Copy)]
struct Escaped;

impl<'writer> FormatFields<'writer> for Escaped {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = LogLine { writer, is_begun: false, written: Ok(()) };
        fields.record(&mut line);
        line.written
    }
}

struct LogLine<'writer> {
    writer: Writer<'writer>,
    is_begun: bool,
    written: fmt::Result,
}

impl LogLine<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if std::mem::replace(&mut self.is_begun, true) {
            self.writer.write_char(' ')?;
        }
        let value = escape::line(value);
        match (name, self.writer.has_ansi_escapes()) {
            ("message", _) => write!(self.writer, "{value}"),
            // The name is in italics, as in the library's own format.
            (_, true) => write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}"),
            (_, false) => write!(self.writer, "{name}={value}"),
        }
    }
}

impl Visit for LogLine<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Libraries that log through `log` pass their file names in such fields.
        if self.written.is_ok() && !field.name().starts_with("log.") {
            let name = field.name().strip_prefix("r#").unwrap_or(field.name());
            self.written = self.write(name, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn foreign_text_is_escaped_in_the_log() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).without_time();
        let log = log.with_target(false).with_ansi(false).fmt_fields(Escaped).finish();
        let forged = "con\u{1b}[31mred\n INFO serving nothing\u{202e}";
        tracing::subscriber::with_default(log, || {
            let _span = tracing::info_span!("request", id = forged).entered();
            tracing::warn!(model = %forged, text = forged, rows = 3, "cannot load {forged}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let shown = "con\\u{1b}[31mred\\n INFO serving nothing\\u{202e}";
        let expected = format!(
            " WARN request{{id=\"{shown}\"}}: cannot load {shown} model={shown} text=\"{shown}\" rows=3\n"
        );
        assert_eq!(text, expected);
    }
}
