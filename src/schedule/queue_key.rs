//! Requests that may share a batch.

use super::ids::{ModelId, Shape};

/// Requests that may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct QueueKey {
    pub(super) model: ModelId,
    pub(super) shape: Shape,
    /// 0, or a number of its own for those that a failed batch was taken apart into.
    pub(super) group: u64,
}
