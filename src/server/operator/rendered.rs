//! The snapshot as JSON, shared by all event streams and `GET /api/snapshot`.

use crate::operator::load::{LoadGenerator, LoadView};
use adapter::entry::Usability;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use telemetry::{AdapterView, Snapshot};
use types::error::Error;

/// The JSON of the newest snapshot that was sent, without its decisions: these do not change, and
/// each is sent once.
#[derive(Debug, Default)]
pub(crate) struct RenderedSnapshot(Mutex<Option<(Arc<Snapshot>, Arc<str>)>>);

impl RenderedSnapshot {
    /// Returns the shared JSON; `None` if the snapshot cannot be serialized.
    pub(crate) fn of(
        &self,
        snapshot: &Arc<Snapshot>,
        load: Option<&LoadGenerator>,
    ) -> Option<Arc<str>> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = newest.as_ref().filter(|(of, _)| Arc::ptr_eq(of, snapshot)) {
            return Some(text.clone());
        }
        let mut value = whole(snapshot, load)?;
        value.as_object_mut()?.remove("decisions");
        let text: Arc<str> = value.to_string().into();
        *newest = Some((snapshot.clone(), text.clone()));
        Some(text)
    }
}

/// Returns the snapshot with its decisions; `None` if it cannot be serialized.
pub(crate) fn whole(snapshot: &Snapshot, load: Option<&LoadGenerator>) -> Option<Value> {
    let load = load.and_then(LoadGenerator::view);
    snapshot_value(snapshot, load.as_ref()).ok()
}

/// Returns the snapshot, with one `state` for each adapter, and the load generator.
pub(crate) fn snapshot_value(snapshot: &Snapshot, load: Option<&LoadView>) -> Result<Value, Error> {
    let mut whole = serde_json::to_value(snapshot).map_err(not_serializable)?;
    let adapters: Result<Vec<_>, _> = snapshot.adapters.iter().map(adapter_value).collect();
    if let Some(shown) = whole.get_mut("adapters") {
        *shown = Value::Array(adapters?);
    }
    if let Some(fields) = whole.as_object_mut() {
        fields.insert("load".into(), serde_json::to_value(load).map_err(not_serializable)?);
    }
    Ok(whole)
}

/// Returns an adapter as JSON: `state` is its activity, or `unused`.
pub(crate) fn adapter_value(adapter: &AdapterView) -> Result<Value, Error> {
    let mut shown = serde_json::to_value(adapter).map_err(not_serializable)?;
    if let Some(fields) = shown.as_object_mut() {
        let activity = fields.remove("activity").unwrap_or_default();
        let unused = adapter.entry.state == Usability::Unused;
        fields.insert("state".into(), if unused { "unused".into() } else { activity });
    }
    Ok(shown)
}

fn not_serializable(error: serde_json::Error) -> Error {
    Error::internal(format!("failed to write the snapshot as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schedule::Activity;

    #[test]
    fn state_is_what_the_adapter_does() {
        let adapters =
            vec![AdapterView::example("a", Some(Activity::Busy)), AdapterView::example("b", None)];
        let snapshot = Snapshot { adapters, ..Snapshot::default() };
        let shown = snapshot_value(&snapshot, None).unwrap();
        assert_eq!(shown["adapters"][0]["state"], "busy");
        assert_eq!(shown["adapters"][1]["state"], "unused");
        assert!(shown["adapters"][0].get("activity").is_none());
        assert_eq!(shown["adapters"][0]["mode"], "auto");
        let text = shown.to_string();
        assert_eq!(text.matches("\"state\"").count(), 2);
    }
}
