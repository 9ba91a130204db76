//! What the server writes down about itself, and where traces go.

use anyhow::ensure;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Logs and traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Form of the log: `text` or `json`.
    pub log_format: LogFormat,
    /// Whether every HTTP exchange gets a line in the log.
    pub access_log: bool,
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP, such as
    /// `http://127.0.0.1:4318`. No traces without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// New file that gets the arrival, rows and model of every request, for `concertina simulate`;
    /// what was measured of the adapters is written beside it, as `.toml`, when the server stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    /// Share of requests that are traced, 0 to 1. A caller's own decision goes before it.
    pub trace_share: f64,
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry {
            log_format: LogFormat::Text,
            access_log: false,
            otlp_endpoint: None,
            record: None,
            trace_share: 1.0,
        }
    }
}

impl Telemetry {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (0.0..=1.0).contains(&self.trace_share),
            "telemetry.trace_share must be between 0 and 1, not {}",
            self.trace_share
        );
        let plain = |endpoint: &str| endpoint.starts_with("http://");
        ensure!(
            self.otlp_endpoint.as_deref().is_none_or(plain),
            "telemetry.otlp_endpoint must begin with http:// (OTLP over HTTP, usually port 4318); \
             a collector that wants TLS needs a local one in between"
        );
        Ok(())
    }
}
