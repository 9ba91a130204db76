//! Conversion of the settings into those of the engine, with folders that are usable.

use adapter::lock;
use adapter::memory::host_bytes;
use adapter::select::select;
use anyhow::Context;
use config::{Config, Limits, Workers};
use device::list;
use engine::{self, Assumptions, EngineConfig, LiveConfig, WorkerOptions};
use schedule::{Settings, Timeouts};
use std::path::{Path, PathBuf};

/// Returns the settings with a runtime folder that only this user may enter, and with a writable
/// cache folder. Caches are optional: if their folder is not writable, they are kept in the runtime
/// folder as long as that exists. Locks are kept there too if no folder is shared by all users.
///
/// # Errors
/// If no such runtime folder can be created, or the configured folder for locks cannot be created.
pub(super) fn with_usable_folders(mut config: Config) -> anyhow::Result<Config> {
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

/// Returns the folder for locks: the configured one, or one in the runtime folder if the default
/// one is not writable.
///
/// # Errors
/// If the configured folder cannot be created.
fn usable_lock_dir(config: &Config) -> anyhow::Result<PathBuf> {
    let named = &config.lock_dir;
    let is_chosen = *named != Config::default().lock_dir;
    let made = lock::make_folder(named);
    if is_chosen {
        // Locks that an administrator has created are usable even in a folder that is not writable.
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

/// Path of the image of this process. On Linux it is the running image, even after the file was
/// replaced by another version or removed: an upgrade takes effect at the next start of the server.
fn running_image() -> anyhow::Result<PathBuf> {
    let image = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && image.exists() {
        return Ok(image.to_owned());
    }
    std::env::current_exe().context("failed to find the program file of this process")
}

/// Bytes of host memory for requests and answers: at most a quarter of the memory of the machine or
/// the container, since workers need memory too.
fn host_memory_bytes(config: &Config) -> usize {
    let limit = config.limits.host_memory_bytes;
    let quarter = host_bytes().and_then(|bytes| usize::try_from(bytes / 4).ok());
    limit.min(quarter.unwrap_or(limit))
}

pub(super) fn engine_config(config: &Config) -> anyhow::Result<EngineConfig> {
    Ok(EngineConfig {
        live: live_config(config),
        executable: running_image()?,
        cache_dir: config.cache_dir.clone(),
        runtime_dir: config.runtime_dir.clone(),
        lock_dir: config.lock_dir.clone(),
        held_bytes_max: host_memory_bytes(config),
        shutdown_grace: config.limits.shutdown_grace,
        models_bytes: config.cache.models_bytes,
        recorder: None,
        all_uevents: config.test.all_uevents,
        validation: config.workers.validation_timeout,
        slow: config.test.slow.clone(),
        faults: config.test.faults.clone(),
        link: config.test.link,
    })
}

pub(super) fn live_config(config: &Config) -> LiveConfig {
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
        slo: config.latency_target,
        worker_options: WorkerOptions {
            confine: config.workers.confine,
            check: config.workers.self_check_interval,
        },
    }
}

fn settings(config: &Config) -> Settings {
    let adapters = &config.adapters;
    let Limits { queue_requests, queue_rows, .. } = config.limits;
    let Workers {
        heartbeat_timeout: heartbeat,
        start_timeout: start,
        run_timeout: run,
        stop_timeout: stop,
        kill_timeout: kill,
        quarantine_wait_max,
        retries,
        backoff,
        backoff_max,
        ..
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
        quarantine_wait_max,
        early_starts: adapters.start_ahead,
        timeouts: Timeouts { heartbeat, start, run, stop, kill },
    }
}
