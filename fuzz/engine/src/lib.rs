//! An empty crate: it exists for the library that libfuzzer-sys compiles.
