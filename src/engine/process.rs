//! One worker process: spawned, listened to, spoken to, ended and reaped.

use super::EngineConfig;
use super::children::{self, Own};
use super::platform::{set_apart, socket_path, was_killed};
use super::stderr::Stderr;
use crate::adapter::entry::{AdapterEntry, Api};
use crate::adapter::memory;
use crate::lock::{AdapterLock, LockError};
use crate::schedule::{AdapterId, Incarnation};
use crate::wire::server::{Door, Outgoing, Receiver};
use crate::wire::{
    BATCHES_MAX, Down, Endpoint, Injection, Order, Slow, TestLink, Up, VERSION, Whole, WireError,
};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Control messages that may wait for the link.
const CONTROL_MAX: usize = 16;
/// Timeout of the last messages of a worker after its exit.
const LAST_MESSAGES: Duration = Duration::from_millis(200);
/// Timeout of a trial process, which ends at once.
const TRIAL_MAX: Duration = Duration::from_secs(10);
/// Timeout of the exit of a worker after the loss of its link.
const EXIT_AFTER_LINK: Duration = Duration::from_millis(500);
/// Text for the end of a process that the kernel killed as memory ran out.
pub(super) const OUT_OF_MEMORY: &str = "the kernel killed it because memory ran out";

/// What all workers have in common.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    pub(super) executable: PathBuf,
    pub(super) cache_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
    pub(super) lock_dir: PathBuf,
    /// The whole environment of a worker, but for what is set here.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Threads of the CPU backend; 0 leaves the choice to it.
    pub(super) cpu_threads: usize,
    /// Time between two pings.
    pub(super) heartbeat: Duration,
    /// Time between two checks of an idle worker's models; never if zero.
    pub(super) check: Duration,
    /// Whether workers give up the rights that they do not need.
    pub(super) confine: bool,
    /// For a validation load: the most memory that its worker may take, in bytes.
    pub(super) validation: Option<u64>,
    /// For tests: workers slowed by sleeping, by adapter id.
    pub(super) slow: BTreeMap<String, Slow>,
    /// For tests: what is to go wrong in workers.
    pub(super) faults: Vec<Injection>,
    /// For tests: workers connect over TCP.
    pub(super) link: Option<TestLink>,
}

impl Workshop {
    pub(super) fn of(config: &EngineConfig) -> Workshop {
        Workshop {
            executable: config.executable.clone(),
            cache_dir: config.cache_dir.clone(),
            runtime_dir: config.runtime_dir.clone(),
            lock_dir: config.lock_dir.clone(),
            environment: config.live.environment.clone(),
            cpu_threads: config.live.cpu_threads,
            heartbeat: config.live.settings.bounds.silence / 4,
            check: config.live.check,
            confine: config.live.confine,
            validation: None,
            slow: config.slow.clone(),
            faults: config.faults.clone(),
            link: config.link,
        }
    }
}

/// What a worker, or its process, let us know.
pub(super) struct Report {
    pub(super) adapter: AdapterId,
    pub(super) incarnation: Incarnation,
    pub(super) news: News,
}

pub(super) enum News {
    Spawned {
        pid: u32,
    },
    Said(Whole<Up>),
    /// The process could not be started, or did not connect: the cause lies in the environment of
    /// the server, as the worker has loaded no driver by then. It is gone and reaped.
    NotStarted {
        error: String,
    },
    /// The link is lost, and the process is still there.
    Lost {
        error: String,
    },
    /// The process is gone and reaped.
    Exited(Exit),
}

impl News {
    /// `true` for the end of a process that did not succeed.
    fn is_failure(&self) -> bool {
        match self {
            News::NotStarted { .. } => true,
            News::Exited(exit) => exit.has_failed,
            News::Spawned { .. } | News::Said(_) | News::Lost { .. } => false,
        }
    }
}

/// The end of a worker process.
#[derive(Debug)]
pub(super) struct Exit {
    /// Exit status or signal, as text.
    pub(super) how: String,
    /// `true` unless it ended with the status of success.
    pub(super) has_failed: bool,
    /// `true` if the kernel killed it as memory ran out.
    pub(super) out_of_memory: bool,
}

