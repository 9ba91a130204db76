//! The listing of adapters by a short-lived child process, so that the server never loads a driver.

use crate::EngineConfig;
use crate::workers::children;
use adapter::entry::AdapterEntry;
use adapter::listing;
use anyhow::{Context, bail};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Timeout of a listing: a suspended card can take seconds to wake, and a hung driver must not
/// prevent the CPU from serving.
const LISTING_MAX: Duration = Duration::from_secs(30);
/// Maximum number of lines of the child's stderr that are logged.
const LINES_MAX: usize = 40;

/// Runs this program as the process that queries the drivers, and parses its output.
///
/// # Errors
/// If the child cannot be run, times out, crashes or prints no valid list.
pub(crate) async fn list(config: &EngineConfig) -> anyhow::Result<Vec<AdapterEntry>> {
    let mut command = Command::new(&config.executable);
    command.args(listing::ARGUMENTS).args(&config.live.lister_args);
    // `NODEVICE_SELECT`: as in `launch.rs`, without the warnings of Mesa's layer.
    command.env_clear().envs(config.live.environment.iter().cloned()).env("NODEVICE_SELECT", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LISTING_MAX, children::output(&mut command)).await;
    let output = output.context("timeout of the child that lists adapters")?;
    let output = output.context("failed to run the child that lists adapters")?;
    let has_failed = !output.status.success();
    log_stderr(&String::from_utf8_lossy(&output.stderr), has_failed);
    if has_failed {
        bail!("the child that lists adapters ended with {}", output.status);
    }
    listing::read(&output.stdout)
}

/// Logs the output of drivers, which is relevant to users only if the listing failed.
fn log_stderr(stderr: &str, has_failed: bool) {
    for line in stderr.lines().filter(|line| !line.trim().is_empty()).take(LINES_MAX) {
        if has_failed {
            tracing::warn!("listing adapters: {line}");
        } else {
            tracing::debug!("listing adapters: {line}");
        }
    }
}
