//! Boxes and regions of detectors.

use super::Table;

pub(super) const TABLE: Table = &[];
