//! Facts about the program, the operating system and its limits.

use super::Finding;
use adapter::memory;
use std::fs;
use std::path::Path;

/// Fewest open files that leave the server enough connections.
#[cfg(unix)]
const OPEN_FILES_MIN: u64 = 1024;

/// Folders and files in `/dev` through which drivers reach cards.
const DEVICES: [&str; 4] = ["/dev/dri", "/dev/kfd", "/dev/nvidiactl", "/dev/dxg"];

pub(super) fn findings() -> Vec<Finding> {
    let mut all = vec![
        Finding::fact("program", program()),
        Finding::fact("system", system()),
        Finding::fact("processor", processor()),
    ];
    all.extend(memory::host_bytes().map(|bytes| {
        Finding::fact("memory", format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)))
    }));
    all.extend(open_files());
    all.push(Finding::fact("devices", devices()));
    all.extend(variables().map(|names| Finding::fact("variables", names)));
    all
}

fn program() -> String {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("concertina {} for {system} on {processor}", env!("CARGO_PKG_VERSION"))
}

fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.unwrap_or(std::env::consts::OS).trim_matches('"');
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match kernel.trim() {
        "" => name.to_owned(),
        kernel => format!("{name}, kernel {kernel}"),
    }
}

fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = described.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    format!("{name}, {threads} threads")
}

#[cfg(unix)]
fn open_files() -> Option<Finding> {
    use rustix::process::{Resource, getrlimit};
    let most = getrlimit(Resource::Nofile).maximum?;
    if most >= OPEN_FILES_MIN {
        return Some(Finding::fact("limits", format!("{most} open files")));
    }
    let remedy = "raise the hard limit (ulimit -Hn, LimitNOFILE of the service)";
    Some(Finding::problem("limits", format!("only {most} files may be open"), remedy))
}

#[cfg(not(unix))]
fn open_files() -> Option<Finding> {
    None
}

fn devices() -> String {
    let there = DEVICES.iter().copied().filter(|path| Path::new(path).exists());
    match there.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "no device files of graphics cards".to_owned(),
        there => there,
    }
}

/// Names of the variables of the environment that this program or a loader of drivers reads. Values
/// may be secrets.
fn variables() -> Option<String> {
    let is_ours = |name: &String| {
        ["CONCERTINA_", "VK_", "MESA_", "NVIDIA_", "CUDA_"].iter().any(|of| name.starts_with(of))
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(is_ours).collect();
    names.sort();
    (!names.is_empty()).then(|| names.join(", "))
}
