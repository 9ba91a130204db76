//! The fields of a server's snapshot that `top` reads. The server may be older or newer, so no
//! field is required, unknown fields are not an error, and invalid values count as unknown.

use super::text::clean;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// Maximum length of a list; a server's own limits are lower.
const ELEMENTS_MAX: usize = 1000;

/// Text of the server, made harmless for a terminal when it is received.
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

/// An adapter's id: sent back to the server unchanged, shown only cleaned.
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
    /// Returns 0 for a missing number, for counts.
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

/// A flag that is true only if it is present and true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Flag, D::Error> {
        Ok(Flag(Value::deserialize(from)?.as_bool().unwrap_or_default()))
    }
}

/// Deserializes a part; one that cannot be read counts as missing.
fn part<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(T::deserialize(Value::deserialize(from)?).unwrap_or_default())
}

/// Deserializes a present value, which may be `null`.
fn present<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    part(from).map(Some)
}

/// Deserializes a list without the elements that cannot be read.
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
    /// Decisions, newest last.
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

    /// Returns the newest sample; if the server has none, the current state as a sample.
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
    /// `None` if the server does not report it; `Some(None)` if the adapter did nothing.
    #[serde(deserialize_with = "present")]
    pub(crate) recent: Option<Option<ReceivedRecent>>,
    #[serde(deserialize_with = "part")]
    pub(crate) sensors: ReceivedSensors,
}

impl ReceivedAdapter {
    pub(crate) fn is_used(&self) -> bool {
        &*self.state != "unused"
    }

    /// Returns true if it has a worker process that serves or will soon.
    pub(crate) fn is_on(&self) -> bool {
        let on = ["starting", "loading", "idle", "busy", "draining", "stopping"];
        on.contains(&&*self.state)
    }

    /// Returns a figure of its recent work as computed by `of`: 0 if it did nothing, `None` if not
    /// reported.
    pub(crate) fn recent_figure(
        &self,
        of: impl Fn(&ReceivedRecent) -> OptionalNumber,
    ) -> Option<f64> {
        match &self.recent {
            None => None,
            Some(None) => Some(0.0),
            Some(Some(recent)) => of(recent).0,
        }
    }

    /// Returns a latency of its recent work; `None` if it did nothing.
    pub(crate) fn latency(&self, of: impl Fn(&ReceivedRecent) -> OptionalNumber) -> Option<f64> {
        self.recent.iter().flatten().find_map(|recent| of(recent).0)
    }

    /// Returns its name, or the id if it has none.
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
    /// The same as for an adapter.
    #[serde(deserialize_with = "present")]
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

/// One second of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ReceivedSample {
    pub(crate) at_ms: OptionalNumber,
    pub(crate) queued: OptionalNumber,
    pub(crate) in_flight: OptionalNumber,
    /// States by an adapter's raw id.
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
    pub(crate) answered: OptionalNumber,
    pub(crate) failed: OptionalNumber,
    pub(crate) p50_ms: OptionalNumber,
    pub(crate) p99_ms: OptionalNumber,
    pub(crate) last_error: CleanText,
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
    fn invalid_values_are_unknown_and_do_not_affect_others() {
        let snapshot = read(json!({
            "server": null, "queue": [1], "models": 3, "news": {"a": 1},
            "adapters": [7, {"id": "a", "name": null, "pid": "x", "sensors": null, "power": 1,
                             "recent": {"busy": 0.5, "rows_per_s": null}, "extra": []}],
        }));
        let adapter = snapshot.adapters.first().unwrap();
        assert_eq!((snapshot.adapters.len(), adapter.id.raw(), adapter.pid.0), (1, "a", None));
        assert_eq!(adapter.recent_figure(|recent| recent.busy), Some(0.5));
        assert_eq!(adapter.recent_figure(|recent| recent.rows_per_s), None);
        assert_eq!(adapter.title(), "a");
    }

    #[test]
    fn no_recent_work_differs_from_unreported_work() {
        let idle = read(json!({"adapters": [{"recent": null}, {}]}));
        let busy: Vec<_> =
            idle.adapters.iter().map(|of| of.recent_figure(|recent| recent.busy)).collect();
        assert_eq!(busy, [Some(0.0), None]);
    }

    #[test]
    fn texts_are_cleaned_and_ids_are_kept() {
        let snapshot = read(json!({"adapters": [{"id": "a\u{1b}[2J", "name": "b\u{1b}[2J"}]}));
        let adapter = snapshot.adapters.first().unwrap();
        assert_eq!(adapter.id.raw(), "a\u{1b}[2J");
        assert_eq!(adapter.id.to_string(), "a\u{fffd}[2J");
        assert_eq!(&*adapter.name, "b\u{fffd}[2J");
    }
}
