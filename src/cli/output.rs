//! The output of commands. If its reader closes it, as in `concertina models | head -1`, the output
//! ends without an error.

use anyhow::Context;
use std::io::{self, ErrorKind, Write};
use types::escape;

/// Writes text for people and a line feed. Text from files and clients is escaped, so that it
/// cannot act on the terminal.
///
/// # Errors
/// If the text cannot be written, unless the reader has closed the output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_document(&escape::lines(text))
}

/// Writes a document for programs: TOML and JSON, which have escapes of their own.
pub(super) fn print_document(text: &str) -> anyhow::Result<()> {
    let written = write(&mut io::stdout().lock(), text);
    written.context("failed to write to stdout")
}

/// Writes a line to stderr, and ignores an error.
pub(super) fn print_error(text: &str) {
    let _ = write(&mut io::stderr().lock(), &escape::lines(text));
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    let line = [text.trim_end(), "\n"].concat();
    let written = to.write_all(line.as_bytes()).and_then(|()| to.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn closed_pipe_is_not_an_error_but_a_full_disk_is() {
        assert!(write(&mut Failing(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(write(&mut Failing(ErrorKind::StorageFull), "text").is_err());
        let mut whole = Vec::new();
        write(&mut whole, "two\nlines\n\n").unwrap();
        assert_eq!(whole, b"two\nlines\n");
    }
}
