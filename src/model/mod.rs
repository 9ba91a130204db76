//! Models.
pub mod repository;
pub mod signature;
