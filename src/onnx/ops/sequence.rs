//! Sequences and optional values: lists of values while a plan is made, no steps.

use super::Table;

pub(super) const TABLE: Table = &[];
