//! How much memory models may take now: what other programs use of it is theirs.

use super::driver::Driver;
use super::fleet::Member;
use crate::adapter::entry::{Api, Class};
use crate::adapter::in_use::InUse;
use crate::adapter::memory::host_in_use;
use crate::adapter::sensors::Reading;
use crate::clock;
use crate::schedule::{AdapterId, Event};
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
pub(super) struct Rooms {
    looked: Option<Instant>,
    adapters: HashMap<AdapterId, Looks>,
}

/// The last looks at one adapter, and what the scheduler was told of them.
#[derive(Default)]
struct Looks {
    last: VecDeque<u64>,
    told: Option<u64>,
}

impl Rooms {
    fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= EVERY)
    }
}

impl Looks {
    /// Takes a look in; gives what the scheduler is to be told, if that is something new.
    fn take(&mut self, look: Option<(u64, u64)>) -> Option<Option<u64>> {
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

impl Driver {
    /// Looks how much memory others use of every adapter, and tells the scheduler what changed.
    pub(super) fn look_at_memory(&mut self) {
        if !self.rooms.is_due() {
            return;
        }
        self.rooms.looked = Some(clock::now());
        let host = host_in_use();
        let looks: Vec<_> = self.fleet.members().map(|(id, _)| (id, self.look(id, host))).collect();
        for (adapter, look) in looks {
            if let Some(bytes) = self.rooms.adapters.entry(adapter).or_default().take(look) {
                self.turn(Event::Room { adapter, bytes });
            }
        }
    }

    /// What is ours of this adapter's memory has changed: more room is told at once.
    pub(super) fn look_again(&mut self, adapter: AdapterId) {
        let look = self.look(adapter, host_in_use());
        let looks = self.rooms.adapters.entry(adapter).or_default();
        let more = look.is_some_and(|(room, _)| Some(room) > looks.told);
        if let Some(bytes) = more.then(|| looks.take(look)).flatten() {
            self.turn(Event::Room { adapter, bytes });
        }
    }

    /// Bytes that models may take of an adapter's memory, and all of it.
    fn look(&self, id: AdapterId, host: Option<InUse>) -> Option<(u64, u64)> {
        let member = self.fleet.member(id)?;
        let in_use = if shares_host(member) { host } else { self.card_in_use(member) }?;
        let held = self.scheduler.adapters().find(|(other, _)| *other == id);
        let held = held.map_or(0, |(_, view)| view.bytes);
        let ours = held.max(member.reserved.unwrap_or(0));
        Some((room(in_use, ours), in_use.total))
    }

    /// A card's own memory, as its worker or else the kernel told last.
    fn card_in_use(&self, member: &Member) -> Option<InUse> {
        let in_use = |reading: Reading| {
            let (total, used) = (reading.memory_total_bytes?, reading.memory_used_bytes?);
            Some(InUse { total, used })
        };
        let told = member.pid.and(member.reading.clone()).and_then(in_use);
        told.or_else(|| self.sensors.of(&member.entry.id).and_then(in_use))
    }
}

/// Whether its memory is that of the machine.
fn shares_host(member: &Member) -> bool {
    let class = member.entry.class;
    member.entry.api == Api::Cpu || matches!(class, Class::Software | Class::Integrated)
}

/// Bytes that models may take beside what others use, if `ours` of what is in use is our own.
fn room(in_use: InUse, ours: u64) -> u64 {
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
