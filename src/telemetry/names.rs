//! JSON names of the scheduler's enums, which do not depend on serde.

use schedule::{Activity, AdapterMode, Change, Reason};
use serde::Serializer;
use std::collections::BTreeMap;

/// The activity of an adapter that is not used.
pub(crate) const UNUSED: &str = "unused";

pub(crate) fn activity_name(activity: Option<Activity>) -> &'static str {
    activity.map_or(UNUSED, Activity::as_str)
}

pub(crate) fn activity<S: Serializer>(
    activity: &Option<Activity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(activity_name(*activity))
}

pub(crate) fn activities<S: Serializer>(
    by_adapter: &BTreeMap<String, Activity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(by_adapter.iter().map(|(adapter, doing)| (adapter, doing.as_str())))
}

pub(crate) fn mode<S: Serializer>(mode: &AdapterMode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.as_str())
}

pub(crate) fn change<S: Serializer>(change: &Change, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(change.as_str())
}

pub(crate) fn reason<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.as_str())
}
