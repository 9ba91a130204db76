//! What `top` reads of a server's snapshot. It may meet an older or a newer server, so nothing
//! here is required, nothing unknown is an error, and what makes no sense counts as unknown.

use super::text::clean;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// Longest list that is read; a server's own bounds are lower.
const ELEMENTS_MAX: usize = 1000;

/// Words from the server, made harmless for a terminal on the way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        Ok(Text(match Value::deserialize(from)? {
            Value::Null => String::new(),
            Value::String(text) => clean(&text),
            other => clean(&other.to_string()),
        }))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(clean(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// An adapter's id: sent back to the server as it came, shown only when cleaned.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(String);

impl Id {
    pub(crate) fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&clean(&self.0))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        Ok(Id(match Value::deserialize(from)? {
            Value::String(id) => id,
            _ => String::new(),
        }))
    }
}

/// A number that may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Number(pub(crate) Option<f64>);

impl Number {
    /// For counts, where nothing told is nothing done.
    pub(crate) fn or_zero(self) -> f64 {
        self.0.unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        let value = Value::deserialize(from)?.as_f64();
        Ok(Number(value.filter(|value| value.is_finite())))
    }
}

/// Something that is so only if it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Flag, D::Error> {
        Ok(Flag(Value::deserialize(from)?.as_bool().unwrap_or_default()))
    }
}

/// A part that counts as not told where it cannot be read.
fn part<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(T::deserialize(Value::deserialize(from)?).unwrap_or_default())
}

/// Told, even if what was told is that there is nothing.
fn told<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    part(from).map(Some)
}

/// A list without the elements that cannot be read.
fn list<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let elements: Vec<Value> = part(from)?;
    let elements = elements.into_iter().take(ELEMENTS_MAX);
    Ok(elements.filter_map(|element| T::deserialize(element).ok()).collect())
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Snapshot {
    #[serde(deserialize_with = "part")]
    pub(crate) server: Server,
    #[serde(deserialize_with = "list")]
    pub(crate) adapters: Vec<Adapter>,
    #[serde(deserialize_with = "list")]
    pub(crate) models: Vec<Model>,
    #[serde(deserialize_with = "part")]
    pub(crate) queue: Queue,
    /// Newest last.
    #[serde(deserialize_with = "list")]
    pub(crate) decisions: Vec<Decision>,
    #[serde(deserialize_with = "part")]
    pub(crate) sample: Option<Sample>,
    #[serde(deserialize_with = "part")]
    pub(crate) load: Option<Load>,
}

impl Snapshot {
    pub(crate) fn now_ms(&self) -> f64 {
        self.server.uptime_ms.or_zero()
    }

    /// The newest sample; of a server that keeps none, the present as it is.
    pub(crate) fn sample_or_present(&self) -> Sample {
        self.sample.clone().unwrap_or_else(|| Sample {
            at_ms: self.server.uptime_ms,
            queued: self.queue.queued_requests,
            in_flight: self.queue.in_flight_requests,
            on: self.adapters.iter().map(|of| (of.id.raw().to_owned(), of.state.clone())).collect(),
        })
    }

    pub(crate) fn adapter(&self, id: &Id) -> Option<&Adapter> {
        self.adapters.iter().find(|adapter| adapter.id == *id)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) version: Text,
    pub(crate) uptime_ms: Number,
    pub(crate) ready: Flag,
    pub(crate) reason: Text,
    pub(crate) shutting_down: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Adapter {
    pub(crate) id: Id,
    pub(crate) name: Text,
    pub(crate) api: Text,
    pub(crate) class: Text,
    pub(crate) driver: Text,
    pub(crate) driver_info: Text,
    pub(crate) memory_bytes: Number,
    pub(crate) state: Text,
    pub(crate) reason: Text,
    pub(crate) fallback: Flag,
    pub(crate) mode: Text,
    pub(crate) since_ms: Number,
    pub(crate) phase: Text,
    pub(crate) retry_at_ms: Number,
    pub(crate) fault: Text,
    #[serde(deserialize_with = "part")]
    pub(crate) last_decision: Option<Decision>,
    pub(crate) pid: Number,
    pub(crate) requests: Number,
    pub(crate) rows: Number,
    pub(crate) batches: Number,
    pub(crate) starts: Number,
    pub(crate) on_ms: Number,
    pub(crate) cold_start_ms: Number,
    #[serde(deserialize_with = "part")]
    pub(crate) power: Option<Power>,
    #[serde(deserialize_with = "list")]
    pub(crate) replicas: Vec<Replica>,
    pub(crate) memory_used_bytes: Number,
    pub(crate) memory_budget_bytes: Number,
    /// `None` of a server that does not tell; `Some(None)` of an adapter that did nothing.
    #[serde(deserialize_with = "told")]
    pub(crate) recent: Option<Option<Recent>>,
    #[serde(deserialize_with = "part")]
    pub(crate) sensors: Sensors,
}

impl Adapter {
    pub(crate) fn is_used(&self) -> bool {
        &*self.state != "unused"
    }

    /// Whether it has a worker process that serves or soon will.
    pub(crate) fn is_on(&self) -> bool {
        let on = ["starting", "loading", "idle", "busy", "draining", "stopping"];
        on.contains(&&*self.state)
    }

