//! Default folders: those of the user for caches and runtime files, and that of the machine for
//! locks.
#![allow(clippy::disallowed_methods, reason = "with config the home of the environment")]

use etcetera::BaseStrategy;
use std::path::PathBuf;

/// The user's cache folder, or a temporary one without a home folder.
pub(crate) fn user_cache() -> PathBuf {
    let base = etcetera::choose_base_strategy().map(|strategy| strategy.cache_dir());
    base.unwrap_or_else(|_| std::env::temp_dir()).join("concertina")
}

/// The user's runtime folder, or a per-user folder in the temporary folder.
pub(crate) fn user_runtime() -> PathBuf {
    let strategy = etcetera::choose_base_strategy().ok();
    let runtime = strategy.and_then(|strategy| strategy.runtime_dir());
    if let Some(dir) = runtime.filter(|dir| dir.is_dir()) {
        return dir.join("concertina");
    }
    std::env::temp_dir().join(format!("concertina-{}", user()))
}

/// The folder in which programs of all users keep locks. It depends only on the machine: servers
/// exclude each other from adapters only if they use the same folder.
pub(crate) fn machine_locks() -> PathBuf {
    if cfg!(windows) {
        let data = std::env::var_os("ProgramData").map(PathBuf::from);
        return data.unwrap_or_else(std::env::temp_dir).join("concertina");
    }
    // Other platforms have no folder for locks. `/var/tmp` is kept over restarts, and is shared by
    // all users on macOS, where each user has a separate temporary folder.
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
