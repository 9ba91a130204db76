//! Locks of adapters: one worker per adapter on the whole machine, across servers and users.
//!
//! A lock is a file lock in a folder that all users share. The system releases it when the process
//! exits. The file may belong to another user, and another user may have created something else
//! under its name. Therefore an existing file is opened only for reading, links are not followed,
//! and nothing is ever written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The lock of an adapter, held until dropped or until the process exits.
#[derive(Debug)]
pub struct AdapterLock {
    file: File,
}

/// The reason why an adapter could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another concertina on this machine uses this adapter (lock {0})")]
    Held(String),
    /// The name of this adapter's lock file is used by something that cannot be locked. Other
    /// adapters can be locked.
    #[error("failed to lock {0}: {1}; remove it, or set lock_dir to another folder")]
    Unusable(String, io::Error),
    #[error("failed to lock {0}: {1}; set lock_dir to another folder")]
    Io(String, io::Error),
}

impl AdapterLock {
    /// Takes the lock `<folder>/concertina-<adapter>.lock`, without waiting.
    pub fn take(folder: &Path, adapter: &str) -> Result<AdapterLock, LockError> {
        let safe = adapter.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
        let path = folder.join(format!("concertina-{safe}.lock"));
        let name = path.display().to_string();
        let file = make_folder(folder).and_then(|()| open(&path));
        let file = file.map_err(|error| match fs::symlink_metadata(&path) {
            Ok(_) => LockError::Unusable(name.clone(), error),
            Err(_) => LockError::Io(name.clone(), error),
        })?;
        match file.try_lock() {
            Ok(()) => Ok(AdapterLock { file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(name)),
            Err(TryLockError::Error(error)) => Err(LockError::Io(name, error)),
        }
    }
}

impl Drop for AdapterLock {
    /// Releases the lock itself, not only this handle: a process that another thread is starting
    /// has a copy of every handle until its program is loaded.
    fn drop(&mut self) {
        // After an error the lock is held until the process exits; others get `LockError::Held`.
        let _ = self.file.unlock();
    }
}

/// Creates the folder for locks if it is missing. All users can create files in it, but not remove
/// those of others.
///
/// # Errors
/// If it cannot be created.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => share_folder(folder),
        // Another server has created it in the meantime.
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Checks that files can be created in the folder, with a file that is removed again.
///
/// # Errors
/// If that fails, for example because this user cannot write to the folder.
pub fn try_folder(folder: &Path) -> io::Result<()> {
    let number = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let path = probe_file(folder, number);
    create(&path)?;
    fs::remove_file(path)
}

fn probe_file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("concertina-{number:016x}.trial"))
}

/// Opens a lock file; creates it if it is missing.
///
/// The kernel may refuse `O_CREAT` for a file of another user in a folder such as `/run/lock`
/// (`fs.protected_regular`), so an existing file is opened without it.
fn open(path: &Path) -> io::Result<File> {
    match open_existing(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    match create(path) {
        // Another server has created it in the meantime, or it is a dangling link.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open_existing(path),
        created => created,
    }
}

fn open_existing(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    without_links(&mut options);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Creates a file that all users can read, and therefore lock.
fn create(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).create_new(true).open(path)?;
    share_file(&file)?;
    Ok(file)
}

/// Options that neither follow links nor wait for the writer of a pipe.
#[cfg(unix)]
fn without_links(options: &mut OpenOptions) {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
}

/// On other platforms ordinary users have no right to create links.
#[cfg(not(unix))]
fn without_links(_options: &mut OpenOptions) {}

/// Sets the mode independently of the umask.
#[cfg(unix)]
fn share_file(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(unix)]
fn share_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))
}

