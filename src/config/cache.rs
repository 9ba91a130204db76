//! Limits of the files that are kept in the cache folder.

use serde::{Deserialize, Serialize};

/// Limits of the cache folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Maximum bytes of stored copies of the last valid model files, over all repositories; 0
    /// stores none.
    pub models_bytes: u64,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { models_bytes: 4 << 30 }
    }
}
