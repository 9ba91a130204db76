//! The files of a model repository, embedded or on disk; no path leads out of the repository.

mod extent;

pub use crate::names::is_safe_name;
use bytes::Bytes;
use extent::Extent;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::fs::{File, Metadata};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The place of a model's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelSource {
    /// Compiled into the binary.
    Embedded,
    /// The repository folder on disk.
    Folder(PathBuf),
}

/// Largest file that is read if the caller gives no limit: weights of a large model.
pub const FILE_BYTES_MAX: u64 = 8 << 30;
/// Most levels of folders below a version that count for its size; a circular link ends here.
const DEPTH_MAX: usize = 8;
/// Most entries that count for the size of a version, which is only an estimate.
const ENTRIES_MAX: usize = 10_000;

/// The repository that is compiled into the binary.
#[derive(rust_embed::RustEmbed)]
#[folder = "../../models"]
struct EmbeddedModels;

/// An error in a file or folder of a repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {detail}")]
pub struct BadFile {
    /// Its path inside the repository, such as `digits/1/weights.safetensors`.
    pub file: String,
    pub detail: String,
    /// True if the machine failed (a disk, memory, permissions); else the file is wrong.
    pub machine: bool,
}

impl BadFile {
    pub fn new(file: impl Into<String>, detail: impl Into<Detail>) -> BadFile {
        let Detail { text, machine } = detail.into();
        BadFile { file: file.into(), detail: text, machine }
    }
}

/// The text of an error in a file, and the origin of the fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Detail {
    text: String,
    machine: bool,
}

impl Detail {
    /// Names the construct that encloses the error, such as a field.
    pub(crate) fn within(self, what: impl std::fmt::Display) -> Detail {
        Detail { text: format!("{what}: {}", self.text), ..self }
    }

    /// An error that the machine causes.
    pub(crate) fn machine(text: impl Into<String>) -> Detail {
        Detail { text: text.into(), machine: true }
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Detail {
        Detail { text, machine: false }
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Detail {
        text.to_owned().into()
    }
}

impl From<BadFile> for Detail {
    fn from(error: BadFile) -> Detail {
        Detail { text: error.to_string(), machine: error.machine }
    }
}

impl From<&io::Error> for Detail {
    /// The text follows a path; it omits the operating system's error number.
    fn from(error: &io::Error) -> Detail {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "does not exist".into(),
            io::ErrorKind::PermissionDenied => {
                Detail::machine("may not be read: permission denied")
            }
            _ => Detail::machine(format!("cannot be read: {error}")),
        }
    }
}

/// A folder of a repository, such as one version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `None` for the embedded repository, else the canonical path of the repository's root.
    root: Option<PathBuf>,
    /// Path inside the repository with `/` between the parts; empty for the root.
    folder: String,
}

impl Files {
    /// The root of the embedded repository.
    pub fn embedded() -> Files {
        Files { root: None, folder: String::new() }
    }

    /// The root of a repository on disk.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be read.
    pub(crate) fn open(root: &Path) -> Result<Files, BadFile> {
        let bad = |detail: Detail| BadFile::new(root.display().to_string(), detail);
        let root = root.canonicalize().map_err(|error| bad((&error).into()))?;
        if root.is_dir() {
            return Ok(Files { root: Some(root), folder: String::new() });
        }
        Err(bad("is not a folder".into()))
    }

    /// The repository that contains this folder.
    pub(crate) fn source(&self) -> ModelSource {
        self.root.clone().map_or(ModelSource::Embedded, ModelSource::Folder)
    }

    /// A folder inside this one. Its existence is checked only when something in it is read.
    pub fn folder(&self, name: &str) -> Files {
        Files { root: self.root.clone(), folder: self.path_of(name) }
    }

