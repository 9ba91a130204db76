//! Copies of the last good files of models, in the cache folder: they are loaded when the files in
//! the repository are overwritten with invalid ones.
//!
//! ```text
//! <cache>/models/<repository>/<name>-<version>-<stamp>/   a repository of this one version
//! ```
//!
//! The first two names are hashes, since a path and a model's name may contain any characters. The
//! files are copies and not hard links, since `cp` writes into an existing file, which would change
//! a link too. Where file systems share blocks (Btrfs, XFS), a copy takes neither time nor space.

use crate::files::{BadFile, FILE_BYTES_MAX, ModelSource, open_plain};
use crate::info::ModelInfo;
use crate::layout::version_number;
use crate::repository::{Repository, ScanResult};
use crate::version_files::{VersionFile, all_files, bytes_of, version_files};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folder inside the cache folder.
const FOLDER: &str = "models";
/// Most versions in all repositories' copies.
const COUNT_MAX: usize = 256;
/// Bytes of a piece of a copy, and the pause after each piece, which leaves most of the disk's
/// bandwidth to other programs.
const PIECE: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(20);
/// The reserve of a disk that stays free: this fraction of it, but at most `FREE_MAX` bytes.
const FREE_PARTS: u64 = 20;
const FREE_MAX: u64 = 2 << 30;
/// End of the name of an incomplete copy; the process id follows.
const DRAFT: &str = ".new-";
/// The file that is locked during a copy, so that servers with a common cache folder copy one at a
/// time.
const LOCK: &str = "lock";

/// The copies of one repository.
#[derive(Debug)]
pub struct RepositoryCopies {
    /// The folder with the copies of all repositories, and the one of this repository.
    all: PathBuf,
    own: PathBuf,
    bytes_max: u64,
}

/// A version as of its last successful load, described by its copy.
#[derive(Clone, Debug)]
pub struct ModelCopy {
    /// The stamp of the original files in the repository.
    pub stamp: u64,
    pub info: ModelInfo,
}

/// A copy in the cache folder.
#[derive(Debug)]
struct CopyFolder {
    path: PathBuf,
    /// Hash of the name, version, stamp; `None` for a draft.
    key: Option<(String, String, u64)>,
}

