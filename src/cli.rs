//! The command line: one function per subcommand, and the only place that prints.
#![allow(clippy::print_stdout, reason = "what a command is asked for goes to stdout")]

use crate::adapter::child::{PROBE_LIMIT_DEFAULT, probe_all, probe_one};
use crate::adapter::command::{render_json, render_table};
use crate::adapter::entry::warn_of_unknown;
use crate::adapter::list;
use crate::adapter::select::select;
use crate::api::keys::{self, KeyRing, Keys, Scope};
use crate::api::tls::{self, Tls};
use crate::api::{self, ApiLimits, Current};
use crate::config::{AdapterArgs, Config, Limits, LogFormat, ServeArgs, Workers};
use crate::engine::{self, Assumptions, Catalogue, EngineConfig, Library};
use crate::model::{Found, Registry, Repository, onnx, table};
use crate::progress::Terminal;
use crate::schedule::{Bounds, Settings};
use crate::signals::{Followed, Signals};
use crate::simulate::{self, SimulateArgs};
use crate::telemetry::{Recorder, Snapshot, Traces};
use crate::top::{self, TopArgs};
use crate::worker;
use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Elastic model serving on every GPU in the box
#[derive(Parser)]
#[command(name = "concertina", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over HTTP
    Serve(Box<ServeArgs>),
    /// List every adapter, and why those not used are not
    Adapters(AdaptersArgs),
    /// List the models of a repository and check them
    Models(ModelsArgs),
    /// Watch a running server in the terminal
    Top(TopArgs),
    /// Make an API key: it goes to stderr, and to stdout what goes into the file of keys
    Key(KeyArgs),
    /// Try elastic policies on a recorded trace, in virtual time
    Simulate(SimulateArgs),
    /// What `serve` starts for each adapter that is on
    #[command(hide = true)]
    Worker,
}

#[derive(clap::Args)]
struct AdaptersArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Check every adapter and measure its speed; this opens it
    #[arg(long)]
    probe: bool,
    /// What `--probe` starts for each adapter
    #[arg(long, hide = true, value_name = "ID")]
    probe_one: Option<String>,
    /// TOML file with settings
    #[arg(long, env = "CONCERTINA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    adapters: AdapterArgs,
}

#[derive(clap::Args)]
struct KeyArgs {
    /// Who it is for
    #[arg(long)]
    name: String,
    /// What it may do: `infer`, `read`, `admin`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scope)]
    scopes: Vec<Scope>,
}

fn scope(text: &str) -> Result<Scope, String> {
    let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
    found.ok_or_else(|| "the scopes are infer, read and admin".to_owned())
}

#[derive(clap::Args)]
struct ModelsArgs {
    /// Model repository folder; without it the built-in models are listed
    #[arg(long, env = "CONCERTINA_MODELS", value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// Say what an ONNX file takes, gives and costs, and whether all of it is supported
    Check {
        #[arg(value_name = "FILE.onnx")]
        file: PathBuf,
        /// Also time the kinds of steps, on the CPU
        #[arg(long)]
        profile: bool,
    },
}

/// Runs the program: parses the command line and does what it says.
///
/// A program with models of its own registers them and calls this from `main`; the same
/// executable is started again for each adapter that is on, so nothing may happen before.
pub fn run(registry: Registry) -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve(&args, &registry).map(|()| ExitCode::SUCCESS),
        Command::Adapters(args) => adapters(&args).map(|()| ExitCode::SUCCESS),
        Command::Models(args) => models(&args, &registry),
        Command::Key(args) => key(&args).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate(&args).map(|()| ExitCode::SUCCESS),
        Command::Top(args) => watch(&args).map(|()| ExitCode::SUCCESS),
        Command::Worker => {
            log_as_worker();
            Ok(worker::run(registry))
        }
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        if !tracing::event_enabled!(tracing::Level::ERROR) {
            complain(&error);
        }
        ExitCode::FAILURE
    })
}

