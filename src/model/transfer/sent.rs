//! The sender's end: lists the files of a version, and reads their pieces.

use super::{HASH_BYTES, ListedFile, PIECE_BYTES, PieceId, hash};
use crate::files::{BadFile, Detail, FILE_BYTES_MAX, ModelSource, open_plain};
use crate::info::ModelInfo;
use crate::version_files::version_files;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The files of a version at the time when they were listed.
#[derive(Debug)]
pub struct SentFiles {
    root: PathBuf,
    files: Vec<ListedFile>,
}

impl SentFiles {
    /// Lists the files of a version, and reads all of them for their hashes.
    ///
    /// # Errors
    /// If a file cannot be read, or the version is embedded in the program.
    pub fn of(info: &ModelInfo) -> Result<SentFiles, BadFile> {
        let ModelSource::Folder(root) = &info.source else {
            return Err(BadFile::new(&*info.name, "is compiled into the program"));
        };
        let bad = |error: io::Error| BadFile::new(root.display().to_string(), &error);
        let root = root.canonicalize().map_err(bad)?;
        let files = version_files(&root, info)?;
        let files = files.iter().map(|file| listed(&root, &file.path)).collect::<Result<_, _>>()?;
        Ok(SentFiles { root, files })
    }

    pub fn files(&self) -> &[ListedFile] {
        &self.files
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// If the piece does not exist, or cannot be read any more.
    pub fn piece(&self, id: PieceId) -> Result<Bytes, BadFile> {
        let file = self.files.get(id.file as usize);
        let found = file.and_then(|file| Some((file, file.extent(id.piece)?)));
        let Some((file, (offset, bytes))) = found else {
            return Err(BadFile::new(format!("{id:?}"), "was not listed"));
        };
        read_at(&self.root, &file.path, offset, bytes)
            .map_err(|detail| BadFile::new(&*file.path, detail))
    }
}

fn read_at(root: &Path, path: &str, offset: u64, bytes: u64) -> Result<Bytes, Detail> {
    let mut file = open_plain(root, path, FILE_BYTES_MAX)?;
    file.seek(SeekFrom::Start(offset)).map_err(|error| Detail::from(&error))?;
    read_piece(&mut file, bytes).map(Bytes::from).map_err(|error| Detail::from(&error))
}

fn listed(root: &Path, path: &str) -> Result<ListedFile, BadFile> {
    let bad = |detail: Detail| BadFile::new(path, detail);
    let file = open_plain(root, path, FILE_BYTES_MAX).map_err(bad)?;
    let (bytes, hashes) = hashed(file).map_err(|error| bad(Detail::from(&error)))?;
    ListedFile::new(path.to_owned(), bytes, &hashes)
        .ok_or_else(|| bad(Detail::from("has a name or size that cannot be sent")))
}

/// Bytes of a file, and the hashes of its pieces.
fn hashed(mut file: File) -> io::Result<(u64, Vec<u8>)> {
    let (mut bytes, mut hashes) = (0u64, Vec::with_capacity(HASH_BYTES));
    loop {
        let piece = read_piece(&mut file, PIECE_BYTES)?;
        if piece.is_empty() {
            return Ok((bytes, hashes));
        }
        bytes += piece.len() as u64;
        hashes.extend_from_slice(&hash(&piece));
    }
}

/// Reads `bytes` bytes, or up to the end of the file.
pub(super) fn read_piece(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    file.take(bytes).read_to_end(&mut piece)?;
    Ok(piece)
}
