//! Products of matrices and arithmetic of several tensors.

use super::Table;

pub(super) const TABLE: Table = &[];
