//! `concertina serve`: creates a server from the settings, and applies changed settings while it
//! runs.

use super::engine_settings::{engine_config, with_usable_folders};
use super::live::Live;
use super::{allocator, descriptors, log, repository};
use crate::cli::progress::Terminal;
use crate::cli::signals::{Followed, Signals};
use anyhow::{Context, bail};
use config::{Config, ServeArgs, Workers};
use engine::{self, Catalogue, EngineConfig, Library, Marks};
use kinds::Registry;
use model::file_copies::RepositoryCopies;
use server::keys::{KeyRing, Keys};
use server::tls::{self, Tls};
use server::{self, ApiLimits, Current};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Recorder, Snapshot, Traces};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::escape;
use types::key_file;

/// Time for sending the error answers to requests that were not served within the grace period.
const FINAL_RESPONSE_GRACE: Duration = Duration::from_secs(1);

/// Reads the repository, and logs each model that cannot be served with the reason.
fn catalogue(library: &Library) -> Catalogue {
    let catalogue = Catalogue::new(library.scan());
    for bad in catalogue.broken() {
        // An invalid name may contain control characters.
        tracing::warn!(model = %escape::line(&bad.name), "model cannot be served: {}", bad.error);
    }
    if catalogue.served().next().is_none() {
        tracing::warn!("no model can be served yet; add one to the model repository");
    }
    catalogue
}

