//! Settings that may change while the server runs.

use super::{Adapters, Config, Limits, Workers};
use toml::{Table, Value};

/// Names of settings that differ between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that take effect at once.
    pub live: Vec<String>,
    /// Settings that take effect after a restart.
    pub waiting: Vec<String>,
}

impl Config {
    /// Returns the settings that differ in `new`.
    pub fn changes(&self, new: &Config) -> Changes {
        let waiting = differences(&of_the_start(self), &of_the_start(new));
        let mut live = differences(self, new);
        live.retain(|name| !waiting.contains(name));
        Changes { live, waiting }
    }
}

/// Returns the names of settings that differ.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut names = Vec::new();
    compare("", &table(old), &table(new), &mut names);
    // It is never serialized.
    if old.api_key != new.api_key {
        names.push("api_key".to_owned());
    }
    names
}

/// Returns only the settings that are fixed at the start, and defaults for those that may change.
/// The latency target, the adapters, the limits of the queue, and the settings of workers take
/// effect as soon as they are read again (in workers: in those that are started later). There are
/// exceptions: running workers keep their heartbeat interval, the end of the server waits for them
/// as long as the settings of the start require, and validation loads keep their limits.
fn of_the_start(config: &Config) -> Config {
    let (limits, workers) = (Limits::default(), Workers::default());
    let Limits { queue_requests, queue_rows, .. } = limits;
    let Workers { heartbeat_timeout, stop_timeout, kill_timeout, validation_timeout, .. } =
        config.workers;
    Config {
        latency_target: Config::default().latency_target,
        adapters: Adapters::default(),
        limits: Limits { queue_requests, queue_rows, ..config.limits.clone() },
        workers: Workers {
            heartbeat_timeout,
            stop_timeout,
            kill_timeout,
            validation_timeout,
            ..workers
        },
        ..config.clone()
    }
}

/// A configuration that cannot be serialized results in an empty table.
fn table(config: &Config) -> Table {
    Table::try_from(config).unwrap_or_default()
}

fn compare(before: &str, old: &Table, new: &Table, names: &mut Vec<String>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => {
                compare(&format!("{before}{key}."), old, new, names);
            }
            (old, new) if old != new => names.push(format!("{before}{key}")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(old: &str, new: &str) -> (Vec<String>, Vec<String>) {
        let read = |text| toml::from_str::<Config>(text).unwrap();
        let Changes { live, waiting } = read(old).changes(&read(new));
        (live, waiting)
    }

    #[test]
    fn changed_settings_are_listed_by_when_they_take_effect() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (new, live, waiting) in [
            ("", &[][..], &[][..]),
            (
                "latency_target = '7s'\n[adapters]\nmax = 3",
                &["adapters.max", "latency_target"],
                &[],
            ),
            ("[adapters.memory]\ncpu = 7", &["adapters.memory.cpu"], &[]),
            (
                "[workers]\nrun_timeout = '7s'\nheartbeat_timeout = '7s'",
                &["workers.run_timeout"],
                &["workers.heartbeat_timeout"],
            ),
            (
                "[limits]\nqueue_rows = 7\nconnections = 7",
                &["limits.queue_rows"],
                &["limits.connections"],
            ),
            ("listen = '127.0.0.1:7'\nmodels = 'm'", &[], &["listen", "models"]),
            ("api_key = 'secret'", &[], &["api_key"]),
            ("[test.slow.cpu]\nrow = '7ms'", &[], &["test"]),
        ] {
            assert_eq!(changes("", new), (names(live), names(waiting)), "{new}");
            assert_eq!(changes(new, ""), (names(live), names(waiting)), "from {new}");
        }
    }
}
