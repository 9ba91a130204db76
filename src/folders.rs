//! Where the user's caches and runtime files go by default.
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

#[cfg(unix)]
fn user() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

#[cfg(not(unix))]
fn user() -> String {
    let name = std::env::var("USERNAME").unwrap_or_default();
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