/// Serves until a signal ends the server.
///
/// # Errors
/// An error that prevents the start: of a folder, a file, a socket or the runtime.
pub(super) fn serve(
    args: ServeArgs,
    config: Config,
    warnings: &[String],
    registry: &Registry,
) -> anyhow::Result<()> {
    allocator::return_memory_soon();
    let terminal = Terminal::default();
    log::of_server(&terminal, config.telemetry.log_format, warnings)?;
    config.test.warn();
    if let (Some(file), None, Some(_)) = (&args.config, &args.api_key, &config.api_key) {
        key_file::warn_of_readers(file, "API key in");
    }
    let config = with_usable_folders(config)?;
    let descriptors = descriptors::raise();
    let repository = repository(config.models.as_ref())?;
    let kept = RepositoryCopies::new(&config.cache_dir, &repository, config.cache.models_bytes)
        .map(Arc::new);
    let library = Library { repository, kinds: registry.kinds(), kept };
    let marks = library.repository.marks().unwrap_or_default();
    let catalogue = catalogue(&library);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let traces = traces(&config)?;
    let serving = serve_until_signal(
        (args, config, descriptors),
        (catalogue, marks),
        library,
        (terminal, traces.clone()),
    );
    let outcome = runtime.block_on(serving);
    traces.shut_down();
    // The workers have ended. A thread that blocks in the system must not delay the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve_until_signal(
    (args, config, descriptors): (ServeArgs, Config, Option<usize>),
    (catalogue, marks): (Catalogue, Marks),
    library: Library,
    (terminal, traces): (Terminal, Traces),
) -> anyhow::Result<()> {
    // Before the socket is opened, since a client that finds the server may stop it.
    let mut signals = Signals::catch()?;
    let (keys, tls) = (keys_in_force(&config)?, tls_in_force(&config)?);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("failed to listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let names: Vec<_> = catalogue.served().map(|model| model.name.clone()).collect();
    let recorder = config.telemetry.record.as_deref().map(Recorder::create).transpose()?;
    let engine_config = EngineConfig { recorder, ..engine_config(&config)? };
    let (engine, mut driver) = engine::start(engine_config, catalogue, library)?;
    let live = Live::new(config.clone(), engine.clone());
    live.clone().follow_file(args)?;
    tracing::info!("serving {} on {scheme}://{address}", listed(&names));
    tokio::spawn(terminal.follow(engine.snapshots()));
    if config.models.is_some() && !config.models_poll_interval.is_zero() {
        tokio::spawn(engine.clone().follow_repository(marks, config.models_poll_interval));
    }
    let stop = CancellationToken::new();
    let mut limits = api_limits(&config, keys, tls);
    limits.settings = Some(live);
    let adapters = config.adapters.max;
    limits.connections_max =
        descriptors::connections(limits.connections_max, descriptors, adapters);
    let stopping = stop.clone().cancelled_owned();
    let mut serving =
        tokio::spawn(server::serve(listener, engine.clone(), traces, limits, stopping));
    tokio::select! {
        () = signals.next() => {}
        // Neither task ends by itself. A server without one of them serves nothing and must exit.
        ended = &mut driver => bail!("the engine ended: {ended:?}"),
        ended = &mut serving => bail!("the HTTP server ended: {ended:?}"),
    }
    tracing::info!("stopping: finishing admitted requests");
    stop.cancel();
    engine.shut_down().await;
    let Workers { stop_timeout, kill_timeout, .. } = config.workers;
    let shutdown_limit =
        config.limits.shutdown_grace.saturating_add(stop_timeout).saturating_add(kill_timeout);
    tokio::select! {
        _ = async { tokio::join!(serving, driver) } => tracing::info!("stopped"),
        () = tokio::time::sleep(shutdown_limit.saturating_add(Duration::from_secs(1))) => {
            tracing::warn!("stopped, but a worker did not exit");
        }
        () = signals.second() => {
            let queue = engine.snapshots().borrow().queue.clone();
            let cut = queue.queued_requests + queue.in_flight_requests;
            tracing::warn!("stopped at once; aborted requests: {cut}");
        }
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

/// Writes the measurements of the adapters to a file beside the recorded trace.
fn write_mix(snapshot: &Snapshot, path: &Path) {
    let mix =
        toml::to_string(&simulate::Mix::recorded(snapshot)).context("failed to convert it to TOML");
    let written = mix.and_then(|text| std::fs::write(path, text).context("failed to write it"));
    match written {
        Ok(()) => tracing::info!("wrote the measurements of the adapters to {}", path.display()),
        Err(error) => {
            tracing::warn!(
                "failed to write the measurements of the adapters to {}: {error:#}",
                path.display()
            )
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

fn api_limits(config: &Config, keys: KeyRing, tls: Option<Tls>) -> ApiLimits {
    let limits = &config.limits;
    ApiLimits {
        body_bytes_max: limits.body_bytes,
        connections_max: limits.connections,
        event_streams_max: limits.event_streams,
        headers_bytes_max: limits.header_bytes,
        header_timeout: limits.header_timeout,
        body_timeout: limits.body_timeout,
        write_timeout: limits.write_timeout,
        shutdown_grace: limits.shutdown_grace.saturating_add(FINAL_RESPONSE_GRACE),
        keys,
        tls,
        hosts: config.hosts.clone(),
        allow_origins: config.allow_origins.clone(),
        access_log: config.telemetry.access_log,
        settings: None,
    }
}

fn read_keys(config: &Config) -> anyhow::Result<Keys> {
    if let Some(file) = &config.api_key_file {
        key_file::warn_of_readers(file, "API key");
    }
    let file = config.api_key_file.as_deref().map(key_file::read).transpose()?;
    let one = file.as_deref().or(config.api_key.as_deref());
    config.keys.as_ref().map_or_else(|| Ok(Keys::one(one)), |path| Keys::read(path, one))
}

/// Returns the result of `read`, which is called again when one of the files changes.
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
    let files = config.keys.iter().chain(&config.api_key_file).cloned().collect();
    let config = config.clone();
    followed("the API keys", files, move || read_keys(&config))
}

fn tls_in_force(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Some((certificate, key)) = config.tls.files() else { return Ok(None) };
    let files = vec![certificate.clone(), key.clone()];
    let read = move || tls::read(&certificate, &key);
    followed("the certificate and its key", files, read).map(Some)
}
