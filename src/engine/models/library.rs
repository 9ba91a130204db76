//! The repository from which models are loaded.

use model::file_copies::RepositoryCopies;
use model::repository::Repository;
use std::sync::Arc;

/// The source of models.
#[derive(Clone, Debug)]
pub struct Library {
    pub repository: Repository,
    /// Kinds that workers can load.
    pub kinds: Vec<String>,
    /// The last good files, if any are kept.
    pub kept: Option<Arc<RepositoryCopies>>,
}
