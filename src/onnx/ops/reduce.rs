//! Sums, maxima and the like along axes; sorting.

use super::Table;

pub(super) const TABLE: Table = &[];
