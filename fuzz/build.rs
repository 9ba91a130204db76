//! Links libFuzzer, which `fuzz/build.sh` has compiled and tells where.
#![allow(clippy::disallowed_methods, reason = "a build script is told through its environment")]

fn main() {
    println!("cargo:rerun-if-env-changed=LIBFUZZER");
    if let Ok(folder) = std::env::var("LIBFUZZER") {
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:rustc-link-lib=static=fuzzer");
        println!("cargo:rustc-link-lib=stdc++");
    }
}
