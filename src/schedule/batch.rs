//! Batches and their parts.

use super::ids::{BatchId, ModelId, RequestId};

/// Consecutive rows of one request: all of them, or a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    pub request: RequestId,
    /// Its first row, counted within the request.
    pub first: u32,
    pub rows: u32,
}

/// A batch that a worker holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    pub id: BatchId,
    pub model: ModelId,
    /// Logarithm to base 2 of the bytes of one row.
    pub size: u8,
    /// The parts of requests in it, in row order.
    pub parts: Vec<Part>,
    /// The batch that this one repeats in a shadow run, to be compared with it; no request is
    /// answered from this one.
    pub repeats: Option<BatchId>,
}

impl Batch {
    /// Rows of all its parts.
    pub fn rows(&self) -> u32 {
        self.parts.iter().map(|part| part.rows).sum()
    }
}
