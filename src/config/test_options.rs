//! The `[test]` table: options for tests and benchmarks of this program, never for serving.

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{Injection, Slow, TestLink};

/// Maximum delay of a batch and of a row.
const SLOW_MAX: Duration = Duration::from_secs(10);

/// Options that degrade a server on purpose. Empty except in tests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestOptions {
    /// Workers slowed by sleeping, by adapter id: with `[test.slow."cpu"]`, `batch = "1ms"` and
    /// `row = "2ms"`, a batch of 4 rows takes at least 9 ms. Two equal adapters can be given
    /// different speeds without competition for the processor.
    pub slow: BTreeMap<String, Slow>,
    /// Faults to inject into workers. With `[[test.faults]]`, `fault = "crash"`, `adapter = "cpu"`,
    /// `at = 3` and `workers = 1`, the first worker of `cpu` aborts at its third step.
    pub faults: Vec<Injection>,
    /// Workers connect over TCP, through a forwarder that delays or cuts: `[test.link]` with
    /// `listen = "127.0.0.1:7001"`, the server's end, and `connect = "127.0.0.1:7002"`, the forwarder's.
    pub link: Option<TestLink>,
    /// Adapters are listed again after kernel events of any device, not only of graphics cards,
    /// which tests cannot unplug.
    pub all_uevents: bool,
}

impl TestOptions {
    /// Returns true if no option is set, as in every server that is not tested.
    pub fn is_empty(&self) -> bool {
        *self == TestOptions::default()
    }

    /// Warns at the start about each option that is set.
    pub fn warn(&self) {
        for (adapter, Slow { batch, row }) in &self.slow {
            tracing::warn!(
                %adapter,
                "slowed for a test: every batch takes at least {batch:?} + {row:?} per row; remove \
                 [test.slow] from the settings to serve"
            );
        }
        if let Some(TestLink { connect, .. }) = self.link {
            tracing::warn!(
                "workers connect through {connect}: remove [test.link] from the settings to serve"
            );
        }
        if self.all_uevents {
            tracing::warn!(
                "adapters are listed again for events of every device: remove all_uevents from [test]"
            );
        }
        for injection in &self.faults {
            tracing::warn!(
                adapter = injection.adapter.as_deref().unwrap_or("every adapter"),
                "'{}' is injected for a test; remove [[test.faults]] from the settings to serve",
                injection.fault.as_str()
            );
        }
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (adapter, slow) in &self.slow {
            ensure!(
                slow.batch <= SLOW_MAX && slow.row <= SLOW_MAX,
                "test.slow.\"{adapter}\" is slower than {SLOW_MAX:?}"
            );
        }
        self.faults.iter().try_for_each(check_injection)
    }
}

fn check_injection(injection: &Injection) -> anyhow::Result<()> {
    let Injection { fault, at, chance, .. } = injection;
    let name = fault.as_str();
    ensure!(
        at.is_some() != chance.is_some(),
        "the fault '{name}' of test.faults needs either 'at' or 'chance'"
    );
    ensure!(*at != Some(0), "the fault '{name}' of test.faults: the first step is 1");
    ensure!(
        chance.is_none_or(|chance| (0.0..=1.0).contains(&chance)),
        "the fault '{name}' of test.faults: chance is a share from 0 to 1"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use wire::Injected;

    fn read(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.test.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn adapters_are_slowed_by_id() {
        let text = "[test.slow.\"pci-0000:01:00.0\"]\nbatch = '1ms'\nrow = '250us'\n\
                    [test.slow.cpu]\nrow = '2ms'";
        let config = read(text).unwrap();
        let slow = |id: &str| config.test.slow[id];
        let (milli, micro) = (Duration::from_millis, Duration::from_micros);
        assert_eq!(slow("pci-0000:01:00.0"), Slow { batch: milli(1), row: micro(250) });
        assert_eq!(slow("cpu"), Slow { batch: Duration::ZERO, row: milli(2) });
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(read(&printed).unwrap(), config);
    }

    #[test]
    fn without_a_test_nothing_is_slowed_or_printed() {
        assert!(Config::default().test.is_empty());
        assert!(!toml::to_string(&Config::default()).unwrap().contains("test"));
    }

    #[test]
    fn faults_are_injected() {
        let text = "[[test.faults]]\nfault = 'crash'\nadapter = 'cpu'\nat = 3\nworkers = 1\n\
                    [[test.faults]]\nfault = 'slow'\nchance = 0.1\nseed = 7";
        let config = read(text).unwrap();
        let [crash, slow] = &config.test.faults[..] else { panic!("{:?}", config.test) };
        assert!(crash.applies_to("cpu", 1) && !crash.applies_to("cpu", 2));
        assert!(crash.is_due("cpu", 1, 3));
        assert_eq!((slow.fault, slow.chance, slow.seed), (Injected::Slow, Some(0.1), 7));
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(read(&printed).unwrap(), config);
    }

    #[test]
    fn invalid_test_options_are_rejected() {
        for (text, reason) in [
            ("[test.slow.cpu]\nrow = '11s'", "test.slow.\"cpu\" is slower than 10s"),
            ("[test.slow.cpu]\nrow = 'much'", "expected"),
            ("[test.slow.cpu]\ncolumn = '1ms'", "unknown field `column`"),
            ("[test.fast.cpu]\nrow = '1ms'", "unknown field `fast`"),
            ("[[test.faults]]\nfault = 'crash'", "needs either 'at' or 'chance'"),
            ("[[test.faults]]\nfault = 'crash'\nat = 1\nchance = 0.5", "either 'at' or 'chance'"),
            ("[[test.faults]]\nfault = 'crash'\nat = 0", "the first step is 1"),
            ("[[test.faults]]\nfault = 'slow'\nchance = 1.5", "a share from 0 to 1"),
            ("[[test.faults]]\nfault = 'gremlins'\nat = 1", "unknown variant `gremlins`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
