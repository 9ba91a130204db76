//! Time that is spent on tuning kernels, and the size of the adapter's caches: a load that tunes
//! takes many times as long as the next one. cubecl logs the start and the result of each tuning.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use types::clock;

/// Target of the line before a tuning (`cubecl_runtime::tune::tuner`).
const BEGIN: &str = "cubecl_runtime::tune";
/// Target of the line with its result, if cubecl's settings route it to the log.
const END: &str = "cubecl::autotune";

/// Maximum number of cache files that are counted.
const FILES_MAX: usize = 10_000;

/// The tunings of this process.
static TUNINGS: Mutex<Tunings> = Mutex::new(Tunings { begun: None, total: Duration::ZERO });

struct Tunings {
    /// Start of the current tuning.
    begun: Option<Instant>,
    total: Duration,
}

impl Tunings {
    fn begin(&mut self, now: Instant) {
        // A tuning that fails logs no result; it ends here, with the begin of the next one.
        self.end(now);
        self.begun = Some(now);
    }

    fn end(&mut self, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.total = self.total.saturating_add(now.duration_since(begun));
        }
    }
}

/// Time that was spent on tuning since the process started.
pub(super) fn total() -> Duration {
    TUNINGS.lock().unwrap_or_else(PoisonError::into_inner).total
}

/// A layer of the log that measures tunings.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let targets = [(BEGIN, Level::INFO), (END, Level::INFO)];
    Watch.with_filter(Targets::new().with_targets(targets))
}

struct Watch;

impl<S: Subscriber> Layer<S> for Watch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // cubecl logs through the `log` crate: before the normalisation, all of its events have
        // the target "log".
        let normal = event.normalized_metadata();
        let target = normal.as_ref().map_or(event.metadata().target(), |meta| meta.target());
        let mut tunings = TUNINGS.lock().unwrap_or_else(PoisonError::into_inner);
        match target {
            END => tunings.end(clock::now()),
            target if target.starts_with(BEGIN) => tunings.begin(clock::now()),
            _ => {}
        }
    }
}

/// Bytes of all files in the folder of an adapter's caches.
pub(super) fn cached_bytes(folder: &Path) -> u64 {
    let (mut bytes, mut files) = (0u64, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            files += 1;
            if files > FILES_MAX {
                // The sum is only compared with an earlier one: a partial sum is sufficient.
                return bytes;
            }
            match facts.is_dir() {
                true => folders.push(entry.path()),
                false => bytes = bytes.saturating_add(facts.len()),
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuning_without_a_result_ends_with_the_next() {
        let begin = clock::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut tunings = Tunings { begun: None, total: Duration::ZERO };
        tunings.end(at(1));
        tunings.begin(at(1));
        tunings.end(at(3));
        tunings.end(at(5));
        tunings.begin(at(10));
        tunings.begin(at(12));
        tunings.end(at(13));
        assert_eq!(tunings.total, Duration::from_secs(5));
    }

    #[test]
    fn lines_of_the_log_begin_and_end_a_tuning() {
        use tracing_subscriber::layer::SubscriberExt;
        let before = total();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer()), || {
            tracing::info!(target: "cubecl_runtime::tune::tuner", "Tuning a kernel");
            std::thread::sleep(Duration::from_millis(30));
            tracing::info!(target: "cubecl::autotune", "the fastest is the first");
            tracing::info!(target: "cubecl_runtime::other", "nothing of it");
        });
        assert!(total() - before >= Duration::from_millis(30));
    }

    #[test]
    fn all_files_of_a_cache_are_counted() {
        let name = format!("concertina-cached-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(folder.join("a/b")).unwrap();
        assert_eq!(cached_bytes(&folder), 0);
        std::fs::write(folder.join("one"), [0; 5]).unwrap();
        std::fs::write(folder.join("a/b/two"), [0; 7]).unwrap();
        assert_eq!(cached_bytes(&folder), 12);
        assert_eq!(cached_bytes(&folder.join("none")), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
