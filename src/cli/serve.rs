//! `concertina serve`: settings become a running server, and change it while it runs.

use super::{allocator, descriptors, log, repository};
use crate::adapter::list;
use crate::adapter::memory::host_bytes;
use crate::adapter::select::select;
use crate::api::keys::{KeyRing, Keys};
use crate::api::tls::{self, Tls};
use crate::api::{self, ApiLimits, Current};
use crate::config::{Config, Limits, ServeArgs, Workers};
use crate::engine::{
    self, Assumptions, Catalogue, EngineConfig, EngineHandle, Library, LiveConfig, Marks,
};
use crate::escape;
use crate::key_file;
use crate::lock;
use crate::model::Registry;
use crate::model::kept::Kept;
use crate::progress::Terminal;
use crate::schedule::{Bounds, Settings};
use crate::signals::{Followed, Signals};
use crate::simulate;
use crate::telemetry::{Recorder, Snapshot, Traces};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Time for the answers to requests that were not served within the grace period.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Reads the repository, and logs the models that cannot be served with the reason.
fn catalogue(library: &Library) -> Catalogue {
    let catalogue = Catalogue::new(library.scan());
    for bad in catalogue.broken() {
        // An invalid name may contain control characters.
        tracing::warn!(model = %escape::line(&bad.name), "cannot be served: {}", bad.error);
    }
    if catalogue.served().next().is_none() {
        tracing::warn!("no model can be served yet; add one to the folder of models");
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
    let kept = Kept::new(&config.cache_dir, &repository, config.cache.models_bytes).map(Arc::new);
    let library = Library { repository, kinds: registry.kinds(), kept };
    let marks = library.repository.marks().unwrap_or_default();
    let catalogue = catalogue(&library);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let traces = traces(&config)?;
    let serving = serve_until_told(
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

async fn serve_until_told(
    (args, config, descriptors): (ServeArgs, Config, Option<usize>),
    (catalogue, marks): (Catalogue, Marks),
    library: Library,
    (terminal, traces): (Terminal, Traces),
) -> anyhow::Result<()> {
    // Before the socket is open, since a client that finds the server may end it.
    let mut signals = Signals::catch()?;
    let (keys, tls) = (keys_in_force(&config)?, tls_in_force(&config)?);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let names: Vec<_> = catalogue.served().map(|model| model.name.clone()).collect();
    let recorder = config.telemetry.record.as_deref().map(Recorder::create).transpose()?;
    let engine_config = EngineConfig { recorder, ..engine_config(&config)? };
    let (engine, mut driver) = engine::start(engine_config, catalogue, library)?;
    follow_settings(args, config.clone(), engine.clone())?;
    tracing::info!("serving {} on {scheme}://{address}", listed(&names));
    tokio::spawn(terminal.follow(engine.snapshots()));
    if config.models.is_some() && !config.models_poll.is_zero() {
        tokio::spawn(engine.clone().follow_repository(marks, config.models_poll));
    }
    let stop = CancellationToken::new();
    let mut limits = api_limits(&config, keys, tls);
    let adapters = config.adapters.max;
    limits.connections_max =
        descriptors::connections(limits.connections_max, descriptors, adapters);
    let stopping = stop.clone().cancelled_owned();
    let mut serving = tokio::spawn(api::serve(listener, engine.clone(), traces, limits, stopping));
    tokio::select! {
        () = signals.next() => {}
        // Neither ends by itself. A server without one of them serves nothing and must exit.
        ended = &mut driver => bail!("the engine ended: {ended:?}"),
        ended = &mut serving => bail!("the HTTP server ended: {ended:?}"),
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
        () = signals.second() => {
            let queue = engine.snapshots().borrow().queue.clone();
            let cut = queue.queued_requests + queue.in_flight_requests;
            tracing::warn!("stopped at once; cut: {cut} requests");
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

/// Writes the measurements of the adapters beside the recorded trace.
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

/// The settings with a runtime folder that only this user may enter, and with a cache folder that
/// can be written to: caches are optional, so that without one they are kept in the runtime folder
/// as long as that lasts. Without a folder for locks that all users share, they are kept there too.
///
/// # Errors
/// If there is no such runtime folder, or the folder for locks that is named cannot be made.
fn with_usable_folders(mut config: Config) -> anyhow::Result<Config> {
    let is_chosen = config.runtime_dir != Config::default().runtime_dir;
    config.runtime_dir = engine::private_folder(&config.runtime_dir, is_chosen)?;
    if let Err(error) = std::fs::create_dir_all(&config.cache_dir) {
        let (cache, other) = (config.cache_dir.display(), config.runtime_dir.join("cache"));
        tracing::warn!(
            "failed to make the cache folder {cache}: {error}; caches are kept in {} meanwhile, and \
             kernels may be tuned again at each start; set cache_dir to a folder that can be \
             written to",
            other.display()
        );
        config.cache_dir = other;
    }
    config.lock_dir = usable_lock_dir(&config)?;
    Ok(config)
}

/// The folder for locks: the one of the settings, or one in the runtime folder where the default one
/// cannot be written to.
///
/// # Errors
/// If the one of the settings cannot be made.
fn usable_lock_dir(config: &Config) -> anyhow::Result<PathBuf> {
    let named = &config.lock_dir;
    let is_chosen = *named != Config::default().lock_dir;
    let made = lock::make_folder(named);
    if is_chosen {
        // Locks that an administrator has made may be used in a folder that cannot be written to.
        let failed = || {
            format!(
                "failed to make the folder for locks {}; name another one with lock_dir, --lock-dir \
                 or CONCERTINA_LOCK_DIR",
                named.display()
            )
        };
        return made.map(|()| named.clone()).with_context(failed);
    }
    let Err(error) = made.and_then(|()| lock::try_folder(named)) else { return Ok(named.clone()) };
    let other = config.runtime_dir.join("locks");
    tracing::warn!(
        "failed to write to {}: {error}; locks of adapters are kept in {}, so that servers of other \
         users may use the same adapters at the same time; set lock_dir to a folder that all users \
         can write to",
        named.display(),
        other.display()
    );
    Ok(other)
}

/// The image of this process. On Linux it is the one that runs, even after the file was replaced by
/// another version or removed: an upgrade takes effect at the next start of the server.
fn running_image() -> anyhow::Result<PathBuf> {
    let image = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && image.exists() {
        return Ok(image.to_owned());
    }
    std::env::current_exe().context("failed to find the program file of this process")
}

/// Bytes of host memory for requests and answers: a quarter of what the machine or the container
/// has at most, since workers need it too.
fn held_bytes(config: &Config) -> usize {
    let held = config.limits.held_bytes;
    let quarter = host_bytes().and_then(|bytes| usize::try_from(bytes / 4).ok());
    held.min(quarter.unwrap_or(held))
}

fn engine_config(config: &Config) -> anyhow::Result<EngineConfig> {
    Ok(EngineConfig {
        live: live_config(config),
        executable: running_image()?,
        cache_dir: config.cache_dir.clone(),
        runtime_dir: config.runtime_dir.clone(),
        lock_dir: config.lock_dir.clone(),
        held_bytes_max: held_bytes(config),
        shutdown_grace: config.limits.shutdown_grace,
        recorder: None,
        all_uevents: config.test.all_uevents,
        validation: config.workers.validation,
        slow: config.test.slow.clone(),
        faults: config.test.faults.clone(),
        link: config.test.link,
    })
}

fn live_config(config: &Config) -> LiveConfig {
    LiveConfig {
        settings: settings(config),
        environment: config.environment_of_workers(),
        lister_args: config.adapters.as_arguments(),
        named_adapters: config.adapter_ids(),
        entries_without_listing: select(&[list::cpu_facts()], &config.adapters.rules()),
        cpu_threads: config.adapters.cpu_threads,
        assumptions: Assumptions {
            slots: config.workers.slots,
            name: config.adapters.name.clone(),
            power: config.adapters.power.clone(),
            memory: config.adapters.memory.clone(),
        },
        slo: config.slo,
        check: config.workers.check,
        confine: config.workers.confine,
    }
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
        ahead: adapters.ahead,
        bounds: Bounds { silence, start, run, stop, reap },
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
        shutdown_grace: limits.shutdown_grace.saturating_add(LAST_WORDS),
        keys,
        tls,
        hosts: config.hosts.clone(),
        allow_origins: config.allow_origins.clone(),
        access_log: config.telemetry.access_log,
    }
}

/// Reads the settings again at SIGHUP, and applies those that can change.
fn follow_settings(args: ServeArgs, begun: Config, engine: EngineHandle) -> anyhow::Result<()> {
    if args.config.is_none() {
        return Ok(());
    }
    let told = Followed::new(Vec::new())?;
    let mut last = begun.clone();
    let reread = move || {
        let new = with_usable_folders(Config::load(&args)?)?;
        engine.configure(live_config(&new))?;
        tracing::info!("changed: {}", or_nothing(&last.changes(&new).live));
        let waiting = begun.changes(&new).waiting;
        if !waiting.is_empty() {
            tracing::warn!("in force only after a restart: {}", waiting.join(", "));
        }
        last = new;
        Ok(())
    };
    tokio::spawn(told.follow("the settings", reread));
    Ok(())
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn read_keys(config: &Config) -> anyhow::Result<Keys> {
    if let Some(file) = &config.api_key_file {
        key_file::warn_of_readers(file, "API key");
    }
    let file = config.api_key_file.as_deref().map(key_file::read).transpose()?;
    let one = file.as_deref().or(config.api_key.as_deref());
    config.keys.as_ref().map_or_else(|| Ok(Keys::one(one)), |path| Keys::read(path, one))
}

/// The result of `read`, which is called again when one of the files changes.
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
