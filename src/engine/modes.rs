//! The modes that the operator has set, persisted in a file beside the learned values.

use crate::calls::messages::Mode;
use schedule::AdapterMode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "modes.json";
/// A longer file was not written by this program.
const BYTES_MAX: u64 = 1 << 20;

/// Modes by adapter id, except `auto`, which is the default.
pub(crate) struct Modes {
    path: PathBuf,
    kept: BTreeMap<String, KeptMode>,
    /// Modes of an earlier run for adapters that have not been listed yet.
    waiting: BTreeMap<String, KeptMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptMode {
    On,
    Off,
}

impl Modes {
    /// Reads the file of an earlier run.
    pub(crate) fn read(cache_dir: &Path) -> Modes {
        let path = cache_dir.join(FILE);
        let short = std::fs::metadata(&path).is_ok_and(|file| file.len() <= BYTES_MAX);
        let text = if short { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let kept: BTreeMap<String, KeptMode> = serde_json::from_slice(&text).unwrap_or_default();
        Modes { path, waiting: kept.clone(), kept }
    }

    /// Records a mode; returns the path and text of the file if it has to be rewritten.
    pub(crate) fn set(&mut self, adapter: &str, mode: Mode) -> Option<(PathBuf, Vec<u8>)> {
        // Otherwise the next listing would restore the mode of the earlier run.
        self.waiting.remove(adapter);
        let new = match mode {
            Mode::Auto => None,
            Mode::On => Some(KeptMode::On),
            Mode::Off => Some(KeptMode::Off),
        };
        let old = match new {
            Some(kept) => self.kept.insert(adapter.to_owned(), kept),
            None => self.kept.remove(adapter),
        };
        let text = serde_json::to_vec_pretty(&self.kept).ok()?;
        (old != new).then(|| (self.path.clone(), text))
    }

    /// Takes the mode of an earlier run for an adapter; `None` at every later call.
    pub(crate) fn take(&mut self, adapter: &str) -> Option<AdapterMode> {
        let kept = self.waiting.remove(adapter)?;
        Some(match kept {
            KeptMode::On => AdapterMode::On,
            KeptMode::Off => AdapterMode::Off,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned_profiles::write;

    #[test]
    fn modes_are_kept_until_they_are_auto_again() {
        let folder = std::env::temp_dir().join(format!("concertina-modes-{}", std::process::id()));
        let mut modes = Modes::read(&folder);
        let (path, text) = modes.set("a", Mode::Off).unwrap();
        assert_eq!(modes.set("a", Mode::Off), None);
        modes.set("b", Mode::On);
        write(&path, &text).unwrap();
        let mut again = Modes::read(&folder);
        assert_eq!(
            (again.take("a"), again.take("a"), again.take("b")),
            (Some(AdapterMode::Off), None, None)
        );
        let (path, text) = again.set("a", Mode::Auto).unwrap();
        write(&path, &text).unwrap();
        assert_eq!(Modes::read(&folder).take("a"), None);
        std::fs::write(&path, "not JSON").unwrap();
        assert_eq!(Modes::read(&folder).take("a"), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
