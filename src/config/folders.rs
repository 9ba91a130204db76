//! Default folders: those of the user for caches and runtime files, and the one of the machine for
//! locks.
#![allow(clippy::disallowed_methods, reason = "with config the home of the environment")]

use etcetera::BaseStrategy;
use std::path::PathBuf;

/// The user's cache folder, or the temporary one where there is no home.
pub(crate) fn user_cache() -> PathBuf {
    let base = etcetera::choose_base_strategy().map(|strategy| strategy.cache_dir());
    base.unwrap_or_else(|_| std::env::temp_dir()).join("concertina")
}

/// The user's runtime folder, or one of his own under the temporary folder.
pub(crate) fn user_runtime() -> PathBuf {
    let strategy = etcetera::choose_base_strategy().ok();
    let runtime = strategy.and_then(|strategy| strategy.runtime_dir());
    if let Some(dir) = runtime.filter(|dir| dir.is_dir()) {
        return dir.join("concertina");
    }
    std::env::temp_dir().join(format!("concertina-{}", user()))
}

/// The folder in which programs of all users keep locks. It depends on the machine alone: servers
/// exclude each other from adapters only if they use the same one.
pub(crate) fn machine_locks() -> PathBuf {
    if cfg!(windows) {
        let data = std::env::var_os("ProgramData").map(PathBuf::from);
        return data.unwrap_or_else(std::env::temp_dir).join("concertina");
    }
    // Elsewhere no folder is meant for locks alone. `/var/tmp` is kept over restarts, and is one for
    // all users on macOS, where each has a temporary folder of its own.
    PathBuf::from(if cfg!(target_os = "linux") { "/run/lock" } else { "/var/tmp" })
}

#[cfg(unix)]
fn user() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user() -> String {
    let name = std::env::var("USERNAME").unwrap_or_default();
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
