//! Models that come and go: catalogue, repository, validation, the last good files.

pub(crate) mod catalogue;
pub(crate) mod changes;
pub(crate) mod folder;
pub(crate) mod keeper;
pub(crate) mod kept;
pub(crate) mod library;
pub(crate) mod readiness;
pub(crate) mod repository;
pub(crate) mod serving;
pub(crate) mod turns;
pub(crate) mod validation;
