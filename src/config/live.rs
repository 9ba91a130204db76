//! Which settings may change while the server runs.

use super::Config;
use toml::{Table, Value};

/// In force as soon as they are read again (in workers: in those that are started from then on), in
/// whole tables if they end in a dot. All others wait for a restart: they are built into what runs.
const LIVE: [&str; 5] =
    ["adapters.", "limits.queue_requests", "limits.queue_rows", "slo", "workers."];
/// Workers that are there give signs of life as often as they were asked to when they began, and
/// the end of the server waits for them as long as it would have then. Validation loads begin with the
/// settings of the start.
const NOT_LIVE: [&str; 4] =
    ["workers.silence", "workers.stop", "workers.reap", "workers.validation"];

/// Names of settings that differ between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force at once.
    pub live: Vec<String>,
    /// In force after a restart.
    pub waiting: Vec<String>,
}

impl Config {
    /// What is different in `new`.
    pub fn changes(&self, new: &Config) -> Changes {
        let mut names = Vec::new();
        compare("", &table(self), &table(new), &mut names);
        // It is never written down.
        if self.api_key != new.api_key {
            names.push("api_key".to_owned());
        }
        let (live, waiting) = names.into_iter().partition(|name| is_live(name));
        Changes { live, waiting }
    }
}

fn is_live(name: &str) -> bool {
    let named = |live: &str| name == live || (live.ends_with('.') && name.starts_with(live));
    LIVE.into_iter().any(named) && !NOT_LIVE.contains(&name)
}

/// A configuration that cannot be written has nothing in it that could be compared.
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
    fn what_changed_is_named_by_when_it_is_in_force() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (new, live, waiting) in [
            ("", &[][..], &[][..]),
            ("slo = '7s'\n[adapters]\nmax = 3", &["adapters.max", "slo"], &[]),
            ("[adapters.memory]\ncpu = 7", &["adapters.memory.cpu"], &[]),
            ("[workers]\nrun = '7s'\nsilence = '7s'", &["workers.run"], &["workers.silence"]),
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
