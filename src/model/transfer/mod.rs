//! Files of models for workers that cannot read the repository: both ends of their transfer.
//!
//! A file is cut into pieces of 1 MiB. The SHA-256 of a piece is its address: the receiver keeps a
//! piece only if it has the hash that was listed, and asks for those alone that it lacks. The folder
//! of a version is named by the hash of its list, so that a version that was received before is not
//! sent again, whichever server sends it.

mod received;
mod sent;
#[cfg(test)]
mod tests;

pub use received::{ReceivedVersions, Transfer, TransferError, VersionInUse};
pub use sent::SentFiles;

use crate::files::{FILE_BYTES_MAX, is_safe_name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a piece; the last one of a file may have fewer. A batch waits for at most one.
pub const PIECE_BYTES: u64 = 1 << 20;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// SHA-256 of a piece.
type PieceHash = [u8; HASH_BYTES];

/// The place of a piece in a list of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceId {
    /// Index of the file in the list.
    pub file: u32,
    /// Index of the piece in the file.
    pub piece: u32,
}

/// A file as it is listed for the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Path in the repository, with `/` between the parts.
    path: String,
    bytes: u64,
    pieces: Vec<PieceHash>,
}

impl ListedFile {
    /// A file with the hashes of its pieces, one after the other. `None` if the path or the number of
    /// hashes is wrong.
    pub fn new(path: String, bytes: u64, hashes: &[u8]) -> Option<ListedFile> {
        let is_safe = path.split('/').all(is_safe_name) && bytes <= FILE_BYTES_MAX;
        if !is_safe || hashes.len() as u64 != hash_bytes(bytes) {
            return None;
        }
        let (pieces, _) = hashes.as_chunks::<HASH_BYTES>();
        Some(ListedFile { path, bytes, pieces: pieces.to_vec() })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hashes of its pieces, one after the other.
    pub fn hashes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// Offset and bytes of a piece; `None` if there is no such piece.
    fn extent(&self, piece: u32) -> Option<(u64, u64)> {
        let offset = u64::from(piece).checked_mul(PIECE_BYTES)?;
        let bytes = self.bytes.checked_sub(offset)?.min(PIECE_BYTES);
        (bytes > 0).then_some((offset, bytes))
    }
}

/// Bytes of the hashes of a file with so many bytes.
pub fn hash_bytes(file_bytes: u64) -> u64 {
    file_bytes.div_ceil(PIECE_BYTES).saturating_mul(HASH_BYTES as u64)
}

fn hash(piece: &[u8]) -> PieceHash {
    Sha256::digest(piece).into()
}
