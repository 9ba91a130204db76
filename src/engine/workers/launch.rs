//! The launch of a worker process on this machine: socket, folders, environment and spec; and its
//! exit.

use crate::EngineConfig;
use crate::workers::children::{self, OwnChild};
use crate::workers::platform::{set_apart, socket_path, was_killed};
use adapter::entry::{AdapterEntry, Api};
use adapter::lock::{AdapterLock, LockError};
use adapter::memory;
use anyhow::Context;
use schedule::Incarnation;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use wire::server::Listener;
use wire::{Endpoint, Injection, Slow, TestLink, WorkerOptions, WorkerSpec};

/// Timeout of a trial start; its process exits at once.
const TRIAL_MAX: Duration = Duration::from_secs(10);
/// Exit text of a process that the kernel killed because memory ran out.
pub(crate) const OUT_OF_MEMORY: &str = "the kernel killed it because memory ran out";

/// The settings that all workers have in common.
#[derive(Clone, Debug)]
pub(crate) struct WorkerTemplate {
    pub(crate) executable: PathBuf,
    pub(crate) cache_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) lock_dir: PathBuf,
    /// The environment of a worker, except for the variables that are set in this module.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Number of threads of the CPU backend; 0 lets the backend choose.
    pub(crate) cpu_threads: usize,
    /// Time between two pings.
    pub(crate) heartbeat: Duration,
    pub(crate) options: WorkerOptions,
    /// Maximum size in bytes of the model files that a remote worker keeps.
    pub(crate) models_bytes: u64,
    /// For a validation load: the memory limit of its worker, in bytes.
    pub(crate) validation: Option<u64>,
    /// For tests: workers slowed by sleeping, by adapter id.
    pub(crate) slow: BTreeMap<String, Slow>,
    /// For tests: faults to inject into workers.
    pub(crate) faults: Vec<Injection>,
    /// For tests: workers connect over TCP.
    pub(crate) link: Option<TestLink>,
}

impl WorkerTemplate {
    pub(crate) fn of(config: &EngineConfig) -> WorkerTemplate {
        WorkerTemplate {
            executable: config.executable.clone(),
            cache_dir: config.cache_dir.clone(),
            runtime_dir: config.runtime_dir.clone(),
            lock_dir: config.lock_dir.clone(),
            environment: config.live.environment.clone(),
            cpu_threads: config.live.cpu_threads,
            // Several pings per timeout, so that one late answer does not end a worker.
            heartbeat: config.live.settings.timeouts.heartbeat / 4,
            options: config.live.worker_options.clone(),
            models_bytes: config.models_bytes,
            validation: None,
            slow: config.slow.clone(),
            faults: config.faults.clone(),
            link: config.link,
        }
    }
}

/// The exit of a worker process.
#[derive(Debug)]
pub(crate) struct Exit {
    /// Exit status or signal, as text.
    pub(crate) how: String,
    /// True unless the exit status is success.
    pub(crate) has_failed: bool,
    /// True if the kernel killed it because memory ran out.
    pub(crate) out_of_memory: bool,
}

/// A launched process, and the listener to which it connects.
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// Registered until the process is reaped.
    pub(crate) own: OwnChild,
    pub(crate) listener: Listener,
    /// The token that the worker's first message must contain.
    pub(crate) token: String,
}

