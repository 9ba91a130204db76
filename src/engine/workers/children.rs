//! Child processes of the server, and orphans that it inherits: if it is process 1 of a container
//! or a subreaper, the kernel makes it the parent of orphans, which stay zombies until it reaps
//! them.

use std::collections::BTreeSet;
use std::io;
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::process::{Child, Command};

/// Children of this program that are not yet reaped by the code that started them.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Locks the set. A poisoned lock is usable, since no panic leaves the set inconsistent.
fn own() -> MutexGuard<'static, BTreeSet<u32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reserves a child's exit status for the code that started it. To be dropped after the child is
/// reaped.
#[derive(Debug)]
pub(crate) struct OwnChild(Option<u32>);

impl Drop for OwnChild {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            own().remove(&pid);
        }
    }
}

/// Starts a child.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, OwnChild)> {
    // Locked until the child is in the set, since it may exit at once.
    let mut own = own();
    let child = command.spawn()?;
    own.extend(child.id());
    let registered = OwnChild(child.id());
    Ok((child, registered))
}

/// Runs a child to its end and returns what it wrote to its pipes.
///
/// # Errors
/// If it cannot be started or awaited.
pub(crate) async fn output(command: &mut Command) -> io::Result<Output> {
    let (child, _own) = spawn(command)?;
    child.wait_with_output().await
}

#[cfg(target_os = "linux")]
pub(crate) use orphans::reap_orphans;

/// Other platforms have no process 1 of a container.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn reap_orphans() {}

#[cfg(target_os = "linux")]
mod orphans {
    use super::own;
    use rustix::process::{Pid, WaitOptions, child_subreaper, waitpid};
    use std::fs;
    use tokio::signal::unix::{SignalKind, signal};

    /// Reaps orphans whenever a child has exited. Returns at once if this process inherits none.
    pub(crate) async fn reap_orphans() {
        if std::process::id() != 1 && !matches!(child_subreaper(), Ok(Some(_))) {
            return;
        }
        let mut ended = match signal(SignalKind::child()) {
            Ok(ended) => ended,
            Err(error) => return tracing::warn!("failed to watch for orphans: {error}"),
        };
        loop {
            reap();
            if ended.recv().await.is_none() {
                return;
            }
        }
    }

    /// Reaps children that have ended, except those that this program has started.
    fn reap() {
        let parent = std::process::id();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        for pid in pids.filter(|pid| is_zombie_of(*pid, parent)) {
            // Locked until the process is reaped, because a child that is just being started is not
            // in the set yet.
            let own = own();
            if own.contains(&pid) {
                continue;
            }
            let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let Some(raw) = raw
                && waitpid(Some(raw), WaitOptions::NOHANG).is_ok_and(|reaped| reaped.is_some())
            {
                tracing::debug!(pid, "reaped an orphan");
            }
        }
    }

    fn is_zombie_of(pid: u32, parent: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses can contain any characters; state and parent follow it.
        let after = stat.rsplit_once(')').map(|(_, after)| after.split_whitespace());
        let Some(mut after) = after else { return false };
        after.next() == Some("Z") && after.next().and_then(|own| own.parse().ok()) == Some(parent)
    }
}
