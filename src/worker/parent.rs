//! Ends the worker with its server, by the kernel's hand where the platform offers it.
//!
//! The link already ends the worker everywhere; this covers a link thread that cannot run.

/// Asks the kernel to kill this process when the server (process id `server`) is gone.
#[cfg(target_os = "linux")]
pub(super) fn die_with(server: u32) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = asked {
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
pub(super) fn die_with(_server: u32) {}
