//! Restricts the worker's rights before it loads a driver. An attacker with control over the
//! worker, through a shader compiler or a malicious model, has no network, can write to no files
//! but caches, and cannot run or inspect other programs.
//!
//! Best effort: restrictions that this kernel does not enforce are reported, and the worker serves
//! nevertheless.

use std::path::Path;

/// Confines this process and returns a text about the enforced restrictions. In addition to devices
/// and shared memory it can write only to these folders. Must be called from the first thread
/// before any other one exists, since threads inherit the restrictions.
#[cfg(target_os = "linux")]
pub(super) fn confine(folders: &[&Path]) -> String {
    let files = describe("files", linux::files(folders));
    format!("{files}, {}", describe("system calls", linux::calls()))
}

/// Other platforms have no comparable interface for a program to restrict itself.
#[cfg(not(target_os = "linux"))]
pub(super) fn confine(_folders: &[&Path]) -> String {
    "nothing: available on Linux only".to_owned()
}

#[cfg(target_os = "linux")]
fn describe(what: &str, enforced: anyhow::Result<String>) -> String {
    match enforced {
        Ok(how) => format!("{what} ({how})"),
        Err(error) => {
            tracing::warn!("failed to confine {what} of this worker: {error}");
            format!("not {what} ({error})")
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::bail;
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, Scope, make_bitflags, path_beneath_rules,
    };
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, apply_filter_all_threads,
    };
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    /// All rights that Linux 6.12 can restrict; older kernels restrict fewer.
    const LANDLOCK: ABI = ABI::V6;
    /// Models and drivers can be in any folder. No file can be executed.
    const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    const USE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | Truncate | IoctlDev});
    // `Refer` permits a rename from one folder to another; landlock denies it otherwise.
    const KEEP: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
        WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
    });
    /// Prefixes of the names in `/dev` that drivers of cards open. AMD has `kfd` in addition to
    /// `dri`, WSL `dxg`, ARM `mali`, NVIDIA's boards `nvhost` and `nvmap`; the last two share
    /// memory.
    const DEVICES: [&str; 10] =
        ["null", "dri", "nvidia", "kfd", "dxg", "mali", "nvhost", "nvmap", "udmabuf", "dma_heap"];
    /// Named shared memory, which is lost when the machine restarts.
    const SHARED_MEMORY: &str = "/dev/shm";

    /// Landlock: access to files by their folders. It also protects the secrets of other processes
    /// in `/proc`, and their signals and sockets.
    pub(super) fn files(folders: &[&Path]) -> anyhow::Result<String> {
        let kept = folders.iter().copied().chain([Path::new(SHARED_MEMORY)]);
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rules(path_beneath_rules(["/"], READ))?
            .add_rules(path_beneath_rules(devices(), USE))?
            .add_rules(path_beneath_rules(kept, KEEP))?
            .restrict_self()?;
        match status.ruleset {
            RulesetStatus::FullyEnforced => Ok("landlock".to_owned()),
            RulesetStatus::PartiallyEnforced => {
                Ok("landlock, partially supported by this kernel".to_owned())
            }
            RulesetStatus::NotEnforced => bail!("this kernel does not support landlock"),
        }
    }

    fn devices() -> Vec<PathBuf> {
        let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        let named = entries.filter(|entry| {
            let name = entry.file_name();
            DEVICES.iter().any(|begin| name.to_string_lossy().starts_with(begin))
        });
        named.map(|entry| entry.path()).collect()
    }

    /// System calls to reject; no driver of a card needs any of them to compute.
    const REFUSED: [i64; 15] = [
        // The link is already open; other servers on this machine have more rights than a worker.
        libc::SYS_connect,
        // Performs operations of other system calls without this filter.
        libc::SYS_io_uring_setup,
        // Other programs and other processes.
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        // Ways to regain rights, and interfaces into the kernel.
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        // The keys of the user.
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
    ];
    /// Flag of system calls of the x32 ABI, which some kernels for x86-64 also support.
    const X32: i64 = 0x4000_0000;

    /// Capabilities and seccomp: a rejected call returns an error instead of ending the process, so
    /// that drivers can continue without it.
    pub(super) fn calls() -> anyhow::Result<String> {
        drop_root_capabilities()?;
        let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
            REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            refused.insert(call, vec![unless_local()?]);
        }
        if cfg!(target_arch = "x86_64") {
            // x32 has the audit architecture of x86-64, so that the filter would pass its numbers.
            let twins: Vec<_> =
                refused.iter().map(|(call, when)| (call | X32, when.clone())).collect();
            refused.extend(twins);
        }
        let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let arch = std::env::consts::ARCH.try_into()?;
        let filter = SeccompFilter::new(refused, SeccompAction::Allow, refusal, arch)?;
        let program: seccompiler::BpfProgram = filter.try_into()?;
        apply_filter_all_threads(&program)?;
        Ok("seccomp".to_owned())
    }

    /// Reduces the capabilities of workers of root to reading and writing files, which models of
    /// all users require.
    fn drop_root_capabilities() -> anyhow::Result<()> {
        let has = capabilities(None)?;
        // Without CAP_SYS_PTRACE: a worker with all capabilities of root could read the environment
        // of the server (found by a test).
        let kept = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let (effective, permitted) = (has.effective & kept, has.permitted & kept);
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
        Ok(())
    }

    /// Matches sockets of any family except local ones.
    fn unless_local() -> anyhow::Result<SeccompRule> {
        let local = u64::from(libc::AF_UNIX.unsigned_abs());
        // The argument is an `int`: only the lower 32 bits of the register are defined.
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, local)?;
        Ok(SeccompRule::new(vec![other])?)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[allow(
    clippy::disallowed_methods,
    reason = "the inner process is configured through its environment"
)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::process::Command;

    const FOLDER: &str = "CONCERTINA_TEST_CONFINED";

    /// Runs in a separate process, since a confinement cannot be undone.
    #[test]
    fn confined_process_has_no_network_and_writes_to_caches_only() {
        let folder =
            std::env::temp_dir().join(format!("concertina-confine-{}", std::process::id()));
        fs::create_dir_all(folder.join("cache")).unwrap();
        fs::write(folder.join("model.onnx"), "weights").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let _unix = UnixListener::bind(folder.join("socket")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "confine::tests::inside", "--ignored", "--nocapture"]);
        command.env(FOLDER, &folder).env("ADDRESS", tcp.local_addr().unwrap().to_string());
        let output = command.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        fs::remove_dir_all(&folder).unwrap();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "confines the process that it runs in; the test above runs it"]
    fn inside() {
        let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
        let enforced = confine(&[&folder.join("cache")]);
        println!("{enforced}");
        let proc = fs::read_to_string("/proc/self/status").unwrap();
        assert!(proc.contains("NoNewPrivs:\t1\n") && proc.contains("Seccomp:\t2\n"), "{proc}");
        // Threads that start later, like those of a driver.
        std::thread::scope(|scope| {
            scope.spawn(|| no_network(&folder)).join().unwrap();
            scope.spawn(no_other_process).join().unwrap();
        });
        if enforced.contains("not files") {
            return println!("SKIPPED: files are not confined here");
        }
        files(&folder);
        if enforced.contains("(landlock)") {
            let parent = rustix::process::getppid().unwrap();
            refused(rustix::process::test_kill_process(parent).map_err(Into::into));
        }
    }

    #[track_caller]
    fn refused<T>(done: std::io::Result<T>) {
        assert_eq!(done.err().map(|error| error.kind()), Some(PermissionDenied));
    }

    fn no_network(folder: &Path) {
        refused(TcpStream::connect(std::env::var("ADDRESS").unwrap()));
        refused(TcpListener::bind("127.0.0.1:0"));
        refused(UdpSocket::bind("127.0.0.1:0"));
        refused(UnixStream::connect(folder.join("socket")));
        assert!(UnixStream::pair().is_ok());
    }

    fn no_other_process() {
        refused(Command::new("/bin/true").status());
    }

    fn files(folder: &Path) {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        let name = format!("concertina-confine-{}", std::process::id());
        for forbidden in [home, std::env::temp_dir(), PathBuf::from("."), folder.to_owned()] {
            refused(fs::write(forbidden.join(&name), "x"));
            refused(fs::create_dir(forbidden.join(&name)));
        }
        let model = folder.join("model.onnx");
        refused(fs::write(&model, "others"));
        refused(fs::remove_file(&model));
        refused(fs::rename(&model, folder.join("cache/model.onnx")));
        assert_eq!(fs::read_to_string(&model).unwrap(), "weights");
        // Secrets of other processes of the same user.
        let parent = std::os::unix::process::parent_id();
        refused(fs::read(format!("/proc/{parent}/environ")));
        caches(&folder.join("cache"));
        fs::write("/dev/null", "x").unwrap();
    }

    fn caches(cache: &Path) {
        fs::create_dir_all(cache.join("mesa/ab")).unwrap();
        fs::write(cache.join("mesa/ab/one"), "x").unwrap();
        fs::rename(cache.join("mesa/ab/one"), cache.join("two")).unwrap();
        fs::write(cache.join("two"), "xy").unwrap();
        fs::remove_file(cache.join("two")).unwrap();
        fs::remove_dir(cache.join("mesa/ab")).unwrap();
    }
}
