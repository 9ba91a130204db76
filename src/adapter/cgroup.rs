//! Memory of the control groups (cgroups) that this process is in: a container may have far less
//! than the machine. Sources: Linux, `Documentation/admin-guide/cgroup-v1/memory.rst` and
//! `Documentation/admin-guide/cgroup-v2.rst`; `proc_pid_mountinfo(5)` for the mount points.

use crate::in_use::InUse;
use std::path::{Component, Path, PathBuf};

/// Values from this many bytes on mean no limit: version 1 shows the largest page-aligned number.
const UNLIMITED: u64 = 1 << 60;

/// The file names of a version of control groups.
struct CgroupFiles {
    limits: &'static [&'static str],
    usage: &'static str,
    /// Prefix of the lines of `memory.stat` that hold sums over all groups below.
    prefix: &'static str,
    kills: &'static str,
}

const V1: CgroupFiles = CgroupFiles {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    prefix: "total_",
    kills: "memory.oom_control",
};
const V2: CgroupFiles = CgroupFiles {
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    prefix: "",
    kills: "memory.events",
};

/// The control groups of this process that may limit memory, the innermost first.
struct Chain {
    groups: Vec<PathBuf>,
    names: &'static CgroupFiles,
}

/// The memory limit of this process's control groups, and the memory that their processes use: the
/// smallest limit, with the least free memory of all groups. File cache counts as free. `None`
/// without a limit. `root` is `/`, or a test folder.
pub(crate) fn memory(root: &Path) -> Option<InUse> {
    let chains = chains(root);
    let groups = chains.iter().flat_map(|chain| chain.groups.iter().map(|dir| (dir, chain.names)));
    let limited: Vec<InUse> = groups.filter_map(|(dir, names)| group(dir, names)).collect();
    let total = limited.iter().map(|group| group.total).min()?;
    let left = limited.iter().map(|group| group.total.saturating_sub(group.used)).min()?;
    Some(InUse { total, used: total.saturating_sub(left) })
}

/// The number of processes that the kernel has killed because memory ran out: those of this
/// process's own control group and, if the kernel counts them, of the whole machine.
pub(crate) fn kills(root: &Path) -> u64 {
    let own = chains(root).into_iter().filter_map(|chain| {
        let text = std::fs::read_to_string(chain.groups.first()?.join(chain.names.kills)).ok()?;
        field(&text, "oom_kill")
    });
    let machine = std::fs::read_to_string(root.join("proc/vmstat")).ok();
    let machine = machine.and_then(|text| field(&text, "oom_kill"));
    own.chain(machine).fold(0, u64::saturating_add)
}

fn chains(root: &Path) -> Vec<Chain> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    [&V1, &V2].into_iter().filter_map(|names| chain(root, &groups, &mounts, names)).collect()
}

/// The groups of one hierarchy, from the process's own up to the mount point.
fn chain(root: &Path, groups: &str, mounts: &str, names: &'static CgroupFiles) -> Option<Chain> {
    let own = own_path(groups, names)?;
    let (point, mounted) = mounts.lines().find_map(|line| mount(line, names))?;
    let point = root.join(point.strip_prefix("/").unwrap_or(&point));
    // A container without its own namespace sees paths of the machine, of which only a part is
    // mounted. A group outside of that part is at least limited by the mounted group.
    let inside = Path::new(own).strip_prefix(&mounted).ok();
    let plain = |path: &&Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let mut inside = inside.filter(plain);
    let mut groups = Vec::new();
    while let Some(path) = inside.filter(|path| !path.as_os_str().is_empty()) {
        groups.push(point.join(path));
        inside = path.parent();
    }
    groups.push(point);
    Some(Chain { groups, names })
}

/// The path of the process's group: a line is `number:controllers:path`.
fn own_path<'t>(groups: &'t str, names: &CgroupFiles) -> Option<&'t str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let wanted = match names.prefix {
            "" => controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == "memory"),
        };
        wanted.then_some(path)
    })
}

/// The mount point of a hierarchy, and the group that is mounted there: fields 5 and 4 of a line of
/// `mountinfo`; behind ` - ` stand the type, the source and the options of the file system.
fn mount(line: &str, names: &CgroupFiles) -> Option<(PathBuf, PathBuf)> {
    let (fields, system) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(3);
    let (mounted, point) = (fields.next()?, fields.next()?);
    let mut system = system.split(' ');
    let (kind, options) = (system.next()?, system.nth(1)?);
    let wanted = match names.prefix {
        "" => kind == "cgroup2",
        _ => kind == "cgroup" && options.split(',').any(|name| name == "memory"),
    };
    wanted.then(|| (PathBuf::from(unescaped(point)), PathBuf::from(unescaped(mounted))))
}