    /// The path inside the repository, for messages.
    pub fn path_of(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    /// Reads a whole file of this folder; `name` may contain `/` for a file in a folder below.
    ///
    /// # Errors
    /// If the name is not safe, the file is missing, unreadable, not a plain file, larger than
    /// [`FILE_BYTES_MAX`], or a link that leads out of the repository.
    pub fn read(&self, name: &str) -> Result<Bytes, BadFile> {
        self.read_up_to(name, FILE_BYTES_MAX)
    }

    /// Like [`Files::read`], for files that are known to have at most `bytes_max` bytes.
    pub fn read_up_to(&self, name: &str, bytes_max: u64) -> Result<Bytes, BadFile> {
        let path = self.path_of(name);
        let bad = |detail: Detail| BadFile::new(path.clone(), detail);
        if !name.split('/').all(is_safe_name) {
            return Err(bad("is not a safe file name".into()));
        }
        match &self.root {
            None => read_embedded(&path, bytes_max),
            Some(root) => read_plain(root, &path, bytes_max),
        }
        .map_err(bad)
    }

    /// Opens a file of this folder, to be read piece by piece.
    ///
    /// # Errors
    /// Those of [`Files::read`].
    pub(crate) fn source_of(&self, name: &str) -> Result<graph::FileSource, BadFile> {
        let path = self.path_of(name);
        let bad = |detail: Detail| BadFile::new(path.clone(), detail);
        let Some(root) = self.root.as_ref().filter(|_| name.split('/').all(is_safe_name)) else {
            return self.read(name).map(Into::into);
        };
        let file = open_plain(root, &path, FILE_BYTES_MAX).map_err(bad)?;
        graph::FileSource::of(file).map_err(|error| bad((&error).into()))
    }

    /// Names of the folders in this one, sorted, without hidden ones. Includes broken links, so
    /// that they are reported instead of ignored.
    pub(crate) fn folders(&self) -> Result<Vec<String>, BadFile> {
        let mut names = match &self.root {
            None => self.embedded_folders(),
            Some(root) => list(&root.join(&self.folder), |metadata| metadata.is_dir(), true)
                .map_err(|error| BadFile::new(self.shown(), &error))?,
        };
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Names of the plain files in this folder, sorted, without hidden ones.
    pub(crate) fn files(&self) -> Result<Vec<String>, BadFile> {
        let mut names = match &self.root {
            None => self.embedded_files(),
            Some(root) => list(&root.join(&self.folder), |metadata| metadata.is_file(), false)
                .map_err(|error| BadFile::new(self.shown(), &error))?,
        };
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        Ok(names)
    }

    /// A number that changes with the name, size or time of any file in this folder or below.
    pub(crate) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Some(root) = &self.root {
            mark(&root.join(&self.folder), 0, &mut hasher);
        }
        hasher.finish()
    }

    /// Like [`Files::mark`], for one file of this folder.
    pub(crate) fn file_mark(&self, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Some(root) = &self.root {
            mark_entry(&root.join(self.path_of(name)), &mut hasher);
        }
        hasher.finish()
    }

    /// Returns true if an entry of this name exists, a plain file or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        let path = self.path_of(name);
        match &self.root {
            None => EmbeddedModels::get(&path).is_some(),
            Some(root) => root.join(path).symlink_metadata().is_ok(),
        }
    }

    /// Bytes of a file, which must exist.
    ///
    /// # Errors
    /// Those of [`Files::read`].
    pub(crate) fn length(&self, name: &str) -> Result<u64, BadFile> {
        let bad = |detail: Detail| BadFile::new(self.path_of(name), detail);
        let Some(root) = self.root.as_ref().filter(|_| name.split('/').all(is_safe_name)) else {
            return self.read(name).map(|data| data.len() as u64);
        };
        let file = open_plain(root, &self.path_of(name), FILE_BYTES_MAX).map_err(bad)?;
        file.metadata().map(|found| found.len()).map_err(|error| bad((&error).into()))
    }

    /// The extent of one file of this folder; zero for a file without readable metadata.
    pub(crate) fn file_extent(&self, name: &str) -> Extent {
        let embedded = || EmbeddedModels::get(&self.path_of(name)).map(|f| f.data.len() as u64);
        match &self.root {
            None => Extent::embedded(embedded().unwrap_or_default()),
            Some(root) => Extent::of_file(&root.join(self.path_of(name))),
        }
    }

    /// The extent of all files in this folder and below that a model could read. Files without
    /// readable metadata count as zero.
    pub(crate) fn extent(&self) -> Extent {
        match &self.root {
            None => Extent::embedded(self.embedded_bytes()),
            Some(root) => Extent::of_folder(root, &root.join(&self.folder)),
        }
    }

