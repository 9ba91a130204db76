//! Values learned of a model on an adapter.

use super::ids::Time;
use super::service::Service;
use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

/// Share by which a learned duration moves towards a longer and towards a shorter one: longer times
/// count sooner, since a promise too early costs more than one too late.
const UP: f64 = 0.5;
const DOWN: f64 = 0.2;
/// Minimum of the estimate of a load without tuning, as one part in this many of a load with
/// tuning.
const LOAD_SHARE_MIN: u32 = 40;

/// Values learned of a model on an adapter; kept beyond the worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Time to load and warm up, in seconds.
    pub(super) load: Option<f64>,
    /// True if that is estimated from a load that tuned kernels.
    pub(super) estimated: bool,
    /// Time to load and warm up where kernels must be tuned first, in seconds.
    pub(super) first_load: Option<f64>,
    pub(super) bytes: Option<u64>,
    /// Service models by the size of a row.
    pub(super) services: BTreeMap<u8, Service>,
    /// Rows of the largest batch that fits into memory, and the end of that limit; without it the
    /// limit of the model applies.
    pub(super) rows_max: Option<(u32, Time)>,
    /// Rows of the largest batch that the worker measured when it loaded the model.
    pub(super) measured_rows_max: Option<u32>,
}

impl Known {
    /// Learns the time of a load. From a load that tuned kernels only the rest without the tuning
    /// is taken, and the first load without tuning replaces it.
    pub(super) fn learn_load(&mut self, took: Duration, tuning: Option<Duration>) {
        let Some(tuning) = tuning else {
            if mem::take(&mut self.estimated) {
                self.load = None;
            }
            return learn(&mut self.load, took);
        };
        learn(&mut self.first_load, took);
        if self.load.is_none() || self.estimated {
            // Kernels that were tuned are compiled again, which takes part of that time.
            let left = took.saturating_sub(tuning).max(took / LOAD_SHARE_MIN);
            self.load = Some(left.as_secs_f64());
            self.estimated = true;
        }
    }
}

/// Moves a learned duration towards a measured one.
pub(super) fn learn(known: &mut Option<f64>, took: Duration) {
    let took = took.as_secs_f64();
    let share = |known: f64| if took > known { UP } else { DOWN };
    *known = Some(known.map_or(took, |known| known + (took - known) * share(known)));
}