/// The engine's hold on one worker.
pub(super) struct Worker {
    control: mpsc::Sender<Down>,
    batches: mpsc::Sender<Outgoing>,
    kill: CancellationToken,
}

impl Worker {
    /// Sends a control message. Never waits: a link that cannot take sixteen is as good as lost,
    /// and the scheduler's patience ends it.
    pub(super) fn tell(&self, message: Down) {
        let _ = self.control.try_send(message);
    }

    /// Sends a batch. If the link is lost, that is reported by the link itself.
    pub(super) fn hand(&self, outgoing: Outgoing) {
        let _ = self.batches.try_send(outgoing);
    }

    /// Ends the process at once.
    pub(super) fn kill(&self) {
        self.kill.cancel();
    }
}

/// Speaks for one worker.
#[derive(Clone)]
struct Voice {
    adapter: AdapterId,
    incarnation: Incarnation,
    name: String,
    reports: mpsc::Sender<Report>,
    /// True once the worker has reported that its adapter is unfit: it then ends without an error.
    is_unfit: Arc<AtomicBool>,
}

impl Voice {
    async fn say(&self, news: News) {
        let Voice { adapter, incarnation, .. } = *self;
        if matches!(&news, News::Said(Whole { message: Up::Unfit { .. }, .. })) {
            self.is_unfit.store(true, Ordering::Relaxed);
        }
        // Without a driver nobody is interested any more.
        let _ = self.reports.send(Report { adapter, incarnation, news }).await;
    }
}

/// Starts a worker for this adapter; everything about it comes as reports.
pub(super) fn start(
    workshop: &Workshop,
    entry: &AdapterEntry,
    (adapter, incarnation): (AdapterId, Incarnation),
    reports: mpsc::Sender<Report>,
) -> Worker {
    let (control, control_queue) = mpsc::channel(CONTROL_MAX);
    let (batches, batch_queue) = mpsc::channel(BATCHES_MAX);
    let kill = CancellationToken::new();
    let voice =
        Voice { adapter, incarnation, name: entry.id.clone(), reports, is_unfit: Arc::default() };
    let worker = Worker { control: control.clone(), batches, kill: kill.clone() };
    let (workshop, entry) = (workshop.clone(), entry.clone());
    tokio::spawn(async move {
        let spawned = spawn(&workshop, &entry, incarnation).await;
        // Registered until the end of this task, when the process is reaped.
        let ((mut child, _own), door, token) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => return voice.say(News::NotStarted { error: format!("{error:#}") }).await,
        };
        let pid = child.id().unwrap_or_default();
        let stderr = child.stderr.take().map(|stderr| Stderr::follow(stderr, &voice.name));
        voice.say(News::Spawned { pid }).await;
        let line = Line { door, token, pid, heartbeat: workshop.heartbeat, control };
        let news = attend(child, line, &kill, &voice, (control_queue, batch_queue)).await;
        if let Some(stderr) = stderr {
            stderr.end(news.is_failure() || voice.is_unfit.load(Ordering::Relaxed)).await;
        }
        voice.say(news).await;
    });
    worker
}

/// Follows a process and its link to their end, which is returned.
async fn attend(
    child: Child,
    line: Line,
    kill: &CancellationToken,
    voice: &Voice,
    (control, batches): (mpsc::Receiver<Down>, mpsc::Receiver<Outgoing>),
) -> News {
    let mut exit = pin!(supervise(child, kill, &voice.name));
    let opened = tokio::select! {
        opened = line.open() => opened,
        exit = &mut exit => return not_started("it ended before it connected", &exit),
    };
    let (receiver, sender) = match opened {
        Ok(halves) => halves,
        Err(error) => {
            kill.cancel();
            return not_started(&format!("{error:#}"), &exit.await);
        }
    };
    let serve = line.serve(voice.clone(), (receiver, sender), (control, batches));
    let mut link = tokio::spawn(serve);
    let lost = tokio::select! {
        exit = &mut exit => {
            // Messages that the worker sent before its end.
            let _ = tokio::time::timeout(LAST_MESSAGES, &mut link).await;
            link.abort();
            return News::Exited(exit);
        }
        lost = &mut link => lost.unwrap_or_else(|error| error.to_string()),
    };
    // The exit status tells more than the loss of the link, which mostly comes a moment earlier.
    if let Ok(exit) = tokio::time::timeout(EXIT_AFTER_LINK, &mut exit).await {
        return News::Exited(exit);
    }
    voice.say(News::Lost { error: lost }).await;
    News::Exited(exit.await)
}

