//! One step of an optimiser (`ai.onnx.preview.training`).

use super::Table;

pub(super) const TABLE: Table = &[];
