//! Where cubecl keeps what it tuned: a database per adapter, never in the working directory.

use adapter::entry::{AdapterEntry, Class};
use burn::cubecl::config::autotune::{
    AutotuneConfig, AutotuneLevel, AutotuneLogLevel, BenchConfig,
};
use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::environment::EnvironmentConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use std::path::Path;

/// The version of burn whose kernels the database describes.
const BURN: &str = "burn-0.22";

/// Sets cubecl up; call before the first device. A `cubecl.toml` that lies about is not read.
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

/// A driver update changes which kernel is fastest, so it gets a database of its own.
fn database_name(entry: &AdapterEntry) -> String {
    format!("{BURN}-{}-{}", entry.driver, entry.driver_info)
}

/// On software adapters every candidate kernel costs seconds, and they differ little.
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
