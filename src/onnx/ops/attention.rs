//! Attention and what goes with it.

use super::Table;

pub(super) const TABLE: Table = &[];
