//! Queue and adapter states during one second.

use super::words;
use schedule::Activity;
use serde::Serialize;
use std::collections::BTreeMap;

/// One second of the server's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Its end, in milliseconds since the server started.
    pub at_ms: u64,
    /// The most requests that waited at once.
    pub queued: u64,
    /// The most requests that were with workers at once.
    pub in_flight: u64,
    /// By adapter, for those with a worker or in quarantine: of the states that it was in, the one
    /// that comes first of `busy`, `draining`, `loading`, `starting`, `idle`, `stopping`,
    /// `quarantined`, `unreaped`.
    #[serde(serialize_with = "words::activities")]
    pub on: BTreeMap<String, Activity>,
}