/// For errors that come before, or without, a log.
#[allow(clippy::print_stderr, reason = "the last resort of a command that fails")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn serve(args: &ServeArgs, registry: &Registry) -> anyhow::Result<()> {
    let config = Config::load(args)?;
    if args.print_config {
        println!("{}", toml::to_string(&config).context("cannot print the settings")?.trim_end());
        return Ok(());
    }
    let terminal = Terminal::default();
    log_as_server(&terminal, config.telemetry.log_format);
    config.test.warn();
    let repository = repository(config.models.as_ref())?;
    let library = Library { repository, kinds: registry.kinds() };
    let catalogue = catalogue(&library);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let traces = traces(&config)?;
    let serving = serve_until_told(config, catalogue, library, (terminal, traces.clone()));
    let outcome = runtime.block_on(serving);
    traces.shut_down();
    // Workers are gone; a thread that is stuck in the system must not keep us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve_until_told(
    config: Config,
    catalogue: Catalogue,
    library: Library,
    (terminal, traces): (Terminal, Traces),
) -> anyhow::Result<()> {
    // Before anyone can know that the server is there, and end it.
    let mut signals = Signals::catch()?;
    let (keys, tls) = (keys_in_force(&config)?, tls_in_force(&config)?);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let names: Vec<_> = catalogue.served().map(|model| model.name.clone()).collect();
    let (engine, mut driver) = engine::start(engine_config(&config)?, catalogue, library)?;
    tracing::info!("serving {} on {scheme}://{address}", listed(&names));
    tokio::spawn(terminal.follow(engine.snapshots()));
    if config.models.is_some() && !config.models_poll.is_zero() {
        tokio::spawn(engine.clone().follow_repository(config.models_poll));
    }
    let stop = CancellationToken::new();
    let limits = api_limits(&config, keys, tls);
    let stopping = stop.clone().cancelled_owned();
    let mut serving = tokio::spawn(api::serve(listener, engine.clone(), traces, limits, stopping));
    tokio::select! {
        () = signals.next() => {}
        // Neither ends by itself: better no server than one that only looks alive.
        ended = &mut driver => bail!("the engine ended: {ended:?}"),
        ended = &mut serving => bail!("the HTTP side ended: {ended:?}"),
    }
    tracing::info!("stopping: finishing what was admitted");
    stop.cancel();
    engine.shut_down().await;
    let Workers { stop: stopping, reap, .. } = config.workers;
    let patience = config.limits.shutdown_grace.saturating_add(stopping).saturating_add(reap);
    tokio::select! {
        _ = async { tokio::join!(serving, driver) } => tracing::info!("stopped"),
        () = tokio::time::sleep(patience.saturating_add(Duration::from_secs(1))) => {
            tracing::warn!("stopped with a worker that would not go");
        }
        () = signals.next() => tracing::warn!("stopped at once"),
    }
    if let Some(trace) = &config.telemetry.record {
        write_mix(&engine.snapshots().borrow(), &trace.with_extension("toml"));
    }
    Ok(())
}

fn listed(models: &[String]) -> String {
    match models {
        [] => "no model yet".to_owned(),
        models => models.join(", "),
    }
}

/// Writes what was measured of the adapters beside the trace that was recorded.
fn write_mix(snapshot: &Snapshot, path: &Path) {
    let mix = toml::to_string(&simulate::Mix::recorded(snapshot)).context("it has no form in TOML");
    let written = mix.and_then(|text| std::fs::write(path, text).context("cannot write it"));
    match written {
        Ok(()) => tracing::info!("the adapters are described in {}", path.display()),
        Err(error) => {
            tracing::warn!("no description of the adapters in {}: {error:#}", path.display())
        }
    }
}

fn traces(config: &Config) -> anyhow::Result<Traces> {
    let telemetry = &config.telemetry;
    match &telemetry.otlp_endpoint {
        Some(endpoint) => Traces::to(endpoint, telemetry.trace_share),
        None => Ok(Traces::default()),
    }
}

fn engine_config(config: &Config) -> anyhow::Result<EngineConfig> {
    let rules = config.adapters.rules();
    let executable = std::env::current_exe().context("cannot find our own executable")?;
    Ok(EngineConfig {
        settings: settings(config),
        executable,
        lister_args: config.adapters.as_arguments(),
        named_adapters: config.adapter_ids(),
        entries_without_listing: select(&[list::cpu_facts()], &rules),
        cache_dir: config.cache_dir.clone(),
        runtime_dir: config.runtime_dir.clone(),
        cpu_threads: config.adapters.cpu_threads,
        assumptions: Assumptions {
            power: config.adapters.power.clone(),
            memory: config.adapters.memory.clone(),
        },
        slo: config.slo,
        held_bytes_max: config.limits.held_bytes,
        shutdown_grace: config.limits.shutdown_grace,
        recorder: config.telemetry.record.as_deref().map(Recorder::create).transpose()?,
        check: config.workers.check,
        all_uevents: config.test.all_uevents,
        confine: config.workers.confine,
        slow: config.test.slow.clone(),
        faults: config.test.faults.clone(),
    })
}

fn settings(config: &Config) -> Settings {
    let adapters = &config.adapters;
    let Limits { queue_requests, queue_rows, .. } = config.limits;
    let Workers {
        silence, start, run, stop, reap, retries, backoff, backoff_max, patience, ..
    } = config.workers;
    Settings {
        policy: adapters.policy(),
        min: adapters.min,
        max: adapters.max,
        queue_requests_max: queue_requests,
        queue_rows_max: queue_rows,
        retries_max: retries,
        backoff,
        backoff_max,
        patience,
        bounds: Bounds { silence, start, run, stop, reap },
    }
}

fn api_limits(config: &Config, keys: KeyRing, tls: Option<Tls>) -> ApiLimits {
    let limits = &config.limits;
    ApiLimits {
        body_bytes_max: limits.body_bytes,
        bodies_bytes_max: limits.held_bytes,
        connections_max: limits.connections,
        event_streams_max: limits.event_streams,
        headers_bytes_max: limits.header_bytes,
        header_timeout: limits.header_timeout,
        body_timeout: limits.body_timeout,
        write_timeout: limits.write_timeout,
        shutdown_grace: limits.shutdown_grace,
        keys,
        tls,
        hosts: config.hosts.clone(),
        access_log: config.telemetry.access_log,
    }
}

