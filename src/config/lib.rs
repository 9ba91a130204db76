//! Converts arguments, environment and file into `Config`, with all defaults, bounds and units.
//!
//! Precedence: flag, environment, file, default. All contradictions are found here, before anything
//! is opened. Only this crate reads the environment.

mod adapters;
mod args;
mod cache;
mod environment;
mod folders;
mod limits;
mod line;
mod listen;
mod live;
mod log_filter;
#[cfg(test)]
mod reference;
mod renamed;
mod telemetry;
mod test_options;
mod tls;

pub use adapters::{AdapterArgs, Adapters, PolicyName};
pub use args::ServeArgs;
pub use cache::Cache;
pub use environment::unknown_variables;
pub use limits::{Limits, Workers};
pub use line::CHANGEABLE;
pub use live::Changes;
pub use log_filter::log_filter;
pub use renamed::renamed_flag;
pub use telemetry::{LogFormat, Telemetry};
pub use test_options::TestOptions;
pub use tls::Tls;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All settings of the server, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An IP address, or `localhost`, and a port; `:8000` stands for all addresses.
    #[serde(deserialize_with = "listen::deserialize")]
    pub listen: SocketAddr,
    /// Allows to listen beyond loopback without an API key.
    pub allow_remote: bool,
    /// The one API key. Prefer `keys`, or `api_key_file`: the file of settings is often shared.
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// File that contains one API key, in place of `api_key`. It is read again when it changes.
    pub api_key_file: Option<PathBuf>,
    /// File of API keys and their scopes. It is read again when it changes.
    pub keys: Option<PathBuf>,
    /// Host names by which browsers may reach the server, in addition to addresses and local names.
    pub hosts: Vec<String>,
    /// Origins of other sites from which pages may use the server, as in `https://app.example`; `*` for
    /// all.
    pub allow_origins: Vec<String>,
    /// Model repository folder; without it, the built-in models are served.
    pub models: Option<PathBuf>,
    /// Interval of the search for new and changed models in the repository folder; zero for never.
    #[serde(with = "humantime_serde")]
    pub models_poll_interval: Duration,
    /// Autotune results and compiled shaders, one folder per adapter.
    pub cache_dir: PathBuf,
    /// Sockets of workers; only the user may enter.
    pub runtime_dir: PathBuf,
    /// Locks of adapters, for all users of the machine.
    pub lock_dir: PathBuf,
    /// Latency target of models without a target of their own. It determines how many adapters are
    /// on. Late answers are still sent. `slo` is another name of this setting.
    #[serde(with = "humantime_serde", alias = "slo")]
    pub latency_target: Duration,
    pub tls: Tls,
    pub cache: Cache,
    pub adapters: Adapters,
    pub limits: Limits,
    pub workers: Workers,
    pub telemetry: Telemetry,
    #[serde(skip_serializing_if = "TestOptions::is_empty")]
    pub test: TestOptions,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            allow_remote: false,
            api_key: None,
            api_key_file: None,
            keys: None,
            hosts: Vec::new(),
            allow_origins: Vec::new(),
            models: None,
            models_poll_interval: Duration::from_secs(2),
            cache_dir: folders::user_cache(),
            runtime_dir: folders::user_runtime(),
            lock_dir: folders::machine_locks(),
            latency_target: Duration::from_millis(100),
            tls: Tls::default(),
            cache: Cache::default(),
            adapters: Adapters::default(),
            limits: Limits::default(),
            workers: Workers::default(),
            telemetry: Telemetry::default(),
            test: TestOptions::default(),
        }
    }
}

impl Config {
    /// Combines arguments, environment (clap has read it into the arguments), file and defaults,
    /// and checks the result.
    ///
    /// # Errors
    /// An unreadable file, an unknown or wrong field, or settings that contradict each other.
    pub fn load(args: &ServeArgs) -> anyhow::Result<Config> {
        let mut config = match &args.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        renamed::check_variables()?;
        renamed::check_flags(args)?;
        config.apply(args);
        config.check()?;
        Ok(config)
    }

