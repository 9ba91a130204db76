//! Asks a short-lived child which adapters there are, so that the server never loads a driver.

use crate::adapter::entry::AdapterEntry;
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A sleeping card can take seconds to wake; a hung driver must not keep the CPU from serving.
const LISTING_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Listing {
    adapters: Vec<AdapterEntry>,
}

/// Runs `<executable> adapters --json …` and reads what it prints.
///
/// # Errors
/// If the child cannot be run, takes too long, crashes or prints something else.
pub(super) async fn list(executable: &Path, args: &[String]) -> anyhow::Result<Vec<AdapterEntry>> {
    let mut command = Command::new(executable);
    command.args(["adapters", "--json"]).args(args).env("NODEVICE_SELECT", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LISTING_MAX, command.output()).await;
    let output = output.context("listing adapters took too long")?;
    let output = output.context("cannot run the child that lists adapters")?;
    ensure!(output.status.success(), "the child that lists adapters ended with {}", output.status);
    // Drivers may print before and behind our lines.
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.find("{\"adapters\"").or_else(|| text.find('{')).unwrap_or_default();
    let mut values = serde_json::Deserializer::from_str(&text[json..]).into_iter::<Listing>();
    let listing = values.next().context("the child that lists adapters printed no list")?;
    Ok(listing.context("the list of adapters does not parse")?.adapters)
}
