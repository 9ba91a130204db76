//! The lowest priority while a worker starts, so that the CPU, which serves until then, keeps its
//! processor time.
//!
//! Linux raises a lowered priority again only as far as `RLIMIT_NICE` permits. Where it does not,
//! nothing is lowered: the threads that a driver starts meanwhile inherit the priority, and would
//! serve with it. Root raises the limit before it gives up its rights; a service needs
//! `LimitNICE=+0`, a container `--ulimit nice=20`.

/// The priority of the threads of this process before its start lowered it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Priority(i32);

#[cfg(target_os = "linux")]
mod linux {
    use super::Priority;
    use rustix::process::{
        Pid, Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit,
    };
    use std::fs;

    /// `nice(2)`.
    const LOWEST: i32 = 19;
    /// `RLIMIT_NICE` for a priority is this minus the priority (`getrlimit(2)`).
    const LIMIT_BASE: i32 = 20;
    /// Threads that start while others are restored inherit what is left of the low priority.
    const PASSES_MAX: usize = 8;

    impl Priority {
        /// The present priority, if it may be restored. It raises the limit where it has the right.
        pub(in super::super) fn restorable() -> Option<Priority> {
            let normal = getpriority_process(None).ok().filter(|normal| *normal < LOWEST)?;
            let wanted = u64::try_from(LIMIT_BASE - normal).ok()?;
            let Rlimit { current, maximum } = getrlimit(Resource::Nice);
            if current.is_some_and(|current| current < wanted) {
                let maximum = maximum.map(|maximum| maximum.max(wanted));
                setrlimit(Resource::Nice, Rlimit { current: Some(wanted), maximum }).ok()?;
            }
            Some(Priority(normal))
        }

        /// Lowers the priority of this thread, and of those that it starts.
        pub(in super::super) fn lower(self) {
            if let Err(error) = setpriority_process(None, LOWEST) {
                tracing::debug!("failed to lower the priority of a start: {error}");
            }
        }

        /// Restores the priority of all threads of this process that have the lowest one.
        pub(in super::super) fn restore(self) {
            let low = |thread: &Pid| getpriority_process(Some(*thread)) == Ok(LOWEST);
            for _ in 0..PASSES_MAX {
                let low: Vec<Pid> = threads().into_iter().filter(low).collect();
                if low.is_empty() {
                    return;
                }
                for thread in low {
                    if let Err(error) = setpriority_process(Some(thread), self.0) {
                        tracing::debug!("failed to restore the priority of a thread: {error}");
                    }
                }
            }
        }
    }

    fn threads() -> Vec<Pid> {
        let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let id = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        entries.filter_map(id).collect()
    }
}

/// Elsewhere a priority concerns the whole process, and cannot be raised again.
#[cfg(not(target_os = "linux"))]
impl Priority {
    pub(super) fn restorable() -> Option<Priority> {
        None
    }

    pub(super) fn lower(self) {}

    pub(super) fn restore(self) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn priority_is_restored_for_threads_that_were_started_meanwhile() {
        let Some(priority) = Priority::restorable() else { return };
        let mine = || getpriority_process(None).unwrap();
        let normal = mine();
        let (go, wait) = mpsc::channel::<()>();
        let start = thread::spawn(move || {
            priority.lower();
            let child = thread::spawn(move || {
                let before = mine();
                wait.recv().unwrap();
                (before, mine())
            });
            thread::sleep(std::time::Duration::from_millis(50));
            priority.restore();
            go.send(()).unwrap();
            (child.join().unwrap(), mine())
        });
        assert_eq!(start.join().unwrap(), ((19, normal), normal));
        assert_eq!(mine(), normal);
    }
}
