//! What the tests of several crates need.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::new_without_default, reason = "each is another folder")]

mod test_folder;

pub use test_folder::TestFolder;
