//! Cards that no graphics API lists; names and modes of adapters.

use std::fs;
use std::process::Command;
use testkit::{Folder, Setup, report};

/// A `/dev` with a render node that only root and group 107 may open.
const DEVICES: &str = "
set -e
mount -t tmpfs none \"$1/dev\"
for node in 'null 1 3' 'zero 1 5' 'random 1 8' 'urandom 1 9'; do
  set -- \"$1\" \"$2\" $node
  mknod -m 666 \"$1/dev/$3\" c $4 $5
done
mkdir \"$1/dev/dri\"
mknod -m 660 \"$1/dev/dri/renderD128\" c 226 128
chgrp 107 \"$1/dev/dri/renderD128\"
mount --bind \"$1/dev\" /dev
";

/// The output of a shell in a mount namespace of its own; prints the reason and returns `None`
/// where no namespace can be made.
fn in_namespace(script: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).args(arguments);
    command.env("VK_ICD_FILENAMES", "/nonexistent").env("LIBGL_ALWAYS_SOFTWARE", "1");
    match command.output() {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        failed => {
            report(&format!(
                "SKIPPED: no mount namespace with device files can be made: {failed:?}"
            ));
            None
        }
    }
}

#[test]
fn a_card_that_this_user_may_not_open_is_listed_with_the_remedy() {
    let folder = Folder::new();
    let program = folder.join("concertina");
    fs::copy(env!("CARGO_BIN_EXE_concertina"), &program).unwrap();
    fs::create_dir(folder.join("dev")).unwrap();
    let script = format!(
        "{DEVICES}\nexec setpriv --reuid 10001 --regid 10001 --clear-groups \"$2\" adapters"
    );
    let arguments = [folder.path().to_str().unwrap(), program.to_str().unwrap()];
    let Some(listed) = in_namespace(&script, &arguments) else { return };
    let words = listed.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["card-renderD128", "may not open /dev/dri/renderD128", "gid 107", "--group-add 107"]
    {
        assert!(words.contains(part), "{part}: {listed}");
    }
}

/// An invalid name is an error of the settings, a valid one is shown.
#[test]
fn adapter_name_in_the_settings_is_shown() {
    let server = Setup::cpu().config("[adapters.name]\ncpu = \"the processor\"").start();
    assert_eq!(server.adapter("cpu")["name"], "the processor");
    let (_, log) = Setup::cpu().config("[adapters.name]\ncpu = \"a\\tb\"").fail();
    assert!(log.contains("adapters.name.'cpu'"), "{log}");
}

#[test]
fn the_mode_of_an_adapter_survives_a_restart() {
    let caches = Folder::new();
    let start = || Setup::cpu().cache_dir(caches.path()).with_modes().start();
    for (before, after) in [("auto", "off"), ("off", "on"), ("on", "auto"), ("auto", "auto")] {
        let mut server = start();
        server.wait_for_mode("cpu", before);
        server.set_mode("cpu", after);
        server.terminate();
        assert!(server.wait().success());
    }
}
