//! Ends the worker with its server, by the kernel's hand where the platform offers it.
//!
//! The link already ends the worker everywhere; this covers a link thread that cannot run.

/// Half of all memory more than the worker really has, as the kernel counts when it chooses a process
/// to kill (`proc_pid_oom_score_adj(5)`).
const OOM_SCORE: &str = "500";

/// `nice(2)`.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

/// Asks the kernel to kill this process when the server (process id `server`) is gone.
#[cfg(target_os = "linux")]
pub(super) fn exit_with_parent(server: u32) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let set = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = set {
        tracing::debug!("no parent-death signal: {error}");
    }
    // The server may have died before the kernel was asked; then somebody else is the parent.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get());
    if parent != i32::try_from(server).ok() {
        std::process::exit(1);
    }
}

/// Other platforms rely on the link.
#[cfg(not(target_os = "linux"))]
pub(super) fn exit_with_parent(_server: u32) {}

/// Where memory runs out the kernel kills this process before the server, which then loads models
/// anew. Raising one's own score needs no rights.
pub(super) fn raise_oom_score() {
    if cfg!(target_os = "linux")
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE)
    {
        tracing::debug!("failed to raise the out-of-memory score: {error}");
    }
}

/// Gives this process the lowest priority and bounds its memory, in bytes. An allocation beyond that
/// ends it.
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
        tracing::debug!("failed to bound the memory: {error}");
    }
}

/// Gives this thread the lowest priority. `nice(2)` concerns one thread on Linux.
#[cfg(target_os = "linux")]
pub(super) fn lower_thread_priority() {
    if let Err(error) = rustix::process::nice(LOWEST_PRIORITY) {
        tracing::debug!("failed to lower the priority of a thread: {error}");
    }
}

/// On other platforms it concerns the whole process.
#[cfg(not(target_os = "linux"))]
pub(super) fn lower_thread_priority() {}

/// Other platforms have no such bounds.
#[cfg(not(target_os = "linux"))]
pub(super) fn limit_resources(_bytes_max: u64) {}