    /// Reads a file on top of the defaults, unchecked.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the config file {name}"))?;
        Config::parse(&text).with_context(|| format!("in the config file {name}"))
    }

    /// The settings of the text of a file on top of the defaults, unchecked.
    fn parse(text: &str) -> anyhow::Result<Config> {
        // Text that is not TOML is reported below, with its line.
        if let Ok(table) = toml::from_str(text) {
            renamed::check_table(&table)?;
        }
        Ok(toml::from_str(text)?)
    }

    /// Returns every adapter id that occurs in the settings.
    pub fn adapter_ids(&self) -> Vec<String> {
        let Adapters { only, exclude, name, power, memory, .. } = &self.adapters;
        let lists = only.iter().chain(exclude);
        let faulty = self.test.faults.iter().filter_map(|injection| injection.adapter.as_ref());
        let tested = self.test.slow.keys().chain(faulty);
        let ids = lists.chain(name.keys()).chain(power.keys()).chain(memory.keys()).chain(tested);
        ids.cloned().collect()
    }

    fn apply(&mut self, args: &ServeArgs) {
        let args = args.clone();
        set(&mut self.listen, args.listen);
        set(&mut self.cache_dir, args.cache_dir);
        set(&mut self.runtime_dir, args.runtime_dir);
        set(&mut self.lock_dir, args.lock_dir);
        set(&mut self.latency_target, args.latency_target.or(args.slo));
        set(&mut self.adapters.policy, args.policy);
        set(&mut self.adapters.min, args.adapters_min);
        set(&mut self.adapters.max, args.adapters_max);
        set(&mut self.adapters.target_rows, args.target_rows);
        set(&mut self.adapters.scale_down_delay, args.scale_down_delay);
        set(&mut self.adapters.scale_to_zero_delay, args.scale_to_zero_delay);
        self.adapters.apply(&args.adapters);
        set(&mut self.models_poll_interval, args.models_poll_interval);
        self.models = args.models.or(self.models.take());
        // A key on the command line replaces a key file in the settings, and the reverse.
        if args.api_key.is_some() || args.api_key_file.is_some() {
            (self.api_key, self.api_key_file) = (args.api_key, args.api_key_file);
        }
        self.keys = args.keys.or(self.keys.take());
        self.tls.certificate = args.tls_certificate.or(self.tls.certificate.take());
        self.tls.key = args.tls_key.or(self.tls.key.take());
        self.allow_remote |= args.allow_remote;
        // An empty environment variable results in one empty text.
        let origins: Vec<String> =
            args.allow_origins.into_iter().filter(|origin| !origin.is_empty()).collect();
        if !origins.is_empty() {
            self.allow_origins = origins;
        }
        set(&mut self.telemetry.log_format, args.log_format);
        self.telemetry.access_log |= args.access_log;
        let record = &mut self.telemetry.record;
        *record = args.record.or(record.take());
        let endpoint = &mut self.telemetry.otlp_endpoint;
        *endpoint = args.otlp_endpoint.or(endpoint.take());
    }

    fn check(&self) -> anyhow::Result<()> {
        self.adapters.check()?;
        limits::positive("latency_target", self.latency_target)?;
        let key = self.api_key.as_deref().is_some_and(|key| !key.is_empty());
        let key = key || self.keys.is_some() || self.api_key_file.is_some();
        ensure!(
            self.listen.ip().is_loopback() || key || self.allow_remote,
            "listening on {} is open to the whole network; set api_key or keys, or allow_remote",
            self.listen
        );
        ensure!(
            self.api_key.is_none() || self.api_key_file.is_none(),
            "api_key and api_key_file are both set; remove one of them"
        );
        ensure!(self.api_key.as_deref() != Some(""), "api_key is empty; remove it, or set a key");
        self.allow_origins.iter().try_for_each(|origin| check_origin(origin))?;
        self.tls.check()?;
        self.limits.check()?;
        self.test.check()?;
        self.telemetry.check()?;
        self.workers.check()
    }
}

