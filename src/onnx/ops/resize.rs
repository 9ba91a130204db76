//! Resizing and sampling of images.

use super::Table;

pub(super) const TABLE: Table = &[];