fn not_started(error: &str, exit: &Exit) -> News {
    let how = if exit.out_of_memory { OUT_OF_MEMORY } else { &exit.how };
    News::NotStarted { error: format!("the worker process did not connect: {error} ({how})") }
}

/// Spawns the process and writes its order.
async fn spawn(
    workshop: &Workshop,
    entry: &AdapterEntry,
    incarnation: Incarnation,
) -> anyhow::Result<((Child, Own), Door, String)> {
    let token = random_token()?;
    let name = format!("{}-{}-{}", std::process::id(), incarnation.0, &token[..8]);
    let (server_endpoint, door) = listen(workshop, &name)?;
    let (cache_dir, temporary) = cache_folder(workshop, &folder_name(entry))?;
    let order = Order {
        server_endpoint,
        token: token.clone(),
        server: std::process::id(),
        adapter: entry.clone(),
        cache_dir: cache_dir.clone(),
        lock_dir: workshop.lock_dir.clone(),
        confine: workshop.confine,
        validation: workshop.validation,
        check: workshop.check,
        life: incarnation.0,
        slow: workshop.slow.get(&entry.id).copied(),
        faults: workshop.faults.clone(),
    };
    let mut command = Command::new(&workshop.executable);
    command.arg("worker").env_clear().envs(workshop.environment.iter().cloned());
    // Mesa's layer for choosing a device is of no use to us and complains on stderr.
    command.env("NODEVICE_SELECT", "1");
    command.env("MESA_SHADER_CACHE_DIR", cache_dir.join("mesa"));
    command.env("__GL_SHADER_DISK_CACHE_PATH", cache_dir.join("nvidia"));
    // Drivers that know neither; a confined worker may write nowhere else.
    command.env("XDG_CACHE_HOME", &cache_dir).env("TMPDIR", &temporary);
    if workshop.cpu_threads > 0 {
        command.env("RAYON_NUM_THREADS", workshop.cpu_threads.to_string());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    set_apart(&mut command);
    let (mut child, own) =
        children::spawn(&mut command).context("failed to start a worker process")?;
    let mut stdin = child.stdin.take().context("the worker has no stdin")?;
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    // A worker that died at once is reported by its exit.
    let _ = stdin.write_all(&line).await;
    Ok(((child, own), door, token))
}

/// Listens for a worker. Returns where the worker connects to.
fn listen(workshop: &Workshop, name: &str) -> anyhow::Result<(Endpoint, Door)> {
    if let Some(TestLink { listen, connect }) = workshop.link {
        let door = Door::open(&Endpoint::Tcp(listen))
            .with_context(|| format!("failed to listen on {listen}"))?;
        return Ok((Endpoint::Tcp(connect), door));
    }
    let endpoint = Endpoint::Local(socket_path(&workshop.runtime_dir, name));
    let door = Door::open(&endpoint).with_context(|| {
        format!("failed to open a socket in {}", workshop.runtime_dir.display())
    })?;
    Ok((endpoint, door))
}

/// The adapter's id in characters that every file system takes.
fn folder_name(entry: &AdapterEntry) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    entry.id.chars().map(safe).collect()
}