    fn embedded_bytes(&self) -> u64 {
        let prefix = self.path_of("");
        let paths = EmbeddedModels::iter().filter(|path| path.starts_with(&prefix));
        paths.filter_map(|path| EmbeddedModels::get(&path)).map(|f| f.data.len() as u64).sum()
    }

    fn embedded_files(&self) -> Vec<String> {
        let prefix = self.path_of("");
        let here = |path: Cow<'static, str>| {
            let name = path.strip_prefix(&prefix)?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        EmbeddedModels::iter().filter_map(here).collect()
    }

    fn embedded_folders(&self) -> Vec<String> {
        let prefix = self.path_of("");
        let below = |path: Cow<'static, str>| {
            let (folder, _) = path.strip_prefix(&prefix)?.split_once('/')?;
            Some(folder.to_owned())
        };
        EmbeddedModels::iter().filter_map(below).collect()
    }

    fn shown(&self) -> String {
        match &self.root {
            Some(root) if self.folder.is_empty() => root.display().to_string(),
            _ => self.folder.clone(),
        }
    }
}

fn read_embedded(path: &str, bytes_max: u64) -> Result<Bytes, Detail> {
    let file = EmbeddedModels::get(path).ok_or("is missing from the binary")?;
    check_size(file.data.len() as u64, bytes_max)?;
    Ok(match file.data {
        Cow::Borrowed(data) => Bytes::from_static(data),
        Cow::Owned(data) => Bytes::from(data),
    })
}

/// Opens the file at `path` below the canonical folder `root`.
pub(crate) fn open_plain(root: &Path, path: &str, bytes_max: u64) -> Result<File, Detail> {
    let real = root.join(path).canonicalize().map_err(|error| Detail::from(&error))?;
    if !real.starts_with(root) {
        return Err(
            "is a link that leads out of the model repository; copy the file into it".into()
        );
    }
    let metadata = real.metadata().map_err(|error| Detail::from(&error))?;
    // Opening a pipe or device could block forever.
    if !metadata.is_file() {
        return Err("is not a plain file".into());
    }
    check_size(metadata.len(), bytes_max)?;
    File::open(&real).map_err(|error| Detail::from(&error))
}

fn read_plain(root: &Path, path: &str, bytes_max: u64) -> Result<Bytes, Detail> {
    let file = open_plain(root, path, bytes_max)?;
    let length = file.metadata().map_err(|error| Detail::from(&error))?.len();
    let length = usize::try_from(length).map_err(|_| "is too large for this machine")?;
    let mut data = Vec::new();
    data.try_reserve_exact(length).map_err(|_| Detail::machine("does not fit into memory"))?;
    // The file may have grown since its length was read.
    let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut data);
    read.map_err(|error| Detail::from(&error))?;
    check_size(data.len() as u64, bytes_max)?;
    Ok(data.into())
}

fn check_size(bytes: u64, bytes_max: u64) -> Result<(), Detail> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(format!("has {bytes} bytes, but at most {bytes_max} are allowed").into())
}

fn mark(folder: &Path, depth: usize, hasher: &mut DefaultHasher) {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.take(ENTRIES_MAX).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        mark_entry(&path, hasher);
        if depth < DEPTH_MAX && path.is_dir() {
            mark(&path, depth + 1, hasher);
        }
    }
}

fn mark_entry(path: &Path, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    if let Ok(metadata) = path.metadata() {
        metadata.len().hash(hasher);
        metadata.modified().ok().hash(hasher);
        changed(&metadata).hash(hasher);
    }
}

/// The time of the last change of the inode, in seconds and nanoseconds. A copy may keep the
/// modification time of its source, and changed permissions do not affect that time.
#[cfg(unix)]
fn changed(metadata: &Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) {}

