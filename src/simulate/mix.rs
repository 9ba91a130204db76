//! The adapters of a computer as the simulator needs them: a TOML file that `serve --record` writes
//! from its measurements, or that people write to evaluate hardware.

use super::fleet::Machine;
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Adapters and the models that they serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Models by name; a model without an entry has default values.
    #[serde(default)]
    pub models: BTreeMap<String, ModelInMix>,
    pub adapters: Vec<AdapterInMix>,
}

/// Properties of a model that are the same on all adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelInMix {
    /// Rows of the largest batch.
    pub max_rows: u32,
    /// Seconds that the first request of a batch may wait for others (batching delay).
    pub delay_s: f64,
    /// Latency target in seconds, if it differs from that of the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo_s: Option<f64>,
}

impl Default for ModelInMix {
    fn default() -> ModelInMix {
        ModelInMix { max_rows: 32, delay_s: 0.0, slo_s: None }
    }
}

/// One adapter. Watts are above those of the adapter when it is off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterInMix {
    pub name: String,
    /// Seconds from off to an open and checked device.
    pub cold_start_s: f64,
    pub idle_w: f64,
    pub active_w: f64,
    pub start_w: f64,
    /// Seconds from the request to stop until the adapter is off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stop_s: f64,
    /// The adapter is the host's CPU, which is used according to the rule for the CPU.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cpu: bool,
    /// Factor by which its batches take longer while another adapter starts.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub slowed_by_starts: f64,
    /// Memory for models; without a value, all models fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Batch times by model; `default` applies to all models without an entry.
    pub models: BTreeMap<String, Times>,
}

/// Time of a model's batch on an adapter: `alpha_s + beta_s * rows`, rows padded to their bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    pub alpha_s: f64,
    pub beta_s: f64,
    /// Seconds to load and warm up.
    #[serde(default)]
    pub load_s: f64,
    /// Memory that the model takes.
    #[serde(default)]
    pub bytes: u64,
}

impl Times {
    /// Seconds of a batch of one row.
    pub fn row_seconds(&self) -> f64 {
        self.alpha_s + self.beta_s
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn one() -> f64 {
    1.0
}

/// Entry that applies to every model without its own.
pub const ANY_MODEL: &str = "default";
/// Limit of adapters: the search over subsets and the bounds grow exponentially with their number.
const ADAPTERS_MAX: usize = 16;

impl Mix {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or invalid values, which are named.
    pub fn open(path: &Path) -> anyhow::Result<Mix> {
        let text = std::fs::read_to_string(path);
        let text =
            text.with_context(|| format!("failed to read the adapters {}", path.display()))?;
        let mix = Mix::parse(&text);
        mix.with_context(|| format!("the adapters {} cannot be used", path.display()))
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// As for [`Mix::open`].
    pub fn parse(text: &str) -> anyhow::Result<Mix> {
        let mix: Mix = toml::from_str(text)?;
        ensure!(!mix.adapters.is_empty(), "`[[adapters]]` is missing");
        ensure!(
            mix.adapters.len() <= ADAPTERS_MAX,
            "too many adapters; at most {ADAPTERS_MAX} are supported"
        );
        for adapter in &mix.adapters {
            adapter.check().with_context(|| format!("adapter `{}`", adapter.name))?;
        }
        for (name, model) in &mix.models {
            model.check().with_context(|| format!("model `{name}`"))?;
        }
        Ok(mix)
    }

    /// Returns the times of a model on an adapter.
    ///
    /// # Errors
    /// If the adapter has no entry for the model.
    pub fn times(&self, adapter: usize, model: &str) -> anyhow::Result<Times> {
        let Some(adapter) = self.adapters.get(adapter) else { bail!("unknown adapter") };
        let times = adapter.models.get(model).or_else(|| adapter.models.get(ANY_MODEL));
        times.copied().with_context(|| {
            let name = &adapter.name;
            format!("adapter `{name}` has no times for model `{model}`; add a table `{ANY_MODEL}` for all models")
        })
    }

    /// Returns the adapters as machines that serve this one model.
    ///
    /// # Errors
    /// As for [`Mix::times`].
    pub fn machines(&self, model: &str) -> anyhow::Result<Vec<Machine>> {
        let max_rows = self.model(model).max_rows;
        let machine = |(at, adapter): (usize, &AdapterInMix)| {
            let times = self.times(at, model)?;
            Ok(Machine {
                name: adapter.name.clone(),
                alpha: times.alpha_s,
                beta: times.beta_s,
                max_rows,
                start: adapter.cold_start_s + times.load_s,
                idle_w: adapter.idle_w,
                active_w: adapter.active_w,
                start_w: adapter.start_w,
            })
        };
        self.adapters.iter().enumerate().map(machine).collect()
    }

    /// Returns the properties of a model, or the defaults.
    pub fn model(&self, name: &str) -> ModelInMix {
        let model = self.models.get(name).or_else(|| self.models.get(ANY_MODEL));
        model.cloned().unwrap_or_default()
    }

    /// Creates a mix of machines that serve any one model.
    pub fn of(machines: &[Machine]) -> Mix {
        let max_rows = machines.first().map_or(1, |machine| machine.max_rows);
        let model = ModelInMix { max_rows, ..ModelInMix::default() };
        let adapter = |machine: &Machine| {
            let times =
                Times { alpha_s: machine.alpha, beta_s: machine.beta, load_s: 0.0, bytes: 0 };
            AdapterInMix {
                name: machine.name.clone(),
                cold_start_s: machine.start,
                idle_w: machine.idle_w,
                active_w: machine.active_w,
                start_w: machine.start_w,
                stop_s: 0.0,
                cpu: false,
                slowed_by_starts: 1.0,
                memory_bytes: None,
                models: BTreeMap::from([(ANY_MODEL.to_owned(), times)]),
            }
        };
        let models = BTreeMap::from([(ANY_MODEL.to_owned(), model)]);
        Mix { models, adapters: machines.iter().map(adapter).collect() }
    }
}

impl ModelInMix {
    fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=1 << 20).contains(&self.max_rows), "`max_rows` is {}", self.max_rows);
        seconds("delay_s", self.delay_s)?;
        seconds("slo_s", self.slo_s.unwrap_or(1.0))
    }
}