fn read_keys(config: &Config) -> anyhow::Result<Keys> {
    let one = config.api_key.as_deref();
    config.keys.as_ref().map_or_else(|| Ok(Keys::one(one)), |path| Keys::read(path, one))
}

/// What `read` gives now, and again when one of the files changes.
fn followed<T: Send + Sync + 'static>(
    what: &'static str,
    files: Vec<PathBuf>,
    read: impl Fn() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<Current<T>> {
    let files = Followed::new(files)?;
    let current = Current::new(read()?);
    let kept = current.clone();
    tokio::spawn(files.follow(what, move || read().map(|new| kept.replace(new))));
    Ok(current)
}

fn keys_in_force(config: &Config) -> anyhow::Result<KeyRing> {
    let (files, config) = (config.keys.iter().cloned().collect(), config.clone());
    followed("the API keys", files, move || read_keys(&config))
}

fn tls_in_force(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Some((certificate, key)) = config.tls.files() else { return Ok(None) };
    let files = vec![certificate.clone(), key.clone()];
    let read = move || tls::read(&certificate, &key);
    followed("the certificate and its key", files, read).map(Some)
}

#[allow(clippy::print_stderr, reason = "the key is not for where stdout goes")]
fn key(args: &KeyArgs) -> anyhow::Result<()> {
    let (key, entry) = keys::make(&args.name, &args.scopes)?;
    // Apart, so that `>> keys.toml` takes what belongs there.
    eprintln!("{key}");
    println!("{}", entry.trim_end());
    Ok(())
}

fn simulate(args: &SimulateArgs) -> anyhow::Result<()> {
    log_as_worker();
    println!("{}", simulate::command(args)?.trim_end());
    Ok(())
}

/// Reads the repository: what can be served, and what cannot with its reason.
fn catalogue(library: &Library) -> Catalogue {
    let catalogue = Catalogue::new(library.repository.scan(&library.kinds));
    for bad in catalogue.broken() {
        tracing::warn!(model = %bad.name, "cannot be served: {}", bad.error);
    }
    if catalogue.served().next().is_none() {
        tracing::warn!("there is no model to serve yet: put one into the folder of models");
    }
    catalogue
}

fn repository(folder: Option<&PathBuf>) -> anyhow::Result<Repository> {
    match folder {
        Some(folder) => Repository::open(folder).context("cannot open the model repository"),
        None => Ok(Repository::embedded()),
    }
}

fn adapters(args: &AdaptersArgs) -> anyhow::Result<()> {
    log_as_worker();
    if let Some(id) = &args.probe_one {
        println!("{}", serde_json::to_string(&probe_one(id))?);
        return Ok(());
    }
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.adapters.apply(&args.adapters);
    let rules = config.adapters.rules();
    let mut entries = list::list(&rules);
    warn_of_unknown(&entries, &config.adapter_ids());
    if args.probe {
        let executable = std::env::current_exe().context("cannot find our own executable")?;
        probe_all(&mut entries, &executable, PROBE_LIMIT_DEFAULT);
    }
    if args.json {
        println!("{}", render_json(&entries)?);
    } else {
        println!("{}", render_table(&entries));
    }
    Ok(())
}

fn models(args: &ModelsArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    log_as_worker();
    if let Some(ModelsCommand::Check { file, profile }) = &args.command {
        let said = onnx::check(file, *profile).map_err(anyhow::Error::msg)?;
        println!("{}", said.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let found = repository(args.models.as_ref())?.scan(&registry.kinds());
    println!("{}", table(&found));
    let broken = found.iter().any(|found| matches!(found, Found::Bad(_)));
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn watch(args: &TopArgs) -> anyhow::Result<()> {
    // A log would write into the live view.
    if !args.is_live() {
        log_as_worker();
    }
    if let Some(frame) = top::run(args)? {
        print!("{frame}");
    }
    Ok(())
}

/// The server's log, on stderr: `CONCERTINA_LOG` says how much of what.
fn log_as_server(terminal: &Terminal, format: LogFormat) {
    let log = tracing_subscriber::fmt().with_env_filter(filter("info"));
    let log = log.with_writer(terminal.clone()).with_ansi(Terminal::is_watched());
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_ansi(false).init(),
    }
}

/// Plain lines: the server puts time and adapter to them.
fn log_as_worker() {
    let log =
        tracing_subscriber::fmt().with_env_filter(filter("warn")).with_writer(std::io::stderr);
    log.with_target(false).without_time().with_ansi(false).init();
}

/// Graphics libraries call a missing extension a warning; ours are heard at the given level.
fn filter(level: &str) -> EnvFilter {
    let quiet = format!("{level},wgpu_hal=off,wgpu_core=error,naga=error,cubecl=error");
    EnvFilter::try_from_env("CONCERTINA_LOG").unwrap_or_else(|_| EnvFilter::new(quiet))
}