/// On Windows the rights of the parent folder are inherited.
#[cfg(not(unix))]
fn share_file(_file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn share_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "pci-0000:01:00.0";
    const FILE: &str = "concertina-pci_0000_01_00.0.lock";

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("concertina-lock-{name}-{}", std::process::id());
            let folder = Folder(std::env::temp_dir().join(name));
            make_folder(&folder.0).unwrap();
            folder
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn only_one_holds_an_adapter() {
        let folder = Folder::new("one");
        let first = AdapterLock::take(&folder.0, CARD).unwrap();
        assert!(matches!(AdapterLock::take(&folder.0, CARD), Err(LockError::Held(_))));
        assert!(AdapterLock::take(&folder.0, "pci-0000:02:00.0").is_ok());
        drop(first);
        let _again = AdapterLock::take(&folder.0, CARD).unwrap();
        assert!(matches!(AdapterLock::take(&folder.0, CARD), Err(LockError::Held(_))));
    }

    #[test]
    fn a_copy_of_the_handle_in_a_starting_process_does_not_hold_the_adapter() {
        let folder = Folder::new("copy");
        let first = AdapterLock::take(&folder.0, CARD).unwrap();
        let _copy = first.file.try_clone().unwrap();
        drop(first);
        AdapterLock::take(&folder.0, CARD).unwrap();
    }

    #[test]
    fn a_folder_that_can_be_written_to_is_left_as_it_was() {
        let folder = Folder::new("trial");
        try_folder(&folder.0).unwrap();
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
        assert!(try_folder(&folder.0.join("missing")).is_err());
        fs::write(folder.0.join("file"), "").unwrap();
        let error = AdapterLock::take(&folder.0.join("file"), CARD).unwrap_err();
        assert!(matches!(error, LockError::Io(..)), "{error}");
        assert!(error.to_string().contains("set lock_dir to another folder"), "{error}");
    }

    #[cfg(target_os = "linux")]
    mod hostile {
        use super::*;
        use rustix::fs::{CWD, Mode, mknodat};
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
        use std::os::unix::process::CommandExt;
        use std::process::Command;

        /// An ordinary user, for tests that run as root.
        const NOBODY: u32 = 65534;

        fn mode(path: &Path) -> u32 {
            fs::symlink_metadata(path).unwrap().mode() & 0o7777
        }

        #[track_caller]
        fn unusable(folder: &Path, reason: &str) {
            let error = AdapterLock::take(folder, CARD).unwrap_err();
            assert!(matches!(error, LockError::Unusable(..)), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
            let other = AdapterLock::take(folder, "cpu").map(|_| ());
            assert!(other.is_ok(), "other adapters can be locked: {other:?}");
        }

        #[test]
        fn files_and_folders_are_shared_whatever_the_umask_is() {
            let folder = Folder::new("modes");
            let made = folder.0.join("parent/made");
            let lock = AdapterLock::take(&made, CARD).unwrap();
            assert_eq!((mode(&made), mode(&made.join(FILE))), (0o1777, 0o644));
            drop(lock);
            // An existing folder keeps its mode.
            fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
            AdapterLock::take(&made, CARD).unwrap();
            assert_eq!(mode(&made), 0o755);
        }

        #[test]
        fn links_are_not_followed() {
            let folder = Folder::new("link");
            let target = folder.0.join("target");
            symlink(&target, folder.0.join(FILE)).unwrap();
            unusable(&folder.0, "remove it");
            assert!(!target.exists(), "a file was made through a link");
            fs::write(&target, "content").unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
            unusable(&folder.0, "remove it");
            assert_eq!(
                (fs::read_to_string(&target).unwrap().as_str(), mode(&target)),
                ("content", 0o600)
            );
        }

        #[test]
        fn pipes_and_folders_are_no_locks() {
            let folder = Folder::new("pipe");
            let path = folder.0.join(FILE);
            let mode = Mode::from_raw_mode(0o666);
            mknodat(CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            unusable(&folder.0, "not a regular file");
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            unusable(&folder.0, "not a regular file");
        }

        #[test]
        fn a_file_of_another_user_is_locked_as_it_is() {
            if !rustix::process::geteuid().is_root() {
                return println!("SKIPPED: only root can give a file to another user");
            }
            let folder = Folder::new("other");
            let path = folder.0.join(FILE);
            fs::write(&path, "content").unwrap();
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            let _held = AdapterLock::take(&folder.0, CARD).unwrap();
            let facts = fs::metadata(&path).unwrap();
            assert_eq!(
                (facts.uid(), fs::read_to_string(&path).unwrap().as_str()),
                (NOBODY, "content")
            );
        }

        #[test]
        fn users_exclude_each_other() {
            if !rustix::process::geteuid().is_root() {
                return println!("SKIPPED: only root can start a process of another user");
            }
            let folder = Folder::new("users");
            let as_other_user = || {
                // The program file may be in a folder that only its owner can enter.
                let mut command = Command::new("/proc/self/exe");
                let test = "lock::tests::hostile::as_another_user";
                command.args(["--exact", test, "--ignored", "--nocapture"]);
                command.env("TMPDIR", &folder.0).uid(NOBODY).gid(NOBODY).current_dir("/");
                let output = command.output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && text.contains("1 passed"), "{text}");
                text
            };
            let held = AdapterLock::take(&folder.0, CARD).unwrap();
            assert!(as_other_user().contains("another concertina on this machine"));
            drop(held);
            assert!(as_other_user().contains("locked"));
            // In a folder of root, other users can only use locks that root has created.
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
            assert!(as_other_user().contains("locked"));
            fs::remove_file(folder.0.join(FILE)).unwrap();
            assert!(as_other_user().contains("Permission denied"));
        }

        #[test]
        #[ignore = "runs as another user; the test above starts it"]
        fn as_another_user() {
            match AdapterLock::take(&std::env::temp_dir(), CARD) {
                Ok(_) => println!("locked"),
                Err(error) => println!("{error}"),
            }
        }
    }
}
