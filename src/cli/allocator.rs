//! The settings of the allocator (jemalloc, see `main.rs`) in the serving process.

/// Time after which freed memory is returned to the system, in milliseconds. With jemalloc's 10 s, 24
/// clients with bodies of 62 MB made 1338 MB resident where at most 750 MB were charged.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const DECAY_MS: isize = 100;

/// Makes the allocator return freed memory soon. Workers keep the default, since they use the same
/// memory for each batch.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn return_memory_soon() {
    use tikv_jemalloc_ctl::{Access, AsName, arenas};
    let set = |name: &str| {
        let written: Result<(), _> = name.name().write(DECAY_MS);
        written
            .inspect_err(|error| tracing::debug!(name, "failed to set up the allocator: {error}"))
    };
    // Applies to arenas that are created later; those of running threads are set below.
    let _ = set("arenas.dirty_decay_ms\0");
    for arena in 0..arenas::narenas::read().unwrap_or_default() {
        // Setting an arena that does not exist yet is an error, and most do not.
        let _ = set(&format!("arena.{arena}.dirty_decay_ms\0"));
    }
}

/// No operation: other allocators have no such setting.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn return_memory_soon() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use tikv_jemalloc_ctl::{Access, AsName};

    #[test]
    fn freed_memory_of_all_arenas_is_returned_soon() {
        return_memory_soon();
        for name in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
            let decay: isize = name.name().read().unwrap();
            assert_eq!(decay, DECAY_MS, "{name}");
        }
    }
}
