//! What differs by platform: a folder that only the user may enter, names of sockets, and
//! processes that the terminal's signals do not reach.

use anyhow::Context;
use std::path::Path;
use tokio::process::Command;

/// Makes sure that the folder exists, is ours and is closed to others.
///
/// # Errors
/// If it cannot be made, or somebody else made it first.
pub(super) fn make_private(folder: &Path) -> anyhow::Result<()> {
    let name = folder.display();
    create(folder).with_context(|| format!("cannot make the runtime folder {name}"))?;
    check(folder)
}

#[cfg(unix)]
fn create(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(unix)]
fn check(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::symlink_metadata(folder)?;
    let ours = facts.uid() == rustix::process::geteuid().as_raw();
    anyhow::ensure!(
        facts.is_dir() && ours && facts.mode() & 0o077 == 0,
        "the runtime folder {} is not a folder that only this user may enter; remove it, or set \
         runtime_dir to another",
        folder.display()
    );
    Ok(())
}

/// Removes the sockets of servers that were killed before they could.
#[cfg(unix)]
pub(super) fn sweep_sockets(folder: &Path) {
    use rustix::process::{Pid, test_kill_process};
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let owner = name.filter(|name| name.ends_with(".sock"));
        let owner = owner.and_then(|name| Pid::from_raw(name.split('-').next()?.parse().ok()?));
        if owner.is_some_and(|pid| test_kill_process(pid).is_err()) {
            // Somebody else may have swept it meanwhile.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Named pipes go with their server.
#[cfg(not(unix))]
pub(super) fn sweep_sockets(_folder: &Path) {}

/// On Windows the user's own folders are closed to others already, and sockets are named pipes.
#[cfg(not(unix))]
fn create(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn check(_folder: &Path) -> anyhow::Result<()> {
    Ok(())
}

/// Where one worker's socket is: a file in the private folder, or a pipe of this name.
#[cfg(unix)]
pub(super) fn socket_path(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.sock"))
}

#[cfg(not(unix))]
pub(super) fn socket_path(_folder: &Path, name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(format!(r"\\.\pipe\concertina-{name}"))
}

/// `true` if SIGKILL ended the process.
#[cfg(unix)]
pub(super) fn was_killed(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(rustix::process::Signal::KILL.as_raw())
}

#[cfg(not(unix))]
pub(super) fn was_killed(_status: std::process::ExitStatus) -> bool {
    false
}

/// Keeps the terminal's Ctrl-C from the worker: the server stops it when its work is done. Lists of
/// processes show the program's name, also where it is started from the running image.
#[cfg(unix)]
pub(super) fn set_apart(command: &mut Command) {
    command.process_group(0).arg0("concertina");
}

#[cfg(windows)]
pub(super) fn set_apart(command: &mut Command) {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

#[cfg(not(any(unix, windows)))]
pub(super) fn set_apart(_command: &mut Command) {}
