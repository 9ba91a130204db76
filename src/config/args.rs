//! Arguments of `serve`, which may also be given as environment variables.

use super::{AdapterArgs, LogFormat, PolicyName, listen};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `serve`, which may also be given as environment variables.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Address to listen on, as in `127.0.0.1:8000` or `localhost:8000`; `:8000`: all addresses
    #[arg(long, env = "CONCERTINA_LISTEN", value_name = "ADDR", value_parser = listen::parse)]
    pub listen: Option<SocketAddr>,
    /// Model repository folder; without it the built-in models are served
    #[arg(long, env = "CONCERTINA_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Interval of the search for new and changed models in the repository folder; `0s`: never
    #[arg(long, env = "CONCERTINA_MODELS_POLL_INTERVAL", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub models_poll_interval: Option<Duration>,
    /// TOML file with settings
    #[arg(long, env = "CONCERTINA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for caches; by default the user's cache folder
    #[arg(long, env = "CONCERTINA_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Folder for sockets, which only the user may enter; by default the user's runtime folder
    #[arg(long, env = "CONCERTINA_RUNTIME_DIR", value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Folder for locks of adapters, which all users of the machine share; by default `/run/lock` on
    /// Linux
    #[arg(long, env = "CONCERTINA_LOCK_DIR", value_name = "DIR")]
    pub lock_dir: Option<PathBuf>,
    #[command(flatten)]
    pub adapters: AdapterArgs,
    /// Priority: `latency`, `balanced`, `energy`, or the plain rule `concurrency`
    #[arg(long, env = "CONCERTINA_POLICY", value_name = "NAME")]
    pub policy: Option<PolicyName>,
    /// Latency target of models without a target of their own, as in `100ms`
    #[arg(long, env = "CONCERTINA_LATENCY_TARGET", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub latency_target: Option<Duration>,
    /// Another name of `latency_target`
    #[arg(long, env = "CONCERTINA_SLO", hide = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub slo: Option<Duration>,
    /// Adapters that stay on without any load
    #[arg(long, env = "CONCERTINA_ADAPTERS_MIN", value_name = "N")]
    pub adapters_min: Option<usize>,
    /// Maximum number of adapters that may be on
    #[arg(long, env = "CONCERTINA_ADAPTERS_MAX", value_name = "N")]
    pub adapters_max: Option<usize>,
    /// Outstanding rows that one adapter should carry (`concurrency`)
    #[arg(long, env = "CONCERTINA_TARGET_ROWS", value_name = "N")]
    pub target_rows: Option<u64>,
    /// Duration of a surplus before an adapter is turned off, as in `10s` (`concurrency`)
    #[arg(long, env = "CONCERTINA_SCALE_DOWN_DELAY", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub scale_down_delay: Option<Duration>,
    /// The same for the last adapter that is on (`concurrency`)
    #[arg(long, env = "CONCERTINA_SCALE_TO_ZERO_DELAY", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub scale_to_zero_delay: Option<Duration>,
    /// Key that clients must send (`Authorization: Bearer KEY` or `X-API-Key: KEY`); every user of
    /// this machine can read arguments, so prefer `--api-key-file`
    #[arg(long, env = "CONCERTINA_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// File that contains this key
    #[arg(long, env = "CONCERTINA_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// TOML file of API keys and their scopes; see `concertina key`
    #[arg(long, env = "CONCERTINA_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// PEM file of the server's certificate chain; enables HTTPS
    #[arg(long, env = "CONCERTINA_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, env = "CONCERTINA_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond loopback without an API key
    #[arg(long, env = "CONCERTINA_ALLOW_REMOTE")]
    pub allow_remote: bool,
    /// Origin of another site from which pages may use the server, as in `https://app.example`; may be
    /// given several times; `*` for all
    #[arg(long, env = "CONCERTINA_ALLOW_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origins: Vec<String>,
    /// Format of the log: `text` or `json`
    #[arg(long, env = "CONCERTINA_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log every HTTP exchange
    #[arg(long, env = "CONCERTINA_ACCESS_LOG")]
    pub access_log: bool,
    /// OpenTelemetry collector that receives a span per request, as in `http://127.0.0.1:4318`
    #[arg(long, env = "CONCERTINA_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// New CSV file for the arrival times, rows and models of requests; see `concertina simulate`
    #[arg(long, env = "CONCERTINA_RECORD", value_name = "FILE.csv")]
    pub record: Option<PathBuf>,
    /// Print the settings in force as TOML and exit
    #[arg(long)]
    pub print_config: bool,
}
