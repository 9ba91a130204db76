//! Losses, which exported training graphs contain.

use super::Table;

pub(super) const TABLE: Table = &[];
