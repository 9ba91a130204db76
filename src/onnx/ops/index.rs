//! Operators that pick elements or put them somewhere.

use super::Table;

pub(super) const TABLE: Table = &[];
