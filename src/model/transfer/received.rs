//! The receiver's end: keeps versions in a folder, and completes them piece by piece.
//!
//! ```text
//! <folder>/<hash of the list>/         a repository of this one version
//! <folder>/<hash of the list>.part/    the same, incomplete
//! ```

use super::sent::read_piece;
use super::{ListedFile, PIECE_BYTES, PieceHash, PieceId, hash};
use crate::file_copies::{changed, folders, make_private, remove, size_of};
use crate::files::ModelSource;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

/// End of the name of the folder of an incomplete version.
const PART: &str = ".part";

/// The versions that were received.
#[derive(Debug)]
pub struct ReceivedVersions {
    folder: PathBuf,
    bytes_max: u64,
    in_use: Vec<Weak<PathBuf>>,
}

/// A complete version that is not removed until all clones of this are dropped.
#[derive(Clone, Debug)]
pub struct VersionInUse(Arc<PathBuf>);

impl VersionInUse {
    pub fn source(&self) -> ModelSource {
        ModelSource::Folder(self.0.to_path_buf())
    }
}

/// The reason why a version cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("{path}: a piece has another hash than listed; the file changed while it was sent")]
    Changed { path: String },
    #[error("its {bytes} bytes are more than {most} bytes (cache.models_bytes)")]
    TooLarge { bytes: u64, most: u64 },
    #[error("{path}: {error}")]
    Path { path: String, error: io::Error },
    #[error("piece {0:?} was not requested")]
    Stray(PieceId),
}

impl TransferError {
    fn of(path: &Path) -> impl FnOnce(io::Error) -> TransferError {
        let path = path.display().to_string();
        move |error| TransferError::Path { path, error }
    }
}

impl ReceivedVersions {
    /// Keeps versions in this folder, with at most `bytes_max` bytes in total.
    pub fn new(folder: PathBuf, bytes_max: u64) -> ReceivedVersions {
        ReceivedVersions { folder, bytes_max, in_use: Vec::new() }
    }

    /// Begins to receive a version, or continues an interrupted transfer.
    ///
    /// # Errors
    /// If there is not enough space for it, or a file cannot be created.
    pub fn begin(&mut self, files: Vec<ListedFile>) -> Result<Transfer, TransferError> {
        let name = list_hash(&files);
        let (target, draft) = (self.folder.join(&name), self.folder.join(format!("{name}{PART}")));
        if target.is_dir() {
            let _ = File::open(&target).and_then(|it| it.set_modified(SystemTime::now()));
            return Ok(Transfer { target, draft, files, missing: VecDeque::new() });
        }
        self.make_room(&files, &draft)?;
        make_private(&draft).map_err(TransferError::of(&draft))?;
        let mut missing = VecDeque::new();
        for (number, file) in (0..).zip(&files) {
            missing.extend(missing_pieces(&draft, number, file)?);
        }
        Ok(Transfer { target, draft, files, missing })
    }

    /// Completes the transfer and returns the version.
    ///
    /// # Errors
    /// If its folder cannot be renamed.
    pub fn finish(&mut self, transfer: Transfer) -> Result<VersionInUse, TransferError> {
        let Transfer { target, draft, .. } = transfer;
        if !target.is_dir() {
            fs::rename(&draft, &target).map_err(TransferError::of(&draft))?;
        }
        let version = Arc::new(target);
        self.in_use.retain(|version| version.strong_count() > 0);
        self.in_use.push(Arc::downgrade(&version));
        Ok(VersionInUse(version))
    }

    /// Frees space by removing versions that are not in use, the oldest first.
    fn make_room(&self, files: &[ListedFile], draft: &Path) -> Result<(), TransferError> {
        let most = self.bytes_max;
        let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        let in_use: Vec<_> = self.in_use.iter().filter_map(Weak::upgrade).collect();
        let others = folders(&self.folder).into_iter().filter(|path| path != draft);
        let mut others: Vec<_> =
            others.map(|path| (changed(&path), size_of(&path), path)).collect();
        others.sort();
        let mut used = others.iter().fold(bytes, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
        for (_, bytes, path) in others {
            if used > most && !in_use.iter().any(|version| **version == path) {
                remove(&path);
                used = used.saturating_sub(bytes);
            }
        }
        if used <= most { Ok(()) } else { Err(TransferError::TooLarge { bytes, most }) }
    }
}

/// A version that is being received.
#[derive(Debug)]
pub struct Transfer {
    target: PathBuf,
    draft: PathBuf,
    files: Vec<ListedFile>,
    /// Pieces that are missing, in the order of their requests.
    missing: VecDeque<PieceId>,
}

impl Transfer {
    /// The missing piece with the index `nth`, to be requested.
    pub fn missing(&self, nth: usize) -> Option<PieceId> {
        self.missing.get(nth).copied()
    }

    /// The number of missing pieces.
    pub fn missing_pieces(&self) -> usize {
        self.missing.len()
    }

    /// Keeps the next expected piece.
    ///
    /// # Errors
    /// If the piece is another one, has another hash, or cannot be written.
    pub fn put(&mut self, id: PieceId, piece: &[u8]) -> Result<(), TransferError> {
        let is_next = self.missing.front() == Some(&id);
        let file = self.files.get(id.file as usize).filter(|_| is_next);
        let listed = file.and_then(|file| Some((file, file.pieces.get(id.piece as usize)?)));
        let (file, listed) = listed.ok_or(TransferError::Stray(id))?;
        if hash(piece) != *listed {
            return Err(TransferError::Changed { path: file.path.clone() });
        }
        let path = self.draft.join(&file.path);
        let is_last = id.piece as usize + 1 == file.pieces.len();
        write_at(&path, u64::from(id.piece) * PIECE_BYTES, piece, is_last)
            .map_err(TransferError::of(&path))?;
        self.missing.pop_front();
        Ok(())
    }
}

/// The pieces of a file that are missing in the draft, which contains the file afterwards.
fn missing_pieces(
    draft: &Path,
    number: u32,
    file: &ListedFile,
) -> Result<Vec<PieceId>, TransferError> {
    let path = draft.join(&file.path);
    let there = pieces_present(&path, file).map_err(TransferError::of(&path))?;
    let missing = (0..).zip(there).filter(|(_, is_there)| !is_there);
    Ok(missing.map(|(piece, _)| PieceId { file: number, piece }).collect())
}

/// Creates the file if it does not exist; returns for each of its pieces whether it is present.
fn pieces_present(path: &Path, file: &ListedFile) -> io::Result<Vec<bool>> {
    path.parent().map_or(Ok(()), make_private)?;
    let mut options = File::options();
    let mut there = options.read(true).write(true).create(true).truncate(false).open(path)?;
    let is_there = |listed: &PieceHash| Ok(hash(&read_piece(&mut there, PIECE_BYTES)?) == *listed);
    file.pieces.iter().map(is_there).collect()
}

/// Writes a piece. A version must be complete if its folder exists after a power failure, so the
/// last piece of a file is followed by a sync.
fn write_at(path: &Path, offset: u64, piece: &[u8], is_last: bool) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(piece)?;
    if is_last { file.sync_all() } else { Ok(()) }
}

fn list_hash(files: &[ListedFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update((file.path.len() as u64).to_le_bytes());
        hasher.update(&file.path);
        hasher.update(file.bytes.to_le_bytes());
        hasher.update(file.pieces.as_flattened());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
