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
pub(crate) struct CleanText(String);

impl<'de> Deserialize<'de> for CleanText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<CleanText, D::Error> {
        Ok(CleanText(match Value::deserialize(from)? {
            Value::Null => String::new(),
            Value::String(text) => clean(&text),
            other => clean(&other.to_string()),
        }))
    }
}

impl From<&str> for CleanText {
    fn from(text: &str) -> CleanText {
        CleanText(clean(text))
    }
}

impl Deref for CleanText {
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
pub(crate) struct OptionalNumber(pub(crate) Option<f64>);

impl OptionalNumber {
    /// For counts, where nothing told is nothing done.
    pub(crate) fn or_zero(self) -> f64 {
        self.0.unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for OptionalNumber {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<OptionalNumber, D::Error> {
        let value = Value::deserialize(from)?.as_f64();
        Ok(OptionalNumber(value.filter(|value| value.is_finite())))
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
pub(crate) struct ReceivedSnapshot {
    #[serde(deserialize_with = "part")]
    pub(crate) server: ReceivedServer,
    #[serde(deserialize_with = "list")]
    pub(crate) adapters: Vec<ReceivedAdapter>,
    #[serde(deserialize_with = "list")]
    pub(crate) models: Vec<ReceivedModel>,
    #[serde(deserialize_with = "part")]
    pub(crate) queue: ReceivedQueue,
    /// Newest last.
    #[serde(deserialize_with = "list")]
    pub(crate) decisions: Vec<ReceivedDecision>,
    #[serde(deserialize_with = "part")]
    pub(crate) sample: Option<ReceivedSample>,
    #[serde(deserialize_with = "part")]
    pub(crate) load: Option<ReceivedLoad>,
}

impl ReceivedSnapshot {
    pub(crate) fn now_ms(&self) -> f64 {
        self.server.uptime_ms.or_zero()
    }

    /// The newest sample; of a server that keeps none, the present as it is.
    pub(crate) fn sample_or_present(&self) -> ReceivedSample {
        self.sample.clone().unwrap_or_else(|| ReceivedSample {
            at_ms: self.server.uptime_ms,
            queued: self.queue.queued_requests,
            in_flight: self.queue.in_flight_requests,
            on: self.adapters.iter().map(|of| (of.id.raw().to_owned(), of.state.clone())).collect(),
        })
    }

    pub(crate) fn adapter(&self, id: &Id) -> Option<&ReceivedAdapter> {
        self.adapters.iter().find(|adapter| adapter.id == *id)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedServer {
    pub(crate) version: CleanText,
    pub(crate) uptime_ms: OptionalNumber,
    pub(crate) ready: Flag,
    pub(crate) reason: CleanText,
    pub(crate) shutting_down: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedAdapter {
    pub(crate) id: Id,
    pub(crate) name: CleanText,
    pub(crate) api: CleanText,
    pub(crate) class: CleanText,
    pub(crate) driver: CleanText,
    pub(crate) driver_info: CleanText,
    pub(crate) memory_bytes: OptionalNumber,
    pub(crate) state: CleanText,
    pub(crate) reason: CleanText,
    pub(crate) fallback: Flag,
    pub(crate) mode: CleanText,
    pub(crate) since_ms: OptionalNumber,
    pub(crate) phase: CleanText,
    pub(crate) retry_at_ms: OptionalNumber,
    pub(crate) fault: CleanText,
    #[serde(deserialize_with = "part")]
    pub(crate) last_decision: Option<ReceivedDecision>,
    pub(crate) pid: OptionalNumber,
    pub(crate) requests: OptionalNumber,
    pub(crate) rows: OptionalNumber,
    pub(crate) batches: OptionalNumber,
    pub(crate) starts: OptionalNumber,
    pub(crate) on_ms: OptionalNumber,
    pub(crate) cold_start_ms: OptionalNumber,
    #[serde(deserialize_with = "part")]
    pub(crate) power: Option<ReceivedPower>,
    #[serde(deserialize_with = "list")]
    pub(crate) replicas: Vec<ReceivedReplica>,
    pub(crate) memory_used_bytes: OptionalNumber,
    pub(crate) memory_budget_bytes: OptionalNumber,
    /// `None` of a server that does not tell; `Some(None)` of an adapter that did nothing.
    #[serde(deserialize_with = "told")]
    pub(crate) recent: Option<Option<ReceivedRecent>>,
    #[serde(deserialize_with = "part")]
    pub(crate) sensors: ReceivedSensors,
}

impl ReceivedAdapter {
    pub(crate) fn is_used(&self) -> bool {
        &*self.state != "unused"
    }

    /// Whether it has a worker process that serves or soon will.
    pub(crate) fn is_on(&self) -> bool {
        let on = ["starting", "loading", "idle", "busy", "draining", "stopping"];
        on.contains(&&*self.state)
    }

    /// What it did lately, summed up by `of`: nothing if it did nothing, unknown if untold.
    pub(crate) fn lately(&self, of: impl Fn(&ReceivedRecent) -> OptionalNumber) -> Option<f64> {
        match &self.recent {
            None => None,
            Some(None) => Some(0.0),
            Some(Some(recent)) => of(recent).0,
        }
    }

    /// A latency of what it did lately; there is none if it did nothing.
    pub(crate) fn latency(&self, of: impl Fn(&ReceivedRecent) -> OptionalNumber) -> Option<f64> {
        self.recent.iter().flatten().find_map(|recent| of(recent).0)
    }

    /// How it is called; the id where it has no name.
    pub(crate) fn title(&self) -> String {
        if self.name.is_empty() { self.id.to_string() } else { self.name.to_string() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedPower {
    pub(crate) idle_watts: OptionalNumber,
    pub(crate) active_watts: OptionalNumber,
    pub(crate) assumed: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedReplica {
    pub(crate) model: CleanText,
    pub(crate) loaded: Flag,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedRecent {
    pub(crate) requests_per_s: OptionalNumber,
    pub(crate) rows_per_s: OptionalNumber,
    pub(crate) queue_p50_ms: OptionalNumber,
    pub(crate) queue_p99_ms: OptionalNumber,
    pub(crate) run_p50_ms: OptionalNumber,
    pub(crate) run_p99_ms: OptionalNumber,
    pub(crate) busy: OptionalNumber,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedSensors {
    pub(crate) utilisation: OptionalNumber,
    pub(crate) power_watts: OptionalNumber,
    pub(crate) temperature_celsius: OptionalNumber,
    pub(crate) memory_used_bytes: OptionalNumber,
    pub(crate) memory_total_bytes: OptionalNumber,
    pub(crate) asleep: Flag,
    pub(crate) source: CleanText,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedModel {
    pub(crate) name: CleanText,
    pub(crate) version: CleanText,
    pub(crate) state: CleanText,
    pub(crate) reason: CleanText,
    #[serde(deserialize_with = "list")]
    pub(crate) adapters: Vec<Id>,
    pub(crate) requests: OptionalNumber,
    pub(crate) errors: OptionalNumber,
    pub(crate) slo_ms: OptionalNumber,
    pub(crate) last_error: CleanText,
    /// As of an adapter.
    #[serde(deserialize_with = "told")]
    pub(crate) recent: Option<Option<ReceivedModelRecent>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedModelRecent {
    pub(crate) requests_per_s: OptionalNumber,
    pub(crate) p50_ms: OptionalNumber,
    pub(crate) p99_ms: OptionalNumber,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedQueue {
    pub(crate) queued_requests: OptionalNumber,
    pub(crate) in_flight_requests: OptionalNumber,
    pub(crate) drain_ms: OptionalNumber,
    pub(crate) held_bytes: OptionalNumber,
    pub(crate) held_bytes_max: OptionalNumber,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedDecision {
    pub(crate) seq: OptionalNumber,
    pub(crate) at_ms: OptionalNumber,
    pub(crate) adapter: Id,
    pub(crate) change: CleanText,
    pub(crate) model: CleanText,
    pub(crate) text: CleanText,
}

/// One second of the time line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedSample {
    pub(crate) at_ms: OptionalNumber,
    pub(crate) queued: OptionalNumber,
    pub(crate) in_flight: OptionalNumber,
    /// By an adapter's raw id.
    #[serde(deserialize_with = "part")]
    pub(crate) on: BTreeMap<String, CleanText>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedHistory {
    #[serde(deserialize_with = "list")]
    pub(crate) samples: Vec<ReceivedSample>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedLoad {
    pub(crate) model: CleanText,
    pub(crate) concurrency: OptionalNumber,
    pub(crate) running: Flag,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> ReceivedSnapshot {
        ReceivedSnapshot::deserialize(value).unwrap()
    }

    #[test]
    fn an_empty_object_is_a_snapshot() {
        assert_eq!(read(json!({})), ReceivedSnapshot::default());
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
