//! Operators on the shape of tensors and the order of their elements.

use super::Table;

pub(super) const TABLE: Table = &[];
