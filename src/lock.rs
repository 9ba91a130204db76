//! One worker per adapter on the whole machine: a file lock that the system drops with us.

use std::fs::{File, TryLockError};
use std::path::Path;

/// Holds an adapter for this process's life.
pub(crate) struct AdapterLock {
    _file: File,
}

/// Why an adapter could not be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("another concertina on this machine uses this adapter (lock {0})")]
    Held(String),
    #[error("cannot lock {0}: {1}")]
    Io(String, std::io::Error),
}

impl AdapterLock {
    /// Takes the lock `<folder>/<adapter>.lock`, without waiting.
    pub(crate) fn take(folder: &Path, adapter: &str) -> Result<AdapterLock, LockError> {
        let safe = adapter.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
        let path = folder.join(format!("{safe}.lock"));
        let name = path.display().to_string();
        let io = |error| LockError::Io(name.clone(), error);
        std::fs::create_dir_all(folder).map_err(io)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(AdapterLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(name)),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_an_adapter() {
        let folder = std::env::temp_dir().join(format!("concertina-lock-{}", std::process::id()));
        let first = AdapterLock::take(&folder, "pci-0000:01:00.0").unwrap();
        let second = AdapterLock::take(&folder, "pci-0000:01:00.0");
        assert!(matches!(second, Err(LockError::Held(_))));
        assert!(AdapterLock::take(&folder, "pci-0000:02:00.0").is_ok());
        drop(first);
        assert!(AdapterLock::take(&folder, "pci-0000:01:00.0").is_ok());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
