//! Measures the memory that other programs use, and reports the memory budget of models to the
//! scheduler.

use crate::core::Core;
use crate::workers::fleet::Member;
use crate::workers::memory_budget::budget;
use adapter::entry::{Api, Class};
use adapter::in_use::InUse;
use adapter::memory::host_in_use;
use adapter::sensors::Reading;
use schedule::{AdapterId, Event};
use types::clock;

/// Measures the memory in use of every adapter, and reports changed budgets to the scheduler.
pub(crate) fn watch_memory(core: &mut Core) {
    if !core.memory_budgets.is_due() {
        return;
    }
    core.memory_budgets.sampled_at = Some(clock::now());
    let host = host_in_use();
    let samples: Vec<_> =
        core.fleet.members().map(|(id, _)| (id, sample(core, id, host))).collect();
    for (adapter, sample) in samples {
        if let Some(bytes) = core.memory_budgets.adapters.entry(adapter).or_default().take(sample) {
            core.turn(Event::MemoryBudget { adapter, bytes });
        }
    }
}

/// Reports a larger budget at once, after the memory of this adapter's worker has changed.
pub(crate) fn report_more(core: &mut Core, adapter: AdapterId) {
    let sample = sample(core, adapter, host_in_use());
    let samples = core.memory_budgets.adapters.entry(adapter).or_default();
    let more = sample.is_some_and(|(budget, _)| Some(budget) > samples.reported);
    if let Some(bytes) = more.then(|| samples.take(sample)).flatten() {
        core.turn(Event::MemoryBudget { adapter, bytes });
    }
}

/// The budget of models in an adapter's memory, and the size of that memory, in bytes.
fn sample(core: &Core, id: AdapterId, host: Option<InUse>) -> Option<(u64, u64)> {
    let member = core.fleet.member(id)?;
    let in_use = if shares_host(member) { host } else { card_in_use(core, member) }?;
    let held = core.scheduler.adapters().find(|(other, _)| *other == id);
    let held = held.map_or(0, |(_, view)| view.bytes);
    // The larger value: memory pools also keep freed memory, and the report of a worker can be
    // older than a load.
    let ours = held.max(member.reserved.unwrap_or(0));
    Some((budget(in_use, ours), in_use.total))
}

/// The memory in use of a card, as last reported by its worker or otherwise by the kernel.
fn card_in_use(core: &Core, member: &Member) -> Option<InUse> {
    let in_use = |reading: Reading| {
        let (total, used) = (reading.memory_total_bytes?, reading.memory_used_bytes?);
        Some(InUse { total, used })
    };
    let reported = member.pid.and(member.reading.clone()).and_then(in_use);
    reported.or_else(|| core.sensors.of(&member.entry.id).and_then(in_use))
}

/// True if the adapter uses the memory of the machine.
fn shares_host(member: &Member) -> bool {
    let class = member.entry.class;
    member.entry.api == Api::Cpu || matches!(class, Class::Software | Class::Integrated)
}