impl AdapterInMix {
    fn check(&self) -> anyhow::Result<()> {
        seconds("cold_start_s", self.cold_start_s)?;
        seconds("stop_s", self.stop_s)?;
        let slowed = self.slowed_by_starts;
        ensure!((1.0..=1e3).contains(&slowed), "`slowed_by_starts` is {slowed}, not 1 to 1000");
        for (name, watts) in
            [("idle_w", self.idle_w), ("active_w", self.active_w), ("start_w", self.start_w)]
        {
            ensure!((0.0..=1e6).contains(&watts), "`{name}` is {watts}, not 0 to 1000000 watts");
        }
        ensure!(!self.models.is_empty(), "`models` is empty; add a table `models.{ANY_MODEL}`");
        for (model, times) in &self.models {
            let check = || {
                seconds("alpha_s", times.alpha_s)?;
                seconds("beta_s", times.beta_s)?;
                seconds("load_s", times.load_s)?;
                ensure!(
                    times.alpha_s + times.beta_s > 0.0,
                    "`alpha_s` and `beta_s` are both 0; a batch must take time"
                );
                Ok(())
            };
            check().with_context(|| format!("model `{model}`"))?;
        }
        Ok(())
    }
}

fn seconds(name: &str, value: f64) -> anyhow::Result<()> {
    ensure!((0.0..=1e6).contains(&value), "`{name}` is {value}, not 0 to 1000000 seconds");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[adapters]]\nname = 'a'\ncold_start_s = 2.0\nidle_w = 10.0\n\
        active_w = 100.0\nstart_w = 50.0\nmodels.default = { alpha_s = 0.01, beta_s = 0.002 }\n";

    #[test]
    fn a_mix_and_its_machines_convert_into_each_other() {
        let mix = Mix::parse(ONE).unwrap();
        let machines = mix.machines("any").unwrap();
        assert_eq!((machines[0].start, machines[0].max_rows), (2.0, 32));
        assert_eq!(Mix::of(&machines).machines("other").unwrap(), machines);
        let text = toml::to_string(&mix).unwrap();
        assert_eq!(Mix::parse(&text).unwrap(), mix);
    }

    #[test]
    fn invalid_values_are_named() {
        for (text, wrong) in [
            ("adapters = []".to_owned(), "`[[adapters]]` is missing"),
            (ONE.replace("2.0", "-2.0"), "adapter `a`: `cold_start_s` is -2"),
            (ONE.replace("100.0", "nan"), "`active_w` is NaN"),
            (ONE.replace("0.01", "0.0").replace("0.002", "0.0"), "are both 0"),
            (ONE.replace("idle_w", "idle"), "unknown field `idle`"),
            (format!("{ONE}\n[models.x]\nmax_rows = 0\n"), "`max_rows` is 0"),
        ] {
            let error = format!("{:#}", Mix::parse(&text).unwrap_err());
            assert!(error.contains(wrong), "{text}: {error}");
        }
        let mix = Mix::parse(&ONE.replace("models.default", "models.x")).unwrap();
        let error = format!("{:#}", mix.machines("y").unwrap_err());
        assert!(error.contains("has no times for model `y`"), "{error}");
    }
}
