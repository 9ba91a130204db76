//! Properties of the worker process: its end with the server, priority, and memory limit.
//!
//! On all platforms the worker ends when its link closes. The parent-death signal of Linux also
//! covers a link thread that cannot run.

/// Score adjustment by which the kernel adds half of all memory to the worker's own when it chooses
/// a process to kill (`proc_pid_oom_score_adj(5)`).
const OOM_SCORE: &str = "500";

/// `nice(2)`.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

/// Makes the kernel kill this process when the server (process id `server`) exits.
#[cfg(target_os = "linux")]
pub(super) fn exit_with_parent(server: u32) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let set = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = set {
        tracing::debug!("failed to set the parent-death signal: {error}");
    }
    // The server may have exited before this call; the parent is another process then.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get());
    if parent != i32::try_from(server).ok() {
        std::process::exit(1);
    }
}

/// Other platforms rely on the link.
#[cfg(not(target_os = "linux"))]
pub(super) fn exit_with_parent(_server: u32) {}

/// Makes the kernel kill this process rather than the server if memory runs out; the server then
/// loads the models again. A process needs no rights to raise its own score.
pub(super) fn raise_oom_score() {
    if cfg!(target_os = "linux")
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE)
    {
        tracing::debug!("failed to raise the out-of-memory score: {error}");
    }
}

/// Gives this process the lowest priority and limits its memory, in bytes. An allocation beyond the
/// limit ends it.
#[cfg(target_os = "linux")]
pub(super) fn limit_resources(bytes_max: u64) {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    if let Err(error) = nice(LOWEST_PRIORITY) {
        tracing::debug!("failed to lower the priority: {error}");
    }
    // RLIMIT_DATA includes private mappings since Linux 4.7 (getrlimit(2)). RLIMIT_AS would also
    // count mapped files and reserved addresses.
    let limit = Rlimit { current: Some(bytes_max), maximum: Some(bytes_max) };
    if let Err(error) = setrlimit(Resource::Data, limit) {
        tracing::debug!("failed to limit the memory: {error}");
    }
}

/// Gives this thread the lowest priority. `nice(2)` concerns one thread on Linux.
#[cfg(target_os = "linux")]
pub(super) fn lower_thread_priority() {
    if let Err(error) = rustix::process::nice(LOWEST_PRIORITY) {
        tracing::debug!("failed to lower the priority of a thread: {error}");
    }
}

/// On other platforms `nice` applies to the whole process.
#[cfg(not(target_os = "linux"))]
pub(super) fn lower_thread_priority() {}

/// Other platforms have no such limits.
#[cfg(not(target_os = "linux"))]
pub(super) fn limit_resources(_bytes_max: u64) {}