/// Decodes characters that `mountinfo` escapes as three octal digits.
fn unescaped(text: &str) -> String {
    let plain = text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    plain.replace("\\134", "\\")
}

/// Limit and use of one group; `None` without a limit.
fn group(dir: &Path, names: &CgroupFiles) -> Option<InUse> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limits = names.limits.iter().filter_map(|name| number(name));
    let total = limits.filter(|bytes| (1..UNLIMITED).contains(bytes)).min()?;
    let stat = read("memory.stat").unwrap_or_default();
    let of = |name: &str| field(&stat, &format!("{}{name}", names.prefix)).unwrap_or(0);
    let cache = of("inactive_file").saturating_add(of("active_file"));
    let used = number(names.usage)?.saturating_sub(cache);
    Some(InUse { total, used: used.min(total) })
}

/// The number after a name in lines of `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test folder with these files.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root =
                std::env::temp_dir().join(format!("concertina-{name}-{}", std::process::id()));
            let tree = Tree(root);
            files.iter().for_each(|(path, text)| tree.write(path, text));
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const V2_MOUNT: &str =
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_tightest_group_of_version_2_counts_and_file_cache_is_free() {
        let tree = Tree::new(
            "cgroup2",
            &[
                ("proc/self/cgroup", "0::/user.slice/app.scope\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/user.slice/app.scope/memory.max", "max\n"),
                ("sys/fs/cgroup/user.slice/app.scope/memory.current", "100\n"),
                ("sys/fs/cgroup/user.slice/memory.max", "1000\n"),
                ("sys/fs/cgroup/user.slice/memory.current", "800\n"),
                (
                    "sys/fs/cgroup/user.slice/memory.stat",
                    "anon 500\ninactive_file 200\nactive_file 50\n",
                ),
                ("sys/fs/cgroup/user.slice/app.scope/memory.events", "low 0\noom 9\noom_kill 3\n"),
                ("proc/vmstat", "pgpgin 5\noom_kill 4\n"),
            ],
        );
        assert_eq!(memory(&tree.0), Some(InUse { total: 1000, used: 550 }));
        assert_eq!(kills(&tree.0), 7);
        // An inner group with less left, and one that is throttled above `memory.high`.
        tree.write("sys/fs/cgroup/user.slice/app.scope/memory.high", "300\n");
        assert_eq!(memory(&tree.0), Some(InUse { total: 300, used: 100 }));
        tree.write("sys/fs/cgroup/user.slice/memory.current", "1240\n");
        assert_eq!(memory(&tree.0), Some(InUse { total: 300, used: 290 }));
    }

    #[test]
    fn groups_of_version_1_are_found_beside_others_and_through_a_partial_mount() {
        let mounts = "30 23 0:27 /docker/abc /sys/fs/cgroup/cpu\\040set rw - cgroup cgroup rw,cpuset\n\
                      31 23 0:28 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let group = "sys/fs/cgroup/memory/inner";
        let tree = Tree::new(
            "cgroup1",
            &[
                ("proc/self/cgroup", "5:cpuset:/docker/abc\n4:memory:/docker/abc/inner\n0::/\n"),
                ("proc/self/mountinfo", mounts),
                (&format!("{group}/memory.limit_in_bytes"), "9223372036854771712\n"),
                (&format!("{group}/memory.usage_in_bytes"), "5\n"),
                (
                    &format!("{group}/memory.oom_control"),
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n"),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "inactive_file 1\ntotal_inactive_file 4857600\ntotal_active_file 0\n",
                ),
            ],
        );
        assert_eq!(memory(&tree.0), Some(InUse { total: 314_572_800, used: 100_000_000 }));
        assert_eq!(kills(&tree.0), 2);
        // A group outside of the mounted one.
        tree.write("proc/self/cgroup", "4:memory:/../../elsewhere\n");
        assert_eq!(memory(&tree.0).map(|memory| memory.total), Some(314_572_800));
    }

    #[test]
    fn a_tree_without_limits_or_with_nonsense_limits_nothing() {
        let tree = Tree::new("cgroup-none", &[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(memory(&tree.0), None);
        assert_eq!(kills(&tree.0), 0);
        tree.write("proc/self/mountinfo", V2_MOUNT);
        assert_eq!(memory(&tree.0), None);
        for odd in ["", "-5", "0", "many", "99999999999999999999999"] {
            tree.write("sys/fs/cgroup/memory.max", odd);
            tree.write("sys/fs/cgroup/memory.current", "10");
            assert_eq!(memory(&tree.0), None, "{odd}");
        }
        tree.write("proc/self/cgroup", "0::\n4:memory\n::::\nx");
        tree.write("sys/fs/cgroup/memory.max", "20");
        assert_eq!(memory(&tree.0), Some(InUse { total: 20, used: 10 }));
    }
}
