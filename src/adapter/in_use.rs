//! Size of a memory and the bytes of it that are in use.

/// The size of a memory, and the bytes of it that all programs together use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    pub total: u64,
    pub used: u64,
}

impl InUse {
    /// The smaller of both sizes, with the smaller of both free amounts.
    pub(super) fn within(self, other: InUse) -> InUse {
        let total = self.total.min(other.total);
        let left = |memory: InUse| memory.total.saturating_sub(memory.used);
        InUse { total, used: total.saturating_sub(left(self).min(left(other))) }
    }
}
