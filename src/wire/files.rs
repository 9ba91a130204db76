//! Messages for the transfer of a model's files to a remote worker.
//!
//! The worker requests the list, then the pieces that it lacks ([`model::transfer`]). Each transfer
//! has its own number, by which late messages of an aborted transfer are recognised.

use model::transfer::{PieceId, hash_bytes};
use serde::{Deserialize, Serialize};

/// Worker to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesRequest {
    /// List the files of this model, under this number of a transfer.
    List { transfer: u64, model: u32 },
    /// Send a piece of a file that was listed.
    Piece { transfer: u64, id: PieceId },
}

/// Server to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesAnswer {
    /// A file of the list. The hashes of its pieces follow.
    File { transfer: u64, path: String, bytes: u64 },
    /// The list is complete.
    Listed { transfer: u64 },
    /// The piece follows.
    Piece { transfer: u64, id: PieceId, bytes: u64 },
    /// A file cannot be read; `machine` as in [`model::BadFile`].
    Failed { transfer: u64, error: String, machine: bool },
}

impl FilesAnswer {
    /// The number of the transfer.
    pub fn transfer(&self) -> u64 {
        match *self {
            FilesAnswer::File { transfer, .. }
            | FilesAnswer::Listed { transfer }
            | FilesAnswer::Piece { transfer, .. }
            | FilesAnswer::Failed { transfer, .. } => transfer,
        }
    }

    /// Bytes that follow the message.
    pub(super) fn body_bytes(&self) -> u64 {
        match *self {
            FilesAnswer::File { bytes, .. } => hash_bytes(bytes),
            FilesAnswer::Piece { bytes, .. } => bytes,
            FilesAnswer::Listed { .. } | FilesAnswer::Failed { .. } => 0,
        }
    }
}
