//! Environment variables: those that child processes of the server receive, and those that no
//! setting reads.

use super::Config;
use anyhow::ensure;
use std::ffi::{OsStr, OsString};

/// Variables that workers and the listing of adapters receive, in addition to those of
/// [`PREFIXES`].
///
/// Drivers, shader compilers and models run in these processes. They receive the variables that
/// configure them or point to their files, so that they cannot read a password or token from the
/// server's environment.
const NAMES: &str = "
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR RUST_BACKTRACE RUST_LIB_BACKTRACE RUST_MIN_STACK
    GLIBC_TUNABLES NODEVICE_SELECT CONCERTINA_LOG";

/// The same on Windows, where some of these are required to load libraries and to find folders.
const NAMES_WINDOWS: &str = "
    ALLUSERSPROFILE APPDATA COMSPEC COMMONPROGRAMFILES COMMONPROGRAMFILES(X86) COMMONPROGRAMW6432
    COMPUTERNAME HOMEDRIVE LOCALAPPDATA NUMBER_OF_PROCESSORS OS PROGRAMDATA PROGRAMFILES
    PROGRAMFILES(X86) SYSTEMDRIVE SYSTEMROOT TEMP TMP USERPROFILE WINDIR";

/// Prefixes of further such variables: locales, folders, loaders, memory allocators, thread pools,
/// graphics APIs, and drivers by vendor.
const PREFIXES: &str = "
    LC_ XDG_ LD_ DYLD_ FAKETIME MALLOC_ RAYON_ PROCESSOR_ CUBECL_ BURN_ WGPU_ NAGA_
    VK_ DISABLE_VK_ VULKAN_ VKD3D_ DXVK_ D3D12_ DZN_ MTL_ METAL_ MVK_ EGL_ GBM_ ZINK_
    MESA_ LIBGL_ GALLIUM_ GALLIVM_ DRI_ NIR_ LP_ LVP_ LLVMPIPE_ SOFTPIPE_ SWIFTSHADER_ VIRGL_ VN_
    NVIDIA_ NVK_ NOUVEAU_ CUDA_ __GL_ __GLX_ __NV_ __EGL_ __VK_
    AMD_ AMDVLK_ RADV_ RADEON_ ACO_ HSA_ ROCR_ HIP_ GPU_
    INTEL_ ANV_ HASVK_ IRIS_ I915_ XE_ NEO_
    TU_ FD_ IR3_ PAN_ PANVK_ MALI_ V3D_ V3DV_ ASAHI_ AGX_ HK_";

/// Parts of names of secrets. A variable with one in its name is passed on only if
/// `workers.environment` names it: `NVIDIA_API_KEY` configures no driver.
const SECRETS: [&str; 7] =
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL"];

/// The server's API key, which no child process receives.
const API_KEY: &str = "CONCERTINA_API_KEY";

/// Returns the variables of this process that workers and the listing of adapters receive; `named`
/// are those that the operator adds.
pub(super) fn of_workers(named: &[String]) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_passed_on(name, named)).collect()
}

fn is_passed_on(name: &OsStr, named: &[String]) -> bool {
    let Some(name) = name.to_str() else { return false };
    let upper = name.to_ascii_uppercase();
    // Names of variables on Windows are case-insensitive.
    let own = if cfg!(windows) { upper.as_str() } else { name };
    let is_named = |other: &String| {
        if cfg!(windows) { other.eq_ignore_ascii_case(own) } else { other == own }
    };
    if named.iter().any(is_named) {
        return own != API_KEY;
    }
    let mut names = NAMES.split_whitespace();
    let is_known = names.any(|known| known == own)
        || (cfg!(windows) && NAMES_WINDOWS.split_whitespace().any(|known| known == own))
        || PREFIXES.split_whitespace().any(|begin| own.starts_with(begin));
    is_known && !SECRETS.iter().any(|part| upper.contains(part))
}

/// Checks the names that the operator adds.
pub(super) fn check(named: &[String]) -> anyhow::Result<()> {
    for name in named {
        ensure!(
            !name.is_empty() && !name.contains(['=', '\0']),
            "workers.environment: '{}' is not the name of a variable; write it as 'NAME', without \
             its value",
            name.escape_debug()
        );
        ensure!(
            name != API_KEY,
            "workers.environment: {API_KEY} is never passed to workers; remove it"
        );
    }
    Ok(())
}

/// Prefix of all variables that this program reads.
const OWN: &str = "CONCERTINA_";
/// Prefix of variables that only tests read.
const OF_TESTS: &str = "CONCERTINA_TEST_";
/// Minimum similarity (Jaro-Winkler, 0 to 1) of a name that is suggested for an unknown one.
const SIMILAR: f64 = 0.9;

