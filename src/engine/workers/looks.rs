//! Looks how much memory other programs use, and tells the scheduler what models may take.

use crate::core::Core;
use crate::workers::fleet::Member;
use crate::workers::room::room;
use adapter::entry::{Api, Class};
use adapter::in_use::InUse;
use adapter::memory::host_in_use;
use adapter::sensors::Reading;
use schedule::{AdapterId, Event};
use types::clock;

/// Looks how much memory others use of every adapter, and tells the scheduler what changed.
pub(crate) fn look_at_memory(core: &mut Core) {
    if !core.rooms.is_due() {
        return;
    }
    core.rooms.looked = Some(clock::now());
    let host = host_in_use();
    let looks: Vec<_> = core.fleet.members().map(|(id, _)| (id, look(core, id, host))).collect();
    for (adapter, look) in looks {
        if let Some(bytes) = core.rooms.adapters.entry(adapter).or_default().take(look) {
            core.turn(Event::Room { adapter, bytes });
        }
    }
}

/// What is ours of this adapter's memory has changed: more room is told at once.
pub(crate) fn look_again(core: &mut Core, adapter: AdapterId) {
    let look = look(core, adapter, host_in_use());
    let looks = core.rooms.adapters.entry(adapter).or_default();
    let more = look.is_some_and(|(room, _)| Some(room) > looks.told);
    if let Some(bytes) = more.then(|| looks.take(look)).flatten() {
        core.turn(Event::Room { adapter, bytes });
    }
}

/// Bytes that models may take of an adapter's memory, and all of it.
fn look(core: &Core, id: AdapterId, host: Option<InUse>) -> Option<(u64, u64)> {
    let member = core.fleet.member(id)?;
    let in_use = if shares_host(member) { host } else { card_in_use(core, member) }?;
    let held = core.scheduler.adapters().find(|(other, _)| *other == id);
    let held = held.map_or(0, |(_, view)| view.bytes);
    let ours = held.max(member.reserved.unwrap_or(0));
    Some((room(in_use, ours), in_use.total))
}

/// A card's own memory, as its worker or else the kernel told last.
fn card_in_use(core: &Core, member: &Member) -> Option<InUse> {
    let in_use = |reading: Reading| {
        let (total, used) = (reading.memory_total_bytes?, reading.memory_used_bytes?);
        Some(InUse { total, used })
    };
    let told = member.pid.and(member.reading.clone()).and_then(in_use);
    told.or_else(|| core.sensors.of(&member.entry.id).and_then(in_use))
}

/// Whether its memory is that of the machine.
fn shares_host(member: &Member) -> bool {
    let class = member.entry.class;
    member.entry.api == Api::Cpu || matches!(class, Class::Software | Class::Integrated)
}