/// Spawns the process of a worker and writes its spec.
///
/// # Errors
/// If the socket, a folder or the process cannot be created.
pub(crate) async fn launch(
    template: &WorkerTemplate,
    entry: &AdapterEntry,
    incarnation: Incarnation,
) -> anyhow::Result<Launched> {
    let token = random_token()?;
    // A part of the token: pipes of Windows have public names, `sun_path` 108 bytes (unix(7)).
    let name = format!("{}-{}-{}", std::process::id(), incarnation.0, &token[..8]);
    let (server_endpoint, listener) = listen(template, &name)?;
    let (cache_dir, temporary) = cache_folder(template, &folder_name(entry))?;
    let spec = WorkerSpec {
        server_endpoint,
        token: token.clone(),
        server: std::process::id(),
        adapter: entry.clone(),
        cache_dir: cache_dir.clone(),
        lock_dir: template.lock_dir.clone(),
        options: template.options.clone(),
        models_bytes: template.models_bytes,
        validation: template.validation,
        incarnation: incarnation.0,
        slow: template.slow.get(&entry.id).copied(),
        faults: template.faults.clone(),
    };
    let mut command = Command::new(&template.executable);
    // The environment is an allow-list: a confined worker had still held the secrets in the
    // environment of the server.
    command.arg("worker").env_clear().envs(template.environment.iter().cloned());
    // Mesa's device selection layer is not needed, and it writes warnings to stderr.
    command.env("NODEVICE_SELECT", "1");
    command.env("MESA_SHADER_CACHE_DIR", cache_dir.join("mesa"));
    command.env("__GL_SHADER_DISK_CACHE_PATH", cache_dir.join("nvidia"));
    // For drivers that use neither variable; a confined worker can write to no other folder.
    command.env("XDG_CACHE_HOME", &cache_dir).env("TMPDIR", &temporary);
    if template.cpu_threads > 0 {
        // The CPU backend runs on rayon's global pool, which reads this variable.
        command.env("RAYON_NUM_THREADS", template.cpu_threads.to_string());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    set_apart(&mut command);
    let (mut child, own) =
        children::spawn(&mut command).context("failed to start a worker process")?;
    let mut stdin = child.stdin.take().context("the worker process has no stdin")?;
    // Through stdin, since arguments of a process are visible to all users, and the spec has
    // the token.
    let mut line = serde_json::to_vec(&spec)?;
    line.push(b'\n');
    // A failed write means that the worker has exited, which is reported separately.
    let _ = stdin.write_all(&line).await;
    Ok(Launched { child, own, listener, token })
}

/// Opens a listener for a worker; returns it with the endpoint for the worker.
fn listen(template: &WorkerTemplate, name: &str) -> anyhow::Result<(Endpoint, Listener)> {
    if let Some(TestLink { listen, connect }) = template.link {
        let listener = Listener::open(&Endpoint::Tcp(listen))
            .with_context(|| format!("failed to listen on {listen}"))?;
        return Ok((Endpoint::Tcp(connect), listener));
    }
    let endpoint = Endpoint::Local(socket_path(&template.runtime_dir, name));
    let listener = Listener::open(&endpoint).with_context(|| {
        format!("failed to open a socket in {}", template.runtime_dir.display())
    })?;
    Ok((endpoint, listener))
}

/// The adapter's id, restricted to characters that every file system supports.
fn folder_name(entry: &AdapterEntry) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    entry.id.chars().map(safe).collect()
}

/// Checks that the server's environment allows the start of a worker: a socket, the folders, and a
/// process of the program, which exits at once because it receives no spec.
///
/// # Errors
/// The first of these errors.
pub(crate) async fn try_start(
    template: &WorkerTemplate,
    entry: Option<&AdapterEntry>,
) -> anyhow::Result<()> {
    let name = format!("{}-0-{}", std::process::id(), &random_token()?[..8]);
    let _listener = listen(template, &name)?;
    cache_folder(template, &entry.map_or_else(|| "trial".to_owned(), folder_name))?;
    // A lock that another server holds, or an unusable lock file, concerns only one adapter.
    if let Some(entry) = entry.filter(|entry| entry.api != Api::Cpu)
        && let Err(error @ LockError::Io(..)) = AdapterLock::take(&template.lock_dir, &entry.id)
    {
        return Err(error.into());
    }
    let mut command = Command::new(&template.executable);
    command.arg("worker").env_clear().envs(template.environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let output = tokio::time::timeout(TRIAL_MAX, children::output(&mut command)).await;
    let output = output.context("timeout: a process of the program did not exit")?;
    let output = output.context("failed to start a process")?;
    anyhow::ensure!(!was_killed(output.status), "a process of the program was killed at once");
    Ok(())
}

/// The folder for an adapter's caches, and one in it for temporary files. If the cache folder is
/// not writable, they are in the runtime folder, since caches are optional.
fn cache_folder(template: &WorkerTemplate, adapter: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let make = |base: &Path| {
        let cache_dir = base.join("adapters").join(adapter);
        let temporary = cache_dir.join("tmp");
        std::fs::create_dir_all(&temporary).map(|()| (cache_dir, temporary))
    };
    make(&template.cache_dir).or_else(|_| make(&template.runtime_dir)).with_context(|| {
        let (cache, runtime) = (template.cache_dir.display(), template.runtime_dir.display());
        format!("failed to create a folder in cache_dir ({cache}) and in runtime_dir ({runtime})")
    })
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).context("failed to get random numbers from the system")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits for the exit of the process, and kills it when `kill` is cancelled.
pub(crate) async fn supervise(mut child: Child, kill: &CancellationToken, name: &str) -> Exit {
    let kills = memory::kills();
    let status = tokio::select! {
        status = child.wait() => status,
        () = kill.cancelled() => {
            if let Err(error) = child.start_kill() {
                tracing::warn!(adapter = name, "failed to kill the worker: {error}");
            }
            child.wait().await
        }
    };
    match status {
        Ok(status) => {
            let killed = was_killed(status) && !kill.is_cancelled();
            // A SIGKILL from elsewhere, such as `kill -9`, does not raise the count of the kernel.
            let out_of_memory = killed && memory::kills() > kills;
            Exit { how: status.to_string(), has_failed: !status.success(), out_of_memory }
        }
        Err(error) => {
            let how = format!("exit status unknown: {error}");
            Exit { how, has_failed: true, out_of_memory: false }
        }
    }
}
