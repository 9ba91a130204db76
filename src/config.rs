//! Arguments + environment + file -> `Config`: every default, bound and unit.
//!
//! Precedence: flag, then environment, then file, then default. All contradictions die here,
//! before anything is opened. Nothing but this and `folders` reads the environment.

use crate::adapter::select::{CpuRule, Rules, Software};
use crate::folders;
use crate::wire;
use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What may be said on the command line of `serve`, or in the environment.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, env = "CONCERTINA_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Model repository folder; without it the built-in models are served
    #[arg(long, env = "CONCERTINA_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// TOML file with settings
    #[arg(long, env = "CONCERTINA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for caches; by default the user's cache folder
    #[arg(long, env = "CONCERTINA_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub adapters: AdapterArgs,
    /// Adapters that stay on without any load
    #[arg(long, env = "CONCERTINA_ADAPTERS_MIN", value_name = "N")]
    pub adapters_min: Option<usize>,
    /// Adapters that may be on
    #[arg(long, env = "CONCERTINA_ADAPTERS_MAX", value_name = "N")]
    pub adapters_max: Option<usize>,
    /// Outstanding rows that one adapter should carry
    #[arg(long, env = "CONCERTINA_TARGET_ROWS", value_name = "N")]
    pub target_rows: Option<u64>,
    /// How long a surplus lasts before an adapter is turned off, as in `10s`
    #[arg(long, env = "CONCERTINA_SCALE_DOWN_DELAY", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub scale_down_delay: Option<Duration>,
    /// The same for the last adapter that is on
    #[arg(long, env = "CONCERTINA_SCALE_TO_ZERO_DELAY", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub scale_to_zero_delay: Option<Duration>,
    /// Key that clients must send (`Authorization: Bearer KEY` or `X-API-Key: KEY`)
    #[arg(long, env = "CONCERTINA_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Listen beyond loopback without an API key
    #[arg(long, env = "CONCERTINA_ALLOW_REMOTE")]
    pub allow_remote: bool,
    /// Print the settings in force as TOML and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Which adapters may be used; shared by `serve` and `adapters`.
#[derive(Args, Clone, Debug, Default)]
pub struct AdapterArgs {
    /// Use software adapters such as llvmpipe: `deny` or `allow`
    #[arg(long, env = "CONCERTINA_SOFTWARE_ADAPTERS", value_name = "WHEN")]
    pub software_adapters: Option<Software>,
    /// Use the CPU: `auto` (while no other adapter is usable), `always` or `never`
    #[arg(long, env = "CONCERTINA_CPU", value_name = "WHEN")]
    pub cpu: Option<CpuRule>,
    /// Use OpenGL adapters
    #[arg(long, env = "CONCERTINA_GL", value_name = "BOOL")]
    pub gl: Option<bool>,
    /// Use only this adapter; may be given several times
    #[arg(long, value_name = "ID")]
    pub only: Vec<String>,
    /// Do not use this adapter; may be given several times
    #[arg(long, value_name = "ID")]
    pub exclude: Vec<String>,
}

/// Every setting of the server, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listen: SocketAddr,
    /// Listening beyond loopback needs this or an API key.
    pub allow_remote: bool,
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// Host names that browsers may reach the server by, beside addresses and local names.
    pub hosts: Vec<String>,
    /// Model repository folder; the built-in models without it.
    pub models: Option<PathBuf>,
    /// Autotune results and compiled shaders, one folder per adapter.
    pub cache_dir: PathBuf,
    /// Sockets and locks; only the user may enter.
    pub runtime_dir: PathBuf,
    pub adapters: Adapters,
    pub limits: Limits,
    pub workers: Workers,
}

/// Which adapters serve, and how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adapters {
    /// Adapters that stay on without any load; 0 turns all off.
    pub min: usize,
    /// Adapters that may be on.
    pub max: usize,
    /// Outstanding rows that one adapter should carry.
    pub target_rows: u64,
    /// How long there must be a surplus before one adapter is turned off.
    #[serde(with = "humantime_serde")]
    pub scale_down_delay: Duration,
    /// The same for the last adapter that is on.
    #[serde(with = "humantime_serde")]
    pub scale_to_zero_delay: Duration,
    pub software: Software,
    pub cpu: CpuRule,
    /// Threads of the CPU adapter; 0 means all.
    pub cpu_threads: usize,
    pub gl: bool,
    /// Ids of the adapters to use; all if empty.
    pub only: Vec<String>,
    /// Ids of adapters not to use.
    pub exclude: Vec<String>,
}

