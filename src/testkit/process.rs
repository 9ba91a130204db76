//! Inspects processes through `/proc` and sends them signals, by process id.

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::fs;

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    let raw = i32::try_from(pid).expect("a process id");
    let pid = Pid::from_raw(raw).expect("a process id is not 0");
    // The process may have ended in the meantime.
    let _ = kill_process(pid, signal);
}

/// Returns true if this is a running worker of the program. A zombie has no command line and does
/// not count.
pub fn is_worker(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    program.ends_with(b"concertina") && words.next() == Some(b"worker")
}

/// Children of a process that are workers.
pub fn workers_of(parent: u32) -> Vec<u32> {
    children_of(parent).into_iter().filter(|pid| is_worker(*pid)).collect()
}

/// Children of a process.
pub fn children_of(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Returns true if a process exists and is not a zombie.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, after)| !after.trim_start().starts_with('Z'))
}

/// Returns the environment with which a process was started.
pub fn environment_of(pid: u32) -> Vec<(String, String)> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("the process is ours");
    let pairs = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let pairs = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain any characters; state and parent follow it.
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// Names, in lower case, that identify a file as part of a graphics driver or its loader.
const DRIVERS: [&str; 12] = [
    "vulkan",
    "libvk",
    "lvp",
    "swiftshader",
    "libegl",
    "libgl",
    "libgallium",
    "dri_",
    "nvidia",
    "radeon",
    "libllvm",
    "mesa",
];

/// Files mapped into a process that belong to a graphics driver.
pub fn drivers_in(pid: u32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| line[at..].to_owned()));
    let named = |file: &String| {
        let name = file.rsplit('/').next().unwrap_or_default().to_lowercase();
        DRIVERS.iter().any(|driver| name.contains(driver))
    };
    let mut found: Vec<_> = files.filter(named).collect();
    found.dedup();
    found
}
