//! Files that hold a single secret, the API key, and a check of their permissions.

use anyhow::{Context, ensure};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest file of one key, in bytes.
const BYTES_MAX: u64 = 4096;

/// Reads the API key from a file that contains nothing else; surrounding white space is ignored.
///
/// # Errors
/// If the file cannot be read, is too long, is empty or has several lines.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let mut text = String::new();
    let opened = File::open(path);
    let read = opened.and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text));
    read.with_context(|| format!("failed to read the API key in {name}"))?;
    ensure!(text.len() as u64 <= BYTES_MAX, "{name} is longer than an API key: {BYTES_MAX} bytes");
    let key = text.trim();
    ensure!(!key.is_empty(), "{name} is empty; write the API key into it");
    ensure!(
        !key.contains(char::is_control),
        "{name} holds more than one line; write the API key alone into it, files made by \
         `concertina key` belong to the setting keys"
    );
    Ok(key.to_owned())
}

/// A warning for the log if every user of the machine may read a file; `what` is the secret in it.
#[cfg(unix)]
pub fn readers(path: &Path, what: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    let warning =
        || format!("every user of this machine may read the {what} {path}: 'chmod o-rwx {path}'");
    (mode & 0o004 != 0).then(warning)
}

/// Other systems have no such mode bits.
#[cfg(not(unix))]
pub fn readers(_: &Path, _: &str) -> Option<String> {
    None
}

/// Logs [`readers`].
pub fn warn_of_readers(path: &Path, what: &str) {
    if let Some(warning) = readers(path, what) {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_key() {
        let path = std::env::temp_dir().join(format!("concertina-key-{}", std::process::id()));
        let key = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(key("cnc_5f0c\n"), Ok("cnc_5f0c".to_owned()));
        assert_eq!(key("\u{20}two words\r\n"), Ok("two words".to_owned()));
        assert!(key(" \n").unwrap_err().contains("is empty"));
        assert!(key("one\ntwo").unwrap_err().contains("more than one line"));
        assert!(key(&"k".repeat(5000)).unwrap_err().contains("longer than an API key"));
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("failed to read the API key"));
    }
}