    /// What it did lately, summed up by `of`: nothing if it did nothing, unknown if untold.
    pub(crate) fn lately(&self, of: impl Fn(&Recent) -> Number) -> Option<f64> {
        match &self.recent {
            None => None,
            Some(None) => Some(0.0),
            Some(Some(recent)) => of(recent).0,
        }
    }

    /// A latency of what it did lately; there is none if it did nothing.
    pub(crate) fn latency(&self, of: impl Fn(&Recent) -> Number) -> Option<f64> {
        self.recent.iter().flatten().find_map(|recent| of(recent).0)
    }

    /// How it is called; the id where it has no name.
    pub(crate) fn title(&self) -> String {
        if self.name.is_empty() { self.id.to_string() } else { self.name.to_string() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Power {
    pub(crate) idle_watts: Number,
    pub(crate) active_watts: Number,
    pub(crate) assumed: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Replica {
    pub(crate) model: Text,
    pub(crate) loaded: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Recent {
    pub(crate) requests_per_s: Number,
    pub(crate) rows_per_s: Number,
    pub(crate) queue_p50_ms: Number,
    pub(crate) queue_p99_ms: Number,
    pub(crate) run_p50_ms: Number,
    pub(crate) run_p99_ms: Number,
    pub(crate) busy: Number,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Sensors {
    pub(crate) utilisation: Number,
    pub(crate) power_watts: Number,
    pub(crate) temperature_celsius: Number,
    pub(crate) memory_used_bytes: Number,
    pub(crate) memory_total_bytes: Number,
    pub(crate) asleep: Flag,
    pub(crate) source: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Model {
    pub(crate) name: Text,
    pub(crate) version: Text,
    pub(crate) state: Text,
    pub(crate) reason: Text,
    #[serde(deserialize_with = "list")]
    pub(crate) adapters: Vec<Id>,
    pub(crate) requests: Number,
    pub(crate) errors: Number,
    pub(crate) slo_ms: Number,
    pub(crate) last_error: Text,
    /// As of an adapter.
    #[serde(deserialize_with = "told")]
    pub(crate) recent: Option<Option<ModelRecent>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ModelRecent {
    pub(crate) requests_per_s: Number,
    pub(crate) p50_ms: Number,
    pub(crate) p99_ms: Number,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Queue {
    pub(crate) queued_requests: Number,
    pub(crate) in_flight_requests: Number,
    pub(crate) drain_ms: Number,
    pub(crate) held_bytes: Number,
    pub(crate) held_bytes_max: Number,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Decision {
    pub(crate) seq: Number,
    pub(crate) at_ms: Number,
    pub(crate) adapter: Id,
    pub(crate) change: Text,
    pub(crate) model: Text,
    pub(crate) text: Text,
}

/// One second of the time line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Sample {
    pub(crate) at_ms: Number,
    pub(crate) queued: Number,
    pub(crate) in_flight: Number,
    /// By an adapter's raw id.
    #[serde(deserialize_with = "part")]
    pub(crate) on: BTreeMap<String, Text>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    #[serde(deserialize_with = "list")]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Load {
    pub(crate) model: Text,
    pub(crate) concurrency: Number,
    pub(crate) running: Flag,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Snapshot {
        Snapshot::deserialize(value).unwrap()
    }

    #[test]
    fn an_empty_object_is_a_snapshot() {
        assert_eq!(read(json!({})), Snapshot::default());
    }

    #[test]
    fn what_makes_no_sense_is_unknown_and_harms_nothing_else() {
        let snapshot = read(json!({
            "server": null, "queue": [1], "models": 3, "news": {"a": 1},
            "adapters": [7, {"id": "a", "name": null, "pid": "x", "sensors": null, "power": 1,
                             "recent": {"busy": 0.5, "rows_per_s": null}, "extra": []}],
        }));
        let adapter = snapshot.adapters.first().unwrap();
        assert_eq!((snapshot.adapters.len(), adapter.id.raw(), adapter.pid.0), (1, "a", None));
        assert_eq!(adapter.lately(|recent| recent.busy), Some(0.5));
        assert_eq!(adapter.lately(|recent| recent.rows_per_s), None);
        assert_eq!(adapter.title(), "a");
    }

    #[test]
    fn nothing_done_differs_from_nothing_told() {
        let idle = read(json!({"adapters": [{"recent": null}, {}]}));
        let busy: Vec<_> = idle.adapters.iter().map(|of| of.lately(|recent| recent.busy)).collect();
        assert_eq!(busy, [Some(0.0), None]);
    }

    #[test]
    fn words_are_cleaned_and_ids_kept() {
        let snapshot = read(json!({"adapters": [{"id": "a\u{1b}[2J", "name": "b\u{1b}[2J"}]}));
        let adapter = snapshot.adapters.first().unwrap();
        assert_eq!(adapter.id.raw(), "a\u{1b}[2J");
        assert_eq!(adapter.id.to_string(), "a\u{fffd}[2J");
        assert_eq!(&*adapter.name, "b\u{fffd}[2J");
    }
}
