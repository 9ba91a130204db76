//! Models at run time: catalogue, repository, validation, last good files.

pub(crate) mod catalogue;
pub(crate) mod changes;
pub(crate) mod file_keeper;
pub(crate) mod folder;
pub(crate) mod last_good_files;
pub(crate) mod library;
pub(crate) mod name_locks;
pub(crate) mod readiness;
pub(crate) mod repository;
pub(crate) mod serving;
pub(crate) mod validation;
