//! Queue and adapter states during one second.

use super::names;
use schedule::Activity;
use serde::Serialize;
use std::collections::BTreeMap;

/// One second of the server's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// End of the second, in milliseconds since the server started.
    pub at_ms: u64,
    /// Maximum number of requests that waited at the same time.
    pub queued: u64,
    /// Maximum number of requests that were in flight at the same time.
    pub in_flight: u64,
    /// State by adapter, for those with a worker or in quarantine: of the states in this second,
    /// the first in the order `busy`, `draining`, `loading`, `starting`, `idle`, `stopping`,
    /// `quarantined`, `unreaped`.
    #[serde(serialize_with = "names::activities")]
    pub on: BTreeMap<String, Activity>,
}
