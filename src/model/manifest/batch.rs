//! The table `[batch]` of `model.toml`.

use super::time::parse_time;
use crate::files::Detail;
use serde::Deserialize;
use std::time::Duration;

/// Most rows of a batch: in a larger one, rows would only wait for each other.
pub(crate) const MAX_ROWS_MAX: usize = 4096;
/// Longest batching delay.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(10);

/// The table as written, before its values are checked.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenBatch {
    pub(super) max_rows: Option<usize>,
    delay: Option<String>,
    pub(super) row_memory_bytes: Option<u64>,
}

impl WrittenBatch {
    pub(super) fn check(self) -> Result<(Option<usize>, Duration), Detail> {
        if let Some(rows) = self.max_rows.filter(|rows| !(1..=MAX_ROWS_MAX).contains(rows)) {
            return Err(
                format!("batch.max_rows: {rows} is not between 1 and {MAX_ROWS_MAX}").into()
            );
        }
        let delay = |text| parse_time("batch.delay", text, DELAY_MAX);
        let delay = self.delay.as_deref().map_or(Ok(Duration::ZERO), delay)?;
        Ok((self.max_rows, delay))
    }
}
