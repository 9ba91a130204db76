//! Asks a short-lived child which adapters there are, so that the server never loads a driver.

use crate::EngineConfig;
use crate::workers::children;
use adapter::entry::AdapterEntry;
use adapter::listing;
use anyhow::{Context, bail};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A sleeping card can take seconds to wake; a hung driver must not keep the CPU from serving.
const LISTING_MAX: Duration = Duration::from_secs(30);
/// Lines of the child's stderr that are logged.
const LINES_MAX: usize = 40;

/// Runs this program as the process that asks the drivers, and reads what it prints.
///
/// # Errors
/// If the child cannot be run, takes too long, crashes or prints something else.
pub(crate) async fn list(config: &EngineConfig) -> anyhow::Result<Vec<AdapterEntry>> {
    let mut command = Command::new(&config.executable);
    command.args(listing::ARGUMENTS).args(&config.live.lister_args);
    command.env_clear().envs(config.live.environment.iter().cloned()).env("NODEVICE_SELECT", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LISTING_MAX, children::output(&mut command)).await;
    let output = output.context("listing adapters took too long")?;
    let output = output.context("cannot run the child that lists adapters")?;
    let has_failed = !output.status.success();
    tell(&String::from_utf8_lossy(&output.stderr), has_failed);
    if has_failed {
        bail!("the child that lists adapters ended with {}", output.status);
    }
    listing::read(&output.stdout)
}

/// Logs what drivers printed: it matters to users only if the listing failed.
fn tell(stderr: &str, has_failed: bool) {
    for line in stderr.lines().filter(|line| !line.trim().is_empty()).take(LINES_MAX) {
        if has_failed {
            tracing::warn!("listing adapters: {line}");
        } else {
            tracing::debug!("listing adapters: {line}");
        }
    }
}
