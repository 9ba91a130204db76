//! Bounds on what is kept in the cache folder.

use serde::{Deserialize, Serialize};

/// What the cache folder may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Bytes of the last good files of models, of all repositories together; 0 keeps none.
    pub models_bytes: u64,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { models_bytes: 4 << 30 }
    }
}
