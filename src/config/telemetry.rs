//! Settings of logs, traces and recordings.

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
    /// True if every HTTP exchange is logged.
    pub access_log: bool,
    /// Address of an OpenTelemetry collector for OTLP over HTTP, such as `http://127.0.0.1:4318`.
    /// Without it, no traces are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// New file for the arrival time, rows and model of every request, for `concertina simulate`.
    /// When the server stops, the measurements of the adapters are written beside it, as `.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    /// Share of requests that are traced, 0 to 1. The sampling decision of a caller takes
    /// precedence.
    pub trace_share: f64,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
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
             for a collector that requires TLS, run a local one in between"
        );
        Ok(())
    }
}
