//! Platform-specific code: a folder that only the user can enter, names of sockets, and processes
//! that do not receive the terminal's signals.

use anyhow::Context;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Maximum number of names to try for a new folder.
#[cfg(unix)]
const NEW_MAX: usize = 8;

/// A folder that only this user can enter: `folder`, or another one in the temporary folder if that
/// one cannot be used and the operator has not chosen it. Its name is predictable, so another user
/// may have created it first, or root through `sudo`.
///
/// # Errors
/// If such a folder cannot be created.
pub fn private_folder(folder: &Path, is_chosen: bool) -> anyhow::Result<PathBuf> {
    let error = match make_private(folder) {
        Ok(()) => return Ok(folder.to_owned()),
        Err(error) => error,
    };
    let other = if is_chosen { None } else { other_folder(&std::env::temp_dir()) };
    let Some(other) = other else { return Err(error) };
    tracing::warn!("using {} for sockets: {error:#}", other.display());
    Ok(other)
}

/// Ensures that the folder exists, belongs to this user and is closed to others.
pub(crate) fn make_private(folder: &Path) -> anyhow::Result<()> {
    let failed = || {
        format!(
            "failed to create the runtime folder {}; set another one with runtime_dir, \
             --runtime-dir or CONCERTINA_RUNTIME_DIR",
            folder.display()
        )
    };
    create(folder).with_context(failed)?;
    check(folder)
}

/// A private folder below `parent`: one that this user created earlier, or a new one.
#[cfg(unix)]
fn other_folder(parent: &Path) -> Option<PathBuf> {
    let begin = format!("concertina-{}-", rustix::process::geteuid().as_raw());
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin));
    let mut earlier: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    earlier.sort();
    if let Some(own) = earlier.into_iter().find(|folder| check(folder).is_ok()) {
        return Some(own);
    }
    (0..NEW_MAX).find_map(|_| {
        let new = parent.join(format!("{begin}{:016x}", getrandom::u64().ok()?));
        create_new(&new).ok()?;
        check(&new).is_ok().then_some(new)
    })
}

/// On other platforms the folder is already in a folder of the user.
#[cfg(not(unix))]
fn other_folder(_parent: &Path) -> Option<PathBuf> {
    None
}

/// Creates a folder; fails if anything of this name exists, including a link.
#[cfg(unix)]
fn create_new(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(unix)]
fn create(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // With the mode from the start: before a later chmod, others could enter the folder.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(unix)]
fn check(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    // Without following links: the name is predictable, and another user may have linked it.
    let facts = std::fs::symlink_metadata(folder)?;
    let ours = facts.uid() == rustix::process::geteuid().as_raw();
    anyhow::ensure!(
        facts.is_dir() && ours && facts.mode() & 0o077 == 0,
        "the runtime folder {} is not a folder that only this user can enter; remove it, or set \
         another one with runtime_dir, --runtime-dir or CONCERTINA_RUNTIME_DIR",
        folder.display()
    );
    Ok(())
}

/// Removes the sockets of servers that were killed.
#[cfg(unix)]
pub(crate) fn sweep_sockets(folder: &Path) {
    use rustix::process::{Pid, test_kill_process};
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let owner = name.filter(|name| name.ends_with(".sock"));
        let owner = owner.and_then(|name| Pid::from_raw(name.split('-').next()?.parse().ok()?));
        // Signal 0 only tests for the process (kill(2)); one of another user is not the owner.
        if owner.is_some_and(|pid| test_kill_process(pid).is_err()) {
            // Another server may have removed it in the meantime.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Named pipes are removed with their server.
#[cfg(not(unix))]
pub(crate) fn sweep_sockets(_folder: &Path) {}

/// On Windows the user's own folders are closed to others, and sockets are named pipes.
#[cfg(not(unix))]
fn create(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn check(_folder: &Path) -> anyhow::Result<()> {
    Ok(())
}

/// The path of a worker's socket: a file in the private folder, or a named pipe.
#[cfg(unix)]
pub(crate) fn socket_path(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.sock"))
}

#[cfg(not(unix))]
pub(crate) fn socket_path(_folder: &Path, name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(format!(r"\\.\pipe\concertina-{name}"))
}

/// True if the process was ended by SIGKILL.
#[cfg(unix)]
pub(crate) fn was_killed(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(rustix::process::Signal::KILL.as_raw())
}

#[cfg(not(unix))]
pub(crate) fn was_killed(_status: std::process::ExitStatus) -> bool {
    false
}

/// Shields the worker from the terminal's Ctrl-C: the server stops it when its work is done.
/// Process lists show the program's name, even if it is started from the running image.
#[cfg(unix)]
pub(crate) fn set_apart(command: &mut Command) {
    command.process_group(0).arg0("concertina");
}

#[cfg(windows)]
pub(crate) fn set_apart(command: &mut Command) {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

#[cfg(not(any(unix, windows)))]
pub(crate) fn set_apart(_command: &mut Command) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn folder_that_is_not_private_is_replaced_by_a_private_one() {
        let parent =
            std::env::temp_dir().join(format!("concertina-folders-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        let begin = format!("concertina-{}-", rustix::process::geteuid().as_raw());
        // A folder that is not private, and a link to one that is.
        fs::create_dir(parent.join(format!("{begin}0"))).unwrap();
        fs::set_permissions(parent.join(format!("{begin}0")), fs::Permissions::from_mode(0o755))
            .unwrap();
        create_new(&parent.join("private")).unwrap();
        symlink(parent.join("private"), parent.join(format!("{begin}1"))).unwrap();
        let new = other_folder(&parent).unwrap();
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(new.to_string_lossy().len() > format!("{begin}1").len());
        assert_eq!(other_folder(&parent), Some(new), "the next server uses the same");
        assert_eq!(other_folder(&parent.join("missing")), None);
        fs::remove_dir_all(&parent).unwrap();
    }
}
