//! The location of cubecl's tuning results: a database per adapter, never in the working directory.

use adapter::entry::{AdapterEntry, Class};
use burn::cubecl::config::autotune::{
    AutotuneConfig, AutotuneLevel, AutotuneLogLevel, BenchConfig,
};
use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::environment::EnvironmentConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use std::path::Path;

/// The version of burn of the kernels in the database.
const BURN: &str = "burn-0.22";

/// Configures cubecl; call before the first device is opened. No `cubecl.toml` is read.
pub fn set_up(folder: &Path, entry: &AdapterEntry) {
    let config = CubeClRuntimeConfig {
        autotune: autotune(entry.class),
        environment: EnvironmentConfig {
            name: database_name(entry),
            // The default is a `target` folder of a cargo project around the working directory.
            path: CacheConfig::Directory(folder.to_owned()),
            ..EnvironmentConfig::default()
        },
        ..CubeClRuntimeConfig::default()
    };
    // This panics once cubecl has read its configuration, which it does for the first device.
    CubeClRuntimeConfig::set(config);
}

/// The name of the database, which depends on the driver version, as the fastest kernels do.
fn database_name(entry: &AdapterEntry) -> String {
    format!("{BURN}-{}-{}", entry.driver, entry.driver_info)
}

/// Software adapters get minimal tuning: each candidate kernel takes seconds, and they differ
/// little.
fn autotune(class: Class) -> AutotuneConfig {
    let mut config = AutotuneConfig::default();
    if matches!(class, Class::Software | Class::Cpu) {
        config.level = AutotuneLevel::Minimal;
        config.bench = BenchConfig {
            min_samples: 1,
            max_samples: 1,
            short_circuit_samples: 1,
            ..BenchConfig::default()
        };
    }
    // The result of each tuning goes to the log, for `tuning.rs`.
    config.logger.level = AutotuneLogLevel::Minimal;
    config.logger.log = Some(Default::default());
    config
}
