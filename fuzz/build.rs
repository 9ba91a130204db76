//! Links libFuzzer, which `fuzz/build.sh` has compiled; its folder is in `LIBFUZZER`.
#![allow(
    clippy::disallowed_methods,
    reason = "a build script gets its input through the environment"
)]

fn main() {
    println!("cargo:rerun-if-env-changed=LIBFUZZER");
    if let Ok(folder) = std::env::var("LIBFUZZER") {
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:rustc-link-lib=static=fuzzer");
        println!("cargo:rustc-link-lib=stdc++");
    }
}
