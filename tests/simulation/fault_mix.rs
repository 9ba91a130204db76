//! Frequencies of the faults of a world.

use crate::rng::Rng;

/// Frequencies of the faults of this world, in percent.
#[derive(Default)]
pub(crate) struct FaultMix {
    pub(crate) crash: u64,
    pub(crate) hang: u64,
    pub(crate) stuck_compute: u64,
    pub(crate) unkillable: u64,
    pub(crate) late: u64,
    pub(crate) poison: u64,
    pub(crate) cancel: u64,
    pub(crate) operator: u64,
    pub(crate) load_failure: u64,
    /// Loads and batches that run out of memory.
    pub(crate) memory: u64,
    /// Requests with a deadline of the client.
    pub(crate) deadlines: u64,
    /// Measurements and probes with wrong values, and batches that take five times as long.
    pub(crate) wrong_values: u64,
    /// Adapters that vanish from a listing or are excluded, models that are withdrawn and return,
    /// memory that other programs take, changed settings.
    pub(crate) change: u64,
}

impl FaultMix {
    pub(crate) fn of(rng: &mut Rng) -> FaultMix {
        let bad = [0, 0, 1, 4][rng.below(4) as usize];
        FaultMix {
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
            deadlines: [0, 0, 5, 40][rng.below(4) as usize],
            wrong_values: [0, 0, 10][rng.below(3) as usize],
            change: [0, 0, 2][rng.below(3) as usize],
        }
    }
}
