//! How much memory models may take now: what other programs use of it is theirs.

use adapter::in_use::InUse;
use schedule::AdapterId;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Time between two looks, as long as anything happens at all; cards are read as often.
const EVERY: Duration = Duration::from_secs(2);
/// So many looks in a row must find less room: the buffers of a batch come and go, and what a
/// worker says of its memory is not of the same moment as what its card says.
const LOOKS: usize = 3;
/// One part in so many of all memory is not counted on: for buffers, and for others that grow.
const SPARE: u64 = 10;
/// A change of less than one part in so many of all memory is not told.
const NOTED: u64 = 128;

/// What was found of each adapter.
#[derive(Default)]
pub(crate) struct Rooms {
    pub(crate) looked: Option<Instant>,
    pub(crate) adapters: HashMap<AdapterId, Looks>,
}

/// The last looks at one adapter, and what the scheduler was told of them.
#[derive(Default)]
pub(crate) struct Looks {
    last: VecDeque<u64>,
    pub(crate) told: Option<u64>,
}

impl Rooms {
    pub(crate) fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= EVERY)
    }
}

impl Looks {
    /// Takes a look in; gives what the scheduler is to be told, if that is something new.
    pub(crate) fn take(&mut self, look: Option<(u64, u64)>) -> Option<Option<u64>> {
        let Some((room, total)) = look else {
            self.last.clear();
            return self.told.take().map(|_| None);
        };
        self.last.truncate(LOOKS - 1);
        self.last.push_front(room);
        let room = self.last.iter().max().copied()?;
        let noted = |told: u64| told.abs_diff(room) >= (total / NOTED).max(1);
        self.told.is_none_or(noted).then(|| {
            self.told = Some(room);
            self.told
        })
    }
}

/// Bytes that models may take beside what others use, if `ours` of what is in use is our own.
pub(crate) fn room(in_use: InUse, ours: u64) -> u64 {
    let InUse { total, used } = in_use;
    let others = used.saturating_sub(ours);
    total.saturating_sub(others).saturating_sub(total / SPARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_use_and_a_tenth_are_not_for_models() {
        let room = |total, used, ours| room(InUse { total, used }, ours);
        assert_eq!(room(1000, 0, 0), 900);
        assert_eq!(room(1000, 300, 0), 600);
        assert_eq!(room(1000, 300, 300), 900);
        // What is ours is told a moment later than what is in use.
        assert_eq!(room(1000, 300, 400), 900);
        assert_eq!(room(1000, 950, 0), 0);
        assert_eq!(room(1000, u64::MAX, 0), 0);
        assert_eq!(room(u64::MAX, 0, u64::MAX), u64::MAX - u64::MAX / 10);
    }

    #[test]
    fn less_room_is_believed_when_it_lasts_and_more_at_once() {
        let mut looks = Looks::default();
        let mut take = |room| looks.take(Some((room, 1000)));
        assert_eq!(take(600), Some(Some(600)));
        assert_eq!(take(100), None);
        assert_eq!(take(100), None);
        assert_eq!(take(110), Some(Some(110)));
        assert_eq!(take(700), Some(Some(700)));
        // Not worth a word.
        assert_eq!(take(706), None);
        assert_eq!(take(708), Some(Some(708)));
    }

    #[test]
    fn what_nobody_tells_any_more_is_forgotten() {
        let mut looks = Looks::default();
        assert_eq!(looks.take(None), None);
        looks.take(Some((600, 1000)));
        assert_eq!(looks.take(None), Some(None));
        assert_eq!(looks.take(None), None);
        assert_eq!(looks.take(Some((100, 1000))), Some(Some(100)));
    }
}
