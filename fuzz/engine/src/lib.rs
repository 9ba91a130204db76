//! Nothing of its own: what is wanted is the library that libfuzzer-sys compiles.
