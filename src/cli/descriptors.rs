//! File descriptors: the limit of the process and the share that connections may use.

/// Descriptors that one worker takes: its link, pipes, and handles of the process.
const WORKER: usize = 10;
/// Maximum number of workers that descriptors are reserved for.
const WORKERS: usize = 4;
/// Connections over the cap that are answered 503 at the same time.
const REFUSED: usize = 64;
/// Descriptors for files of models, listings and the like.
const OTHERS: usize = 16;

/// Raises the soft limit of open files to the hard limit. Returns the new limit; `None` if the
/// platform has none.
#[cfg(unix)]
pub(super) fn raise() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("failed to raise the limit of open files: {error}");
            limit.current
        }
    };
    current.map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
pub(super) fn raise() -> Option<usize> {
    None
}

/// Returns the number of connections that may be open at a time, so that descriptors for workers
/// and files are left.
pub(super) fn connections(wanted: usize, descriptors: Option<usize>, adapters: usize) -> usize {
    let Some(descriptors) = descriptors else { return wanted };
    let possible = left_for_connections(descriptors, open_now(), adapters);
    if possible < wanted {
        tracing::warn!(
            "limits.connections: {possible} in place of {wanted}, as the process may open only \
             {descriptors} files; raise that limit (ulimit -n, LimitNOFILE)"
        );
    }
    wanted.min(possible)
}

fn left_for_connections(descriptors: usize, open: usize, adapters: usize) -> usize {
    let left = descriptors.saturating_sub(open + OTHERS);
    let workers = WORKER * adapters.min(WORKERS);
    let all = left.saturating_sub(workers).max(left / 2);
    // Up to `REFUSED` more connections are accepted only for health checks and to be answered 503.
    all.saturating_sub(REFUSED).max(all / 2).max(1)
}

/// Number of descriptors that are open at the start.
fn open_now() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(OTHERS, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_files_keep_descriptors() {
        assert_eq!(left_for_connections(20_000, 20, usize::MAX), 20_000 - 20 - 16 - 40 - 64);
        assert_eq!(left_for_connections(1024, 20, 1), 1024 - 20 - 16 - 10 - 64);
        // With few descriptors, connections receive at least half of the rest.
        assert_eq!(left_for_connections(64, 20, 4), 7);
        assert_eq!(left_for_connections(40, 20, 4), 1);
        assert_eq!(left_for_connections(8, 20, 4), 1);
        assert_eq!(connections(5000, None, 4), 5000);
        assert_eq!(connections(5, Some(1000), 4), 5);
    }
}
