//! One setting as a line of the configuration file, such as `adapters.min = 1`.

use super::{Config, renamed};
use anyhow::{anyhow, bail, ensure};
use toml::{Table, Value};

/// Settings that may be changed over HTTP: those compared by `/api/whatif`. A key of scope
/// `admin` must not be able to name programs, drivers or files of this machine.
pub const CHANGEABLE: [&str; 3] = ["adapters.cpu", "adapters.min", "latency_target"];

impl Config {
    /// Returns these settings with the setting of `line` replaced and checked, and its name.
    ///
    /// # Errors
    /// If `line` is not a single setting, is not one of [`CHANGEABLE`], or has an invalid value.
    pub fn with_line(&self, line: &str) -> anyhow::Result<(Config, String)> {
        let (name, value) = parse(line)?;
        let name = renamed::present(&name)?.to_owned();
        ensure!(CHANGEABLE.contains(&&*name), "{}", self.refusal(&name, value, line));
        let mut table = Table::try_from(self)?;
        set(&mut table, &name, value)?;
        let wrong = |error: toml::de::Error| anyhow!("{name}: {}", error.message().trim());
        let mut config: Config = table.try_into().map_err(wrong)?;
        // It is never serialized, so that the table lacks it.
        config.api_key.clone_from(&self.api_key);
        config.check()?;
        Ok((config, name))
    }

    fn refusal(&self, name: &str, value: Value, line: &str) -> String {
        let others = CHANGEABLE.join(", ");
        let waits = self.waits_for_restart(name, value).unwrap_or(false);
        let then = if waits { "restart the server" } else { "send SIGHUP" };
        format!(
            "{name}: only {others} can be changed here; write `{}` to the configuration file and \
             {then}",
            line.trim()
        )
    }

    /// Returns true if another value of a setting takes effect only after a restart.
    fn waits_for_restart(&self, name: &str, value: Value) -> anyhow::Result<bool> {
        let mut table = Table::try_from(self)?;
        set(&mut table, name, value)?;
        let changed: Config = table.try_into()?;
        Ok(self.changes(&changed).waiting.iter().any(|waiting| waiting == name))
    }

    /// Returns the line of the configuration file that sets `name` to its current value.
    pub fn line_of(&self, name: &str) -> Option<String> {
        let table = Value::Table(Table::try_from(self).ok()?);
        let value = name.split('.').try_fold(&table, |table, key| table.get(key))?;
        Some(format!("{name} = {value}"))
    }
}

/// Parses a line into name and value.
fn parse(line: &str) -> anyhow::Result<(String, Value)> {
    let form = "must be one line of the configuration file, such as `adapters.min = 1`";
    let mut table: Table = toml::from_str(line).map_err(|_| anyhow!("setting: {form}"))?;
    let mut name = String::new();
    loop {
        let mut fields = table.into_iter();
        let (Some((key, value)), None) = (fields.next(), fields.next()) else {
            bail!("setting: {form}");
        };
        name = if name.is_empty() { key } else { format!("{name}.{key}") };
        match value {
            Value::Table(inner) => table = inner,
            value => return Ok((name, value)),
        }
    }
}

/// Sets a value in the table that contains `name`.
fn set(table: &mut Table, name: &str, value: Value) -> anyhow::Result<()> {
    let (folder, key) = name.rsplit_once('.').unwrap_or(("", name));
    let keys = folder.split('.').filter(|key| !key.is_empty());
    let inner = keys.into_iter().try_fold(table, |table, key| table.get_mut(key)?.as_table_mut());
    inner.ok_or_else(|| anyhow!("{name}: unknown setting"))?.insert(key.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_changes_one_setting_and_keeps_the_others() {
        let begun = Config { api_key: Some("secret".into()), ..Config::default() };
        for (line, name, before, after) in [
            ("adapters.min = 2", "adapters.min", "adapters.min = 0", "adapters.min = 2"),
            ("[adapters]\nmin = 2", "adapters.min", "adapters.min = 0", "adapters.min = 2"),
            (
                "latency_target = '1300ms'",
                "latency_target",
                "latency_target = \"100ms\"",
                "latency_target = \"1s 300ms\"",
            ),
            (
                "adapters.cpu = 'never'",
                "adapters.cpu",
                "adapters.cpu = \"auto\"",
                "adapters.cpu = \"never\"",
            ),
        ] {
            let (changed, named) = begun.with_line(line).unwrap();
            assert_eq!(named, name);
            assert_eq!(begun.line_of(name).unwrap(), before);
            assert_eq!(changed.line_of(name).unwrap(), after);
            assert_eq!(changed.changes(&begun).live, [name]);
            // The former value is also a valid line.
            assert_eq!(changed.with_line(before).unwrap().0, begun);
        }
        let (changed, name) = begun.with_line("slo = '7s'").unwrap();
        assert_eq!((changed.latency_target, &*name), (Duration::from_secs(7), "latency_target"));
    }

    #[test]
    fn lines_that_cannot_be_applied_are_rejected_with_a_remedy() {
        let two_adapters = "[adapters]\nmin = 1\nmax = 2";
        for (line, reason) in [
            ("", "setting: must be one line of the configuration file"),
            ("slo", "setting: must be one line"),
            ("slo = '1s'\nadapters.min = 1", "setting: must be one line"),
            (two_adapters, "setting: must be one line"),
            ("adapters = {}", "setting: must be one line"),
            ("adapters.min = -1", "adapters.min: "),
            ("adapters.min = 65", "adapters.min is 65, but adapters.max is 64"),
            ("adapters.cpu = 'no'", "adapters.cpu: unknown variant"),
            ("latency_target = '0s'", "latency_target is 0"),
            ("workers.silence = '1s'", "workers.silence is now workers.heartbeat_timeout"),
            (
                "workers.confine = false",
                "`workers.confine = false` to the configuration file and send SIGHUP",
            ),
            (
                "listen = '0.0.0.0:80'",
                "listen: only adapters.cpu, adapters.min, latency_target can be changed here; write",
            ),
            ("models = '/'", "to the configuration file and restart the server"),
        ] {
            let error = Config::default().with_line(line).expect_err(line);
            let error = format!("{error:#}");
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