/// Bounds on what clients may ask of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one request's body.
    pub body_bytes: usize,
    /// Bytes of one request's header lines.
    pub header_bytes: usize,
    /// Connections open at once.
    pub connections: usize,
    /// From the first byte of a request to the end of its header lines.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// From the end of the header lines to the end of the body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a client may leave an answer unread.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Event streams open at once.
    pub event_streams: usize,
    /// Requests that may wait for an adapter.
    pub queue_requests: usize,
    /// Rows that may wait for an adapter.
    pub queue_rows: u64,
    /// Host memory for queued inputs and unsent answers, in bytes.
    pub held_bytes: usize,
    /// How long admitted requests may go on after the signal to stop.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

/// Patience with workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Between two signs of life of a worker's link.
    #[serde(with = "humantime_serde")]
    pub silence: Duration,
    /// Between two signs of progress while a worker starts. Tuning kernels for a new adapter can
    /// take most of a minute for a single shape.
    #[serde(with = "humantime_serde")]
    pub start: Duration,
    /// From handing over a batch to its answer.
    #[serde(with = "humantime_serde")]
    pub run: Duration,
    /// From asking a worker to exit to killing it.
    #[serde(with = "humantime_serde")]
    pub stop: Duration,
    /// From killing a worker to giving up on its process.
    #[serde(with = "humantime_serde")]
    pub reap: Duration,
    /// How often a request may run again after it was lost with its worker.
    pub retries: u32,
    /// Wait after an adapter's first fault; doubles with every further one in a row.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// Requests wait for a quarantined adapter if it is tried again within this time.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            allow_remote: false,
            api_key: None,
            hosts: Vec::new(),
            models: None,
            cache_dir: folders::user_cache(),
            runtime_dir: folders::user_runtime(),
            adapters: Adapters::default(),
            limits: Limits::default(),
            workers: Workers::default(),
        }
    }
}

