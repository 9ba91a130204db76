//! Validation after wrong results. An adapter that computed wrong results passes the checks of its
//! next start, and may still compute wrong results occasionally. So as long as another adapter can
//! answer, perhaps after a start, it only repeats batches that the other has just answered; the
//! driver compares the results, and a difference is a fault.

use super::action::Action;
use super::adapter::Adapter;
use super::batch::Batch;
use super::estimates;
use super::ids::{AdapterId, Time};
use super::outbox::Outbox;
use super::world::World;

/// Repeats a batch that was just answered on an adapter under validation, if there is one; called
/// before its requests are removed.
pub(super) fn shadow(world: &mut World, out: &mut Outbox, now: Time, by: AdapterId, batch: &Batch) {
    let owed = batch.parts.iter().all(|part| world.queue.get(part.request).is_some());
    let whole = world.models.get(&batch.model).is_some_and(|model| !model.decoupled);
    // The results of an adapter that is itself in a shadow run prove nothing.
    if world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0) || !owed || !whole {
        return;
    }
    let idle = |(id, a): &(&AdapterId, &Adapter)| {
        let holds = a.replicas.contains_key(&batch.model);
        a.shadow_batches > 0
            && a.state().is_idle()
            && holds
            && batch.rows() <= estimates::max_rows(world, **id, batch.model)
    };
    let Some((id, _)) = world.adapters.iter().find(idle) else { return };
    let (id, repeats) = (*id, Some(batch.id));
    let batch = Batch { id: world.numbers.next_batch(), repeats, ..batch.clone() };
    let Some(adapter) = world.adapters.get_mut(&id) else { return };
    adapter.run(now, batch.clone());
    let incarnation = adapter.incarnation;
    out.push(Action::Run { adapter: id, incarnation, batch });
}

/// Records that the adapter's results agree with those of the other.
pub(super) fn agreed(world: &mut World, id: AdapterId) {
    if let Some(adapter) = world.adapters.get_mut(&id) {
        adapter.shadow_batches = adapter.shadow_batches.saturating_sub(1);
    }
}