/// Checks that an origin has the form that browsers send: a scheme, a host, and a port unless it is
/// the default of the scheme.
fn check_origin(origin: &str) -> anyhow::Result<()> {
    if origin == "*" {
        return Ok(());
    }
    let own = url::Url::parse(origin).map(|url| url.origin()).ok().filter(url::Origin::is_tuple);
    let Some(own) = own else {
        bail!(
            "allow_origins: '{origin}' is not an origin; write it as 'https://app.example' or '*'"
        )
    };
    let own = own.ascii_serialization();
    ensure!(own == origin, "allow_origins: '{origin}' is not an origin; write '{own}'");
    Ok(())
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config = Config::parse(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let folder = std::env::temp_dir().join(format!("concertina-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("c.toml");
        std::fs::write(&path, "listen = '127.0.0.1:1'\n[adapters]\nmin = 1\nmax = 3\n").unwrap();
        let args = ServeArgs { config: Some(path), adapters_max: Some(2), ..ServeArgs::default() };
        let config = Config::load(&args).unwrap();
        assert_eq!((config.adapters.min, config.adapters.max), (1, 2));
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.limits, Limits::default());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn printed_settings_can_be_read_again() {
        let config = Config::default();
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(parse(&printed).unwrap(), config);
    }

    #[test]
    fn keys_are_not_printed() {
        let config = Config { api_key: Some("secret".into()), ..Config::default() };
        assert!(!toml::to_string(&config).unwrap().contains("secret"));
    }

    #[test]
    fn contradictions_are_rejected_with_a_reason() {
        for (text, reason) in [
            ("[adapters]\nmin = 3\nmax = 2", "adapters.min is 3, but adapters.max is 2"),
            ("[adapters]\nmax = 0", "adapters.max is 0"),
            ("[adapters]\ntarget_rows = 0", "target_rows is 0"),
            ("[adapters]\nonly = ['a']\nexclude = ['a']", "both adapters.only"),
            ("listen = '0.0.0.0:8000'", "set api_key or keys, or allow_remote"),
            ("api_key = ''", "api_key is empty"),
            ("api_key = 'k'\napi_key_file = 'f'", "remove one of them"),
            ("[workers]\nenvironment = ['A=b']", "is not the name of a variable"),
            ("allow_origins = ['app.example']", "write it as 'https://app.example'"),
            ("allow_origins = ['data:x']", "is not an origin"),
            ("allow_origins = ['https://App.example:443/x']", "write 'https://app.example'"),
            ("[tls]\nkey = 'k.pem'", "tls.key is set, but tls.certificate is not"),
            ("[tls]\ncertificate = 'c.pem'", "tls.certificate is set, but tls.key is not"),
            ("[limits]\nhost_memory_bytes = 5", "could never be served"),
            ("[limits]\nconnections = 0", "limits.connections is 0"),
            ("[workers]\nheartbeat_timeout = '1ms'", "workers.heartbeat_timeout must be at least"),
            ("[workers]\nrun_timeout = '0s'", "workers.run_timeout is 0"),
            ("[workers]\nbackoff = '10m'", "above workers.backoff_max"),
            ("[workers]\nrun_timeout = 'soon'", "expected"),
            ("latency_target = '0s'", "latency_target is 0"),
            ("slo = '0s'", "latency_target is 0"),
            ("[telemetry]\ntrace_share = 2.0", "trace_share must be between 0 and 1"),
            ("[telemetry]\ntrace_share = nan", "trace_share must be between 0 and 1"),
            ("[telemetry]\notlp_endpoint = 'box:4317'", "must begin with http://"),
            ("[telemetry]\nlog_format = 'xml'", "unknown variant"),
            ("[adapters]\npolicy = 'vibes'", "unknown variant"),
            ("[adapters]\nstart_penalty_joules = -1.0", "start_penalty_joules must be between"),
            ("[adapters]\nstarts_per_hour_max = 0", "starts_per_hour_max is 0"),
            ("[adapters.power.cpu]\nidle = nan\nactive = 1\nstart = 1", "'cpu'.idle must be"),
            ("[adapters]\ncolour = 'red'", "unknown field `colour`"),
            ("listen = 'nowhere'", "socket address"),
            ("listen = ':8000'", "listening on 0.0.0.0:8000"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse("listen = '0.0.0.0:8000'\napi_key = 'k'").is_ok());
        assert!(parse("listen = '0.0.0.0:8000'\nallow_remote = true").is_ok());
        assert!(parse("listen = ':8000'\napi_key_file = 'key'").is_ok());
        assert!(parse("allow_origins = ['*', 'https://a.example', 'http://[::1]:3000']").is_ok());
    }
}