/// Names of the entries that are wanted; `dangling`: broken links are wanted too.
fn list(path: &Path, wanted: fn(&Metadata) -> bool, dangling: bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in path.read_dir()? {
        let entry = entry?;
        // `metadata` follows links.
        if entry.path().metadata().map_or(dangling, |metadata| wanted(&metadata)) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Folder;

    #[test]
    fn files_are_read_or_reported_with_the_reason() {
        let folder = Folder::new();
        folder.write("m/1/weights", b"12345");
        folder.make_dir("m/1/folder");
        let files = Files::open(folder.path()).unwrap().folder("m").folder("1");
        assert_eq!(files.read("weights").unwrap(), "12345");
        assert_eq!(files.read_up_to("weights", 5).unwrap(), "12345");
        let error = |name: &str, max| files.read_up_to(name, max).unwrap_err().to_string();
        assert_eq!(error("weights", 4), "m/1/weights: has 5 bytes, but at most 4 are allowed");
        assert_eq!(error("absent", 4), "m/1/absent: does not exist");
        assert_eq!(error("folder", 4), "m/1/folder: is not a plain file");
        assert_eq!(error("../1/weights", 9), "m/1/../1/weights: is not a safe file name");
        assert_eq!(error("/etc/passwd", 9), "m/1//etc/passwd: is not a safe file name");
    }

    #[test]
    fn too_large_file_is_rejected_before_it_is_read() {
        let folder = Folder::new();
        folder.write("m/huge", b"");
        let file = File::options().write(true).open(folder.path().join("m/huge")).unwrap();
        // Sparse: it takes no space on the disk.
        file.set_len(1 << 40).unwrap();
        let files = Files::open(folder.path()).unwrap().folder("m");
        let error = files.read("huge").unwrap_err().to_string();
        assert!(error.contains("has 1099511627776 bytes, but at most"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_may_point_inside_the_repository_only() {
        let (folder, outside) = (Folder::new(), Folder::new());
        outside.write("secret", b"x");
        folder.write("m/1/weights", b"w");
        folder.link("m/2", folder.path().join("m/1"));
        folder.link("m/1/leak", outside.path().join("secret"));
        folder.link("n", outside.path());
        let root = Files::open(folder.path()).unwrap();
        assert_eq!(root.folder("m").folder("2").read("weights").unwrap(), "w");
        for (at, name) in [("m", "1/leak"), ("n", "secret")] {
            let error = root.folder(at).read(name).unwrap_err().to_string();
            assert!(error.contains("leads out of the model repository"), "{error}");
        }
    }

    #[test]
    fn size_of_a_folder_covers_its_readable_files() {
        let folder = Folder::new();
        folder.write("m/1/weights", b"12345");
        folder.write("m/1/below/more", b"678");
        folder.write("m/1/.hidden", b"no model reads this");
        folder.write("m/2/other", b"another version");
        let root = Files::open(folder.path()).unwrap().folder("m");
        assert_eq!(root.folder("1").extent().bytes, 8);
        assert_eq!(root.folder("3").extent().bytes, 0);
        assert!(root.folder("1").extent().changed > Some(1_600_000_000));
        assert_eq!(root.folder("3").extent().changed, None);
        let digits = Files::embedded().folder("digits").folder("1");
        let weights = digits.read("weights.safetensors").unwrap().len() as u64;
        assert!(digits.extent().bytes >= weights && digits.extent().bytes < weights + (1 << 20));
    }

    #[cfg(unix)]
    #[test]
    fn outside_and_circular_links_have_no_size() {
        let (folder, outside) = (Folder::new(), Folder::new());
        outside.write("secret", b"x");
        folder.write("m/1/weights", b"w");
        folder.link("m/1/leak", outside.path().join("secret"));
        folder.link("m/1/away", outside.path());
        folder.link("m/1/lost", "/nowhere/at/all");
        let files = Files::open(folder.path()).unwrap().folder("m").folder("1");
        assert_eq!(files.extent().bytes, 1);
        folder.link("m/1/circle", folder.path().join("m/1"));
        assert_eq!(files.extent().bytes, 1 + DEPTH_MAX as u64);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipe_is_rejected_without_blocking() {
        let folder = Folder::new();
        folder.make_dir("m");
        let path = folder.path().join("m/pipe");
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = Files::open(folder.path()).unwrap().folder("m").read("pipe").unwrap_err();
        assert_eq!(error.detail, "is not a plain file");
    }

    #[test]
    fn an_absent_repository_is_an_error() {
        let error = Files::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/at/all: does not exist");
    }
}
