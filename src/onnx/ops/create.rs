//! Constants, ranges, random numbers and conversions.

use super::Table;

pub(super) const TABLE: Table = &[];
