//! Transfer of model files to workers that cannot read the repository: both ends.
//!
//! A file is cut into pieces of 1 MiB. The SHA-256 of a piece is its address: the receiver keeps a
//! piece only if it has the listed hash, and requests only the pieces that it lacks. The folder of
//! a version is named by the hash of its list, so a version that was received before is not sent
//! again, even by another server.

mod received;
mod sent;
#[cfg(test)]
mod tests;

pub use received::{ReceivedVersions, Transfer, TransferError, VersionInUse};
pub use sent::SentFiles;

use crate::files::{FILE_BYTES_MAX, is_safe_name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a piece; the last one of a file may have fewer. A batch waits for one piece at most.
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

/// A file in the list for the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// The path in the repository, with `/` between the parts.
    path: String,
    bytes: u64,
    pieces: Vec<PieceHash>,
}

impl ListedFile {
    /// A file with the concatenated hashes of its pieces. `None` if the path or the number of
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

    /// The concatenated hashes of its pieces.
    pub fn hashes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    /// Offset and bytes of a piece; `None` if the file has no such piece.
    fn extent(&self, piece: u32) -> Option<(u64, u64)> {
        let offset = u64::from(piece).checked_mul(PIECE_BYTES)?;
        let bytes = self.bytes.checked_sub(offset)?.min(PIECE_BYTES);
        (bytes > 0).then_some((offset, bytes))
    }
}

/// Bytes of the hashes of a file with `file_bytes` bytes.
pub fn hash_bytes(file_bytes: u64) -> u64 {
    file_bytes.div_ceil(PIECE_BYTES).saturating_mul(HASH_BYTES as u64)
}

fn hash(piece: &[u8]) -> PieceHash {
    Sha256::digest(piece).into()
}
