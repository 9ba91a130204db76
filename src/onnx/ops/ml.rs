//! Classical machine learning (`ai.onnx.ml`).

use super::Table;

pub(super) const TABLE: Table = &[];
