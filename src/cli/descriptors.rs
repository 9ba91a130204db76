//! File descriptors: how many the process may open, and how many of them connections may take.

/// Descriptors that one worker takes: its link, pipes, and handles of the process.
const WORKER: usize = 10;
/// Most workers that descriptors are kept for.
const WORKERS: usize = 4;
/// Connections over the cap that are answered 503 at the same time.
const REFUSED: usize = 64;
/// Descriptors for files of models, listings and the like.
const OTHERS: usize = 16;

/// Raises the number of descriptors that this process may open to the most that it may raise it to.
/// Returns that number; `None` where there is no limit.
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

/// Connections that may be open at a time, so that descriptors for workers and files are left.
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
    // As many again, up to `REFUSED`, are accepted only for health checks and to be answered 503.
    all.saturating_sub(REFUSED).max(all / 2).max(1)
}

/// Descriptors that are open at the start.
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
        // With few descriptors at least half of what is left.
        assert_eq!(left_for_connections(64, 20, 4), 7);
        assert_eq!(left_for_connections(40, 20, 4), 1);
        assert_eq!(left_for_connections(8, 20, 4), 1);
        assert_eq!(connections(5000, None, 4), 5000);
        assert_eq!(connections(5, Some(1000), 4), 5);
    }
}