/// Tries everything that starting a worker takes of the server's environment: a socket, the
/// folders, and a process of the program, which ends at once for want of an order.
///
/// # Errors
/// The first that fails.
pub(super) async fn try_start(
    workshop: &Workshop,
    entry: Option<&AdapterEntry>,
) -> anyhow::Result<()> {
    let name = format!("{}-0-{}", std::process::id(), &random_token()?[..8]);
    let _door = listen(workshop, &name)?;
    cache_folder(workshop, &entry.map_or_else(|| "trial".to_owned(), folder_name))?;
    // A lock that another server holds, or a file that spoils it, concerns one adapter alone.
    if let Some(entry) = entry.filter(|entry| entry.api != Api::Cpu)
        && let Err(error @ LockError::Io(..)) = AdapterLock::take(&workshop.lock_dir, &entry.id)
    {
        return Err(error.into());
    }
    let mut command = Command::new(&workshop.executable);
    command.arg("worker").env_clear().envs(workshop.environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let output = tokio::time::timeout(TRIAL_MAX, children::output(&mut command)).await;
    let output = output.context("a process of the program did not end in time")?;
    let output = output.context("failed to start a process")?;
    anyhow::ensure!(!was_killed(output.status), "a process of the program was killed at once");
    Ok(())
}

/// The folder for an adapter's caches, and one in it for temporary files. Where the cache folder
/// cannot be written to, they are in the runtime folder: caches are optional.
fn cache_folder(workshop: &Workshop, adapter: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let make = |base: &Path| {
        let cache_dir = base.join("adapters").join(adapter);
        let temporary = cache_dir.join("tmp");
        std::fs::create_dir_all(&temporary).map(|()| (cache_dir, temporary))
    };
    make(&workshop.cache_dir).or_else(|_| make(&workshop.runtime_dir)).with_context(|| {
        let (cache, runtime) = (workshop.cache_dir.display(), workshop.runtime_dir.display());
        format!("failed to make a folder in cache_dir ({cache}) and in runtime_dir ({runtime})")
    })
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Waits for the end of the process, bringing it about when asked to.
async fn supervise(mut child: Child, kill: &CancellationToken, name: &str) -> Exit {
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
            let out_of_memory = killed && memory::kills() > kills;
            Exit { how: status.to_string(), has_failed: !status.success(), out_of_memory }
        }
        Err(error) => {
            let how = format!("unknown end: {error}");
            Exit { how, has_failed: true, out_of_memory: false }
        }
    }
}

/// The link to one worker.
struct Line {
    door: Door,
    token: String,
    pid: u32,
    heartbeat: Duration,
    control: mpsc::Sender<Down>,
}

impl Line {
    /// Passes messages both ways until the link ends; returns why it did.
    async fn serve(
        self,
        voice: Voice,
        (receiver, sender): (Receiver, crate::wire::server::Sender),
        (control, batches): (mpsc::Receiver<Down>, mpsc::Receiver<Outgoing>),
    ) -> String {
        drop(self.door);
        tokio::select! {
            error = hear(receiver, &voice) => error.to_string(),
            end = sender.run(control, batches) => match end {
                Ok(()) => "the engine has dropped the worker".to_owned(),
                Err(error) => error.to_string(),
            },
            () = ping(self.control, self.heartbeat) => "no heartbeat".to_owned(),
        }
    }

    /// Takes the worker's connection and checks that it is the one that was started.
    async fn open(&self) -> anyhow::Result<(Receiver, crate::wire::server::Sender)> {
        let (mut receiver, sender) = self.door.accept(self.pid).await?;
        let hello = receiver.receive().await?;
        let Up::Hello { version, token } = hello.message else {
            bail!("the worker did not say hello");
        };
        if token != self.token {
            bail!("the worker does not know its token");
        }
        if version != VERSION {
            bail!(
                "the worker speaks {version}, the server {VERSION}: the program was replaced while \
                 the server ran; restart it"
            );
        }
        Ok((receiver, sender))
    }
}

/// Passes on what the worker says until the link ends.
async fn hear(mut receiver: Receiver, voice: &Voice) -> WireError {
    loop {
        match receiver.receive().await {
            Ok(whole) => voice.say(News::Said(whole)).await,
            Err(error) => return error,
        }
    }
}

async fn ping(control: mpsc::Sender<Down>, heartbeat: Duration) {
    let mut number = 0;
    while !control.is_closed() {
        let _ = control.try_send(Down::Ping { number });
        number += 1;
        tokio::time::sleep(heartbeat).await;
    }
}
