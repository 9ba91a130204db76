//! How bad a world is.

use crate::rng::Rng;

/// How bad this world is, in percent.
#[derive(Default)]
pub(crate) struct Weather {
    pub(crate) crash: u64,
    pub(crate) hang: u64,
    pub(crate) stuck_compute: u64,
    pub(crate) unkillable: u64,
    pub(crate) late: u64,
    pub(crate) poison: u64,
    pub(crate) cancel: u64,
    pub(crate) operator: u64,
    pub(crate) load_failure: u64,
    /// Loads and batches for which there is no memory.
    pub(crate) memory: u64,
    /// Requests with a deadline of the client's.
    pub(crate) hurry: u64,
    /// Measurements and probes that are wrong, and batches that take five times as long.
    pub(crate) lies: u64,
    /// Adapters that vanish from a listing or are excluded, models that are withdrawn and come back,
    /// memory that others take, other settings.
    pub(crate) change: u64,
}

impl Weather {
    pub(crate) fn of(rng: &mut Rng) -> Weather {
        let bad = [0, 0, 1, 4][rng.below(4) as usize];
        Weather {
            crash: bad * 2,
            hang: bad,
            stuck_compute: bad,
            unkillable: [0, 0, 0, 20][rng.below(4) as usize],
            late: 30,
            poison: [0, 0, 3][rng.below(3) as usize],
            cancel: 6,
            operator: [0, 0, 3][rng.below(3) as usize],
            load_failure: [0, 0, 0, 10][rng.below(4) as usize],
            memory: [0, 0, 0, 6][rng.below(4) as usize],
            hurry: [0, 0, 5, 40][rng.below(4) as usize],
            lies: [0, 0, 10][rng.below(3) as usize],
            change: [0, 0, 2][rng.below(3) as usize],
        }
    }
}