/// Returns a warning for each `CONCERTINA_*` variable of this process that is not one of `known`,
/// and is most likely misspelt.
pub fn unknown_variables(known: &[String]) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<String> =
        names.filter_map(|name| unknown_variable(&name, known)).collect();
    unknown.sort();
    unknown
}

fn unknown_variable(name: &str, known: &[String]) -> Option<String> {
    let is_own = name.starts_with(OWN) && !name.starts_with(OF_TESTS);
    if !is_own || known.iter().any(|known| known == name) {
        return None;
    }
    let rest = |name: &str| name.strip_prefix(OWN).unwrap_or(name).to_owned();
    let likeness = |known: &String| strsim::jaro_winkler(&rest(name), &rest(known));
    let nearest = known.iter().map(|known| (likeness(known), known));
    let nearest = nearest.max_by(|(one, _), (other, _)| one.total_cmp(other));
    let hint = match nearest.filter(|(likeness, _)| *likeness >= SIMILAR) {
        Some((_, known)) => format!("; did you mean {known}?"),
        None => "; see `concertina serve --help`".to_owned(),
    };
    Some(format!("unknown environment variable {name}{hint}"))
}

impl Config {
    /// The environment of workers and of the listing of adapters.
    pub fn environment_of_workers(&self) -> Vec<(OsString, OsString)> {
        of_workers(&self.workers.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(name: &str, named: &[&str]) -> bool {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        is_passed_on(OsStr::new(name), &named)
    }

    #[test]
    fn workers_receive_what_drivers_need_and_no_secret() {
        for name in [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "TMPDIR",
            "XDG_RUNTIME_DIR",
            "RUST_BACKTRACE",
            "RAYON_NUM_THREADS",
            "VK_ICD_FILENAMES",
            "VK_DRIVER_FILES",
            "LP_NUM_THREADS",
            "NODEVICE_SELECT",
            "LD_LIBRARY_PATH",
            "NVIDIA_VISIBLE_DEVICES",
            "CUDA_VISIBLE_DEVICES",
            "AMD_VULKAN_ICD",
            "RADV_PERFTEST",
            "MESA_VK_DEVICE_SELECT",
            "DRI_PRIME",
            "__GL_SHADER_DISK_CACHE_PATH",
            "WGPU_BACKEND",
            "CONCERTINA_LOG",
        ] {
            assert!(passes(name, &[]), "{name}");
        }
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "DB_PASSWORD",
            "CONCERTINA_API_KEY",
            "CONCERTINA_KEYS",
            "GITHUB_TOKEN",
            "HF_TOKEN",
            "OPENAI_API_KEY",
            "NVIDIA_API_KEY",
            "GPU_CLOUD_TOKEN",
            "KUBECONFIG",
            "SSH_AUTH_SOCK",
            "DATABASE_URL",
            "HTTPS_PROXY",
            "PATHS",
            "path",
            "MY_VK_KEY",
            "",
        ] {
            assert!(cfg!(windows) || !passes(name, &[]), "{name}");
        }
    }

    #[test]
    fn configured_variables_are_passed_on_except_the_api_key() {
        assert!(passes("MY_DRIVER", &["OTHER", "MY_DRIVER"]));
        assert!(passes("NVIDIA_API_KEY", &["NVIDIA_API_KEY"]));
        assert!(!passes("MY_DRIVER2", &["MY_DRIVER"]));
        assert!(!passes(API_KEY, &[API_KEY]));
        let wrong = |name: &str| check(&[name.to_owned()]).unwrap_err().to_string();
        assert!(wrong("A=b").contains("without its value"));
        assert!(wrong("").contains("is not the name of a variable"));
        assert!(wrong(API_KEY).contains("never passed to workers"));
        assert!(check(&["MY_DRIVER".to_owned()]).is_ok());
    }

    #[test]
    fn unknown_variables_are_named_with_the_nearest_known_one() {
        let known = ["CONCERTINA_MODELS", "CONCERTINA_LISTEN", "CONCERTINA_API_KEY"];
        let known = known.map(str::to_owned);
        let warning_for = |name: &str| unknown_variable(name, &known);
        for (name, nearest) in [
            ("CONCERTINA_MODEL", "CONCERTINA_MODELS"),
            ("CONCERTINA_LISTEM", "CONCERTINA_LISTEN"),
            ("CONCERTINA_APIKEY", "CONCERTINA_API_KEY"),
        ] {
            let warning = warning_for(name).unwrap();
            assert!(
                warning.contains(name) && warning.contains(&format!("did you mean {nearest}?")),
                "{warning}"
            );
        }
        assert!(warning_for("CONCERTINA_ZZZ").unwrap().ends_with("see `concertina serve --help`"));
        assert_eq!(warning_for("CONCERTINA_MODELS"), None);
        assert_eq!(warning_for("CONCERTINA_TEST_ONNX"), None);
        assert_eq!(warning_for("OTHER_MODEL"), None);
    }
}