/// The reason why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the files changed while they were copied")]
    Changed,
    #[error("the repository is not on disk")]
    NoFolder,
    #[error(
        "its {bytes} bytes and the other copies are more than {most} bytes \
         (cache.models_bytes) or {COUNT_MAX} versions"
    )]
    TooLarge { bytes: u64, most: u64 },
    #[error("{bytes} bytes are needed, but {free} are free, of which {spared} are reserved")]
    FullDisk { bytes: u64, free: u64, spared: u64 },
    /// A file that a model cannot read any more or must not read; or too many files.
    #[error(transparent)]
    File(#[from] BadFile),
    /// A folder or file that cannot be read, copied or written.
    #[error("{path}: {error}")]
    Path { path: String, error: io::Error },
    #[error(transparent)]
    Rename(#[from] io::Error),
}

impl CopyError {
    fn of(path: impl ToString, error: io::Error) -> CopyError {
        CopyError::Path { path: path.to_string(), error }
    }
}

impl RepositoryCopies {
    /// The copies for a repository on disk; `None` for the embedded one, or if `bytes_max` is 0.
    pub fn new(
        cache_dir: &Path,
        repository: &Repository,
        bytes_max: u64,
    ) -> Option<RepositoryCopies> {
        let ModelSource::Folder(root) = repository.source() else { return None };
        if bytes_max == 0 {
            return None;
        }
        let all = cache_dir.join(FOLDER);
        let own = all.join(hashed(root.as_os_str().as_encoded_bytes()));
        Some(RepositoryCopies { all, own, bytes_max })
    }

    /// Copies the files of a loaded version, if they are still those that `info` was read from.
    /// Removes older copies of the version, and copies of the model's versions that are not among
    /// `versions`.
    ///
    /// # Errors
    /// If the files changed, exceed a limit, or cannot be copied.
    pub fn keep(
        &self,
        repository: &Repository,
        info: &ModelInfo,
        versions: &[String],
    ) -> Result<(), CopyError> {
        let _lock = self.lock();
        let kept = self.keep_one(repository, info);
        self.retain_versions(&info.name, versions);
        kept
    }

    /// Waits for the lock on copies. `None` if the folder is not writable, which the copy then
    /// reports, or if its file system has no locks.
    fn lock(&self) -> Option<File> {
        make_private(&self.all).ok()?;
        let path = self.all.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
        file.lock().ok().map(|()| file)
    }

    fn keep_one(&self, repository: &Repository, info: &ModelInfo) -> Result<(), CopyError> {
        let (name, version) = (hashed(info.name.as_bytes()), info.version.clone());
        let stamp = info.graph.stamp;
        let same = |copied: &CopyFolder| {
            copied.key.as_ref().filter(|key| (&key.0, &key.1) == (&name, &version)).map(|key| key.2)
        };
        let before: Vec<CopyFolder> =
            list(&self.own).into_iter().filter(|copied| same(copied).is_some()).collect();
        if before.iter().any(|copied| same(copied) == Some(stamp)) {
            return Ok(());
        }
        let before: Vec<PathBuf> = before.into_iter().map(|copied| copied.path).collect();
        let target = self.own.join(format!("{name}-{version}-{stamp:016x}"));
        let draft = self.own.join(format!("{name}-{version}{DRAFT}{}", std::process::id()));
        let copied = self.copy(repository, info, (&draft, &before)).and_then(|()| {
            if repository.stamp(info) != stamp {
                return Err(CopyError::Changed);
            }
            Ok(fs::rename(&draft, &target)?)
        });
        if copied.is_err() {
            remove(&draft);
        }
        // They are older than the files that have just loaded, which may exceed the limits.
        before.iter().for_each(|path| remove(path));
        copied
    }

    /// Copies the files into a draft; `before` is removed afterwards.
    fn copy(
        &self,
        repository: &Repository,
        info: &ModelInfo,
        (draft, before): (&Path, &[PathBuf]),
    ) -> Result<(), CopyError> {
        let ModelSource::Folder(root) = repository.source() else {
            return Err(CopyError::NoFolder);
        };
        let files = version_files(root, info)?;
        let bytes = bytes_of(&files);
        self.make_room(bytes, before)?;
        make_private(&self.own).map_err(|error| CopyError::of(self.own.display(), error))?;
        if check_disk(&self.own, bytes).is_err() {
            before.iter().for_each(|path| remove(path));
            check_disk(&self.own, bytes)?;
        }
        remove(draft);
        for file in &files {
            copy_file(root, file, draft)?;
        }
        Ok(())
    }

    /// Frees space by removing copies for other repositories, the oldest first.
    fn make_room(&self, bytes: u64, before: &[PathBuf]) -> Result<(), CopyError> {
        let (mut used, mut count, mut others) = (bytes, 1, Vec::new());
        for repository in folders(&self.all) {
            let copies = list(&repository).into_iter();
            for copied in copies.filter(|copied| !before.contains(&copied.path)) {
                let size = size_of(&copied.path);
                (used, count) = (used.saturating_add(size), count + 1);
                if repository != self.own {
                    others.push((changed(&copied.path), copied.path, size));
                }
            }
        }
        others.sort();
        let mut others = others.into_iter();
        while used > self.bytes_max || count > COUNT_MAX {
            let Some((_, path, size)) = others.next() else {
                return Err(CopyError::TooLarge { bytes, most: self.bytes_max });
            };
            remove(&path);
            (used, count) = (used.saturating_sub(size), count - 1);
        }
        Ok(())
    }

    /// The copies of a model that can be served.
    pub fn find(&self, name: &str, kinds: &[String]) -> Vec<ModelCopy> {
        let hash = hashed(name.as_bytes());
        let mut found = Vec::new();
        for copied in list(&self.own) {
            let Some((_, version, stamp)) = copied.key.filter(|key| key.0 == hash) else {
                continue;
            };
            let Ok(repository) = Repository::open(&copied.path) else { continue };
            let good = repository.scan_one(name, kinds).into_iter().find_map(|found| match found {
                ScanResult::Good(info) if info.version == version => Some(info),
                _ => None,
            });
            found.extend(good.map(|info| ModelCopy { stamp, info }));
        }
        found
    }

    /// Removes the copies of a model's versions, except those of `versions`.
    pub fn retain_versions(&self, name: &str, versions: &[String]) {
        let hash = hashed(name.as_bytes());
        for copied in list(&self.own) {
            let other = |key: &(String, String, u64)| key.0 == hash && !versions.contains(&key.1);
            if copied.key.as_ref().is_some_and(other) {
                remove(&copied.path);
            }
        }
    }

    /// Removes the copies of models that the repository does not contain, and the drafts that
    /// killed servers left.
    pub fn retain_models(&self, names: &[String]) {
        let hashes: Vec<String> = names.iter().map(|name| hashed(name.as_bytes())).collect();
        // While this server or another one copies, a draft may be in use.
        let lock = File::open(self.all.join(LOCK)).ok();
        let busy = lock.as_ref().map(File::try_lock);
        let busy = matches!(busy, Some(Err(TryLockError::WouldBlock)));
        for copied in list(&self.own) {
            let gone = match &copied.key {
                Some(key) => !hashes.contains(&key.0),
                None => !busy,
            };
            if gone {
                remove(&copied.path);
            }
        }
    }
}

/// The first 16 digits of a hash.
fn hashed(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn list(folder: &Path) -> Vec<CopyFolder> {
    let copied = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let mut parts = name.splitn(3, '-');
        let key = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(version), Some(stamp)) if version_number(version).is_some() => {
                let stamp = u64::from_str_radix(stamp, 16).ok();
                stamp.map(|stamp| (name.to_owned(), version.to_owned(), stamp))
            }
            _ => None,
        };
        (key.is_some() || name.contains(DRAFT)).then_some(CopyFolder { path, key })
    };
    folders(folder).into_iter().filter_map(copied).collect()
}

pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("failed to remove {}: {error}", path.display());
    }
}

pub(crate) fn changed(path: &Path) -> SystemTime {
    path.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Bytes of a copy, which contains no links.
pub(crate) fn size_of(path: &Path) -> u64 {
    let root = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    all_files(&root).map_or(u64::MAX, |files| bytes_of(&files))
}

fn copy_file(root: &Path, file: &VersionFile, draft: &Path) -> Result<(), CopyError> {
    let VersionFile { path, bytes } = file;
    let from = open_plain(root, path, FILE_BYTES_MAX);
    let from = from.map_err(|detail| CopyError::File(BadFile::new(path.clone(), detail)))?;
    let to = draft.join(path);
    let copied = (|| {
        make_private(to.parent().unwrap_or(draft))?;
        let mut to = File::create(&to)?;
        if !shares_blocks(&from, &to) {
            copy_pieces(from.take(*bytes), &mut to)?;
        }
        // A copy that exists after a power failure must be complete.
        to.sync_all()
    })();
    copied.map_err(|error| CopyError::of(path, error))
}

fn copy_pieces(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    while io::copy(&mut from.by_ref().take(PIECE), to)? == PIECE {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Makes `to` share the blocks of `from`; returns false if the file system does not support this.
#[cfg(target_os = "linux")]
fn shares_blocks(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn shares_blocks(_from: &File, _to: &File) -> bool {
    false
}

/// Creates a folder that only the server's user can read, since models may be confidential.
#[cfg(unix)]
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Checks that a copy leaves enough of the disk free.
#[cfg(unix)]
fn check_disk(folder: &Path, bytes: u64) -> Result<(), CopyError> {
    // Some network file systems do not report their space; the copy is attempted there.
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let spared = (disk.f_blocks.saturating_mul(disk.f_frsize) / FREE_PARTS).min(FREE_MAX);
    if bytes.saturating_add(spared) <= free {
        return Ok(());
    }
    Err(CopyError::FullDisk { bytes, free, spared })
}

#[cfg(not(unix))]
fn check_disk(_folder: &Path, _bytes: u64) -> Result<(), CopyError> {
    Ok(())
}

#[cfg(test)]
#[path = "file_copies_tests.rs"]
mod tests;