impl Default for Adapters {
    fn default() -> Adapters {
        Adapters {
            min: 0,
            max: 64,
            target_rows: 2,
            scale_down_delay: Duration::from_secs(10),
            scale_to_zero_delay: Duration::from_secs(60),
            software: Software::Deny,
            cpu: CpuRule::Auto,
            cpu_threads: 0,
            gl: false,
            only: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 64 << 20,
            header_bytes: 64 << 10,
            connections: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            event_streams: 64,
            queue_requests: 10_000,
            queue_rows: 100_000,
            held_bytes: 1 << 30,
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers {
            silence: Duration::from_secs(5),
            start: Duration::from_secs(180),
            run: Duration::from_secs(60),
            stop: Duration::from_secs(3),
            reap: Duration::from_secs(5),
            retries: 3,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            patience: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Puts arguments, environment (clap has read it into the arguments), file and defaults
    /// together and checks the result.
    ///
    /// # Errors
    /// An unreadable file, an unknown or wrong field, or settings that contradict each other.
    pub fn load(args: &ServeArgs) -> anyhow::Result<Config> {
        let mut config = match &args.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.apply(args);
        config.check()?;
        Ok(config)
    }

    /// Reads a file on top of the defaults, unchecked.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file {name}"))?;
        toml::from_str(&text).with_context(|| format!("in the config file {name}"))
    }

    fn apply(&mut self, args: &ServeArgs) {
        let args = args.clone();
        set(&mut self.listen, args.listen);
        set(&mut self.cache_dir, args.cache_dir);
        set(&mut self.adapters.min, args.adapters_min);
        set(&mut self.adapters.max, args.adapters_max);
        set(&mut self.adapters.target_rows, args.target_rows);
        set(&mut self.adapters.scale_down_delay, args.scale_down_delay);
        set(&mut self.adapters.scale_to_zero_delay, args.scale_to_zero_delay);
        self.adapters.apply(&args.adapters);
        self.models = args.models.or(self.models.take());
        self.api_key = args.api_key.or(self.api_key.take());
        self.allow_remote |= args.allow_remote;
    }

    fn check(&self) -> anyhow::Result<()> {
        let Adapters { min, max, target_rows, ref only, ref exclude, .. } = self.adapters;
        ensure!(max >= 1, "adapters.max is 0: nothing could ever serve; set it to 1 or more");
        ensure!(min <= max, "adapters.min is {min}, but adapters.max is {max}");
        ensure!(target_rows >= 1, "adapters.target_rows is 0; set it to 1 or more");
        if let Some(id) = only.iter().find(|id| exclude.contains(id)) {
            bail!("adapter '{id}' is named in both adapters.only and adapters.exclude");
        }
        let key = self.api_key.as_deref().is_some_and(|key| !key.is_empty());
        ensure!(
            self.listen.ip().is_loopback() || key || self.allow_remote,
            "listening on {} would let anyone on the network in: set api_key, or allow_remote",
            self.listen
        );
        ensure!(
            self.api_key.as_deref() != Some(""),
            "api_key is empty: leave it out, or set a key"
        );
        self.limits.check()?;
        self.workers.check()
    }
}

impl Adapters {
    /// Takes what was said on the command line.
    pub fn apply(&mut self, args: &AdapterArgs) {
        set(&mut self.software, args.software_adapters);
        set(&mut self.cpu, args.cpu);
        set(&mut self.gl, args.gl);
        set(&mut self.only, Some(args.only.clone()).filter(|ids| !ids.is_empty()));
        set(&mut self.exclude, Some(args.exclude.clone()).filter(|ids| !ids.is_empty()));
    }

    /// The same as rules for choosing among the adapters found.
    pub fn rules(&self) -> Rules {
        Rules {
            software: self.software,
            gl: self.gl,
            cpu: self.cpu,
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            ..Rules::default()
        }
    }

    /// The same as arguments of `concertina adapters`.
    pub fn as_arguments(&self) -> Vec<String> {
        let software = if self.software == Software::Allow { "allow" } else { "deny" };
        let cpu = match self.cpu {
            CpuRule::Auto => "auto",
            CpuRule::Always => "always",
            CpuRule::Never => "never",
        };
        let mut arguments = vec![
            format!("--software-adapters={software}"),
            format!("--cpu={cpu}"),
            format!("--gl={}", self.gl),
        ];
        arguments.extend(self.only.iter().map(|id| format!("--only={id}")));
        arguments.extend(self.exclude.iter().map(|id| format!("--exclude={id}")));
        arguments
    }
}

impl Limits {
    fn check(&self) -> anyhow::Result<()> {
        let counts = [
            ("body_bytes", self.body_bytes),
            ("connections", self.connections),
            ("queue_requests", self.queue_requests),
            ("queue_rows", usize::try_from(self.queue_rows).unwrap_or(usize::MAX)),
        ];
        for (name, value) in counts {
            ensure!(value >= 1, "limits.{name} is 0: nothing could be served");
        }
        // hyper refuses less than this.
        ensure!(self.header_bytes >= 8192, "limits.header_bytes must be at least 8192");
        ensure!(
            self.held_bytes >= self.body_bytes,
            "limits.held_bytes ({}) is less than limits.body_bytes ({}): the largest request \
             could never be served",
            self.held_bytes,
            self.body_bytes
        );
        // A batch cannot be larger than what is held, and the wire carries no larger one.
        ensure!(
            self.held_bytes as u64 <= wire::BODY_MAX,
            "limits.held_bytes is above {} bytes, the most that one batch may have",
            wire::BODY_MAX
        );
        positive("limits.header_timeout", self.header_timeout)?;
        positive("limits.body_timeout", self.body_timeout)?;
        positive("limits.write_timeout", self.write_timeout)
    }
}

impl Workers {
    fn check(&self) -> anyhow::Result<()> {
        // Four heartbeats fit into the silence bound; below this the machine's own scheduling
        // would look like a dead worker.
        ensure!(
            self.silence >= Duration::from_millis(200),
            "workers.silence must be at least 200ms"
        );
        ensure!(self.backoff <= self.backoff_max, "workers.backoff is above workers.backoff_max");
        positive("workers.start", self.start)?;
        positive("workers.run", self.run)?;
        positive("workers.stop", self.stop)?;
        positive("workers.reap", self.reap)?;
        positive("workers.backoff", self.backoff)
    }
}

fn positive(name: &str, value: Duration) -> anyhow::Result<()> {
    ensure!(!value.is_zero(), "{name} is 0: nothing could ever be in time");
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
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
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
    fn printed_settings_read_back() {
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
    fn contradictions_are_refused_with_a_reason() {
        for (text, reason) in [
            ("[adapters]\nmin = 3\nmax = 2", "adapters.min is 3, but adapters.max is 2"),
            ("[adapters]\nmax = 0", "adapters.max is 0"),
            ("[adapters]\ntarget_rows = 0", "target_rows is 0"),
            ("[adapters]\nonly = ['a']\nexclude = ['a']", "both adapters.only"),
            ("listen = '0.0.0.0:8000'", "set api_key, or allow_remote"),
            ("api_key = ''", "api_key is empty"),
            ("[limits]\nheld_bytes = 5", "could never be served"),
            ("[limits]\nconnections = 0", "limits.connections is 0"),
            ("[workers]\nsilence = '1ms'", "workers.silence"),
            ("[workers]\nrun = '0s'", "workers.run is 0"),
            ("[workers]\nbackoff = '10m'", "above workers.backoff_max"),
            ("[workers]\nrun = 'soon'", "expected"),
            ("[adapters]\ncolour = 'red'", "unknown field `colour`"),
            ("listen = 'nowhere'", "socket address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse("listen = '0.0.0.0:8000'\napi_key = 'k'").is_ok());
        assert!(parse("listen = '0.0.0.0:8000'\nallow_remote = true").is_ok());
    }
}
