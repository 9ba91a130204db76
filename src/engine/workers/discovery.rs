//! Listings of adapters, and learned values of earlier runs.

use crate::core::Core;
use crate::learned_policy::of_model;
use crate::{learned_profiles, mode_changes};
use adapter::entry::{AdapterEntry, Api, Class, Usability, warn_of_unknown};
use adapter::names::distinguish;
use schedule::{AdapterId, Event, ModelId};
use tokio::task::JoinHandle;
use types::clock;

/// Applies a listing. A failed one changes nothing unless it was the first.
pub(crate) fn discover(core: &mut Core, entries: Option<Vec<AdapterEntry>>) -> Option<Event> {
    let named = &core.config.live.named_adapters;
    if let Some(entries) =
        entries.as_ref().filter(|_| core.listings.compared.as_ref() != Some(named))
    {
        warn_of_unknown(entries, named);
        core.listings.compared = Some(named.clone());
    }
    let fallback = (!core.listings.known).then(|| core.config.live.entries_without_listing.clone());
    let mut entries = entries.or(fallback)?;
    // Equal cards would have one name in decisions and answers.
    distinguish(&mut entries, &core.config.live.assumptions.name);
    let is_first = !std::mem::replace(&mut core.listings.known, true);
    let usable = entries.iter().filter(|entry| entry.state == Usability::Usable).count();
    tracing::info!(found = entries.len(), usable, "adapters listed");
    warn_of_unreachable(core, &entries);
    warn_of_missing_loader(is_first, &entries);
    let cards = entries.iter().filter(|entry| is_hardware(entry));
    let cards = cards.filter_map(|entry| Some((entry.id.clone(), entry.pci.clone()?)));
    core.sensors.watch(cards.collect());
    core.turn(Event::Excluded { adapters: core.fleet.excluded(&entries) });
    let adapters = core.fleet.discover(entries, &core.config.live.assumptions);
    let ids: Vec<AdapterId> = adapters.iter().map(|(id, _)| *id).collect();
    core.turn(Event::Discovered { adapters });
    mode_changes::restore_modes(core, &ids);
    for adapter in ids {
        recall(core, adapter);
    }
    if is_first {
        // Once: the values of the file must not replace what was learned since the start.
        recall_policy(core);
    }
    None
}

/// Logs the remedy, once, if no graphics card can be used for want of the Vulkan loader.
#[cfg(target_os = "linux")]
fn warn_of_missing_loader(is_first: bool, entries: &[AdapterEntry]) {
    let has_graphics = entries.iter().any(|entry| entry.api != Api::Cpu);
    if is_first
        && !has_graphics
        && let Some(remedy) = adapter::unreachable::missing_loader()
    {
        tracing::warn!("no graphics card can be used: {remedy}");
    }
}

/// On other systems the graphics API is a part of the system.
#[cfg(not(target_os = "linux"))]
fn warn_of_missing_loader(_is_first: bool, _entries: &[AdapterEntry]) {}

/// Logs the cards that no graphics API lists, unless the last listing had the same.
fn warn_of_unreachable(core: &Core, entries: &[AdapterEntry]) {
    let is_new = |entry: &&AdapterEntry| {
        let mut before = core.fleet.unused.iter();
        // The loss of an adapter in use is logged by the fleet.
        let was_used = core.fleet.members().any(|(_, member)| member.entry.id == entry.id);
        let is_known = before.any(|old| (&old.id, &old.reason) == (&entry.id, &entry.reason));
        entry.unreachable && !was_used && !is_known
    };
    for entry in entries.iter().filter(is_new) {
        let reason = entry.reason.as_deref().unwrap_or_default();
        tracing::warn!(adapter = %entry.id, "{} cannot be used: {reason}", entry.name);
    }
}

/// Sends the learned values for all models to the scheduler, after models were added.
pub(crate) fn recall_all(core: &mut Core) {
    remember(core);
    let ids: Vec<AdapterId> = core.fleet.members().map(|(id, _)| id).collect();
    for adapter in ids {
        recall(core, adapter);
    }
}

fn recall(core: &mut Core, adapter: AdapterId) {
    let models = core.catalogue.all();
    let models = models.map(|(id, entry)| (id, learned_profiles::key(&entry.info)));
    let Some(member) = core.fleet.member(adapter) else { return };
    if let Some(profile) = core.learned_profiles.of(&member.entry, models) {
        core.turn(Event::ProfileRestored { adapter, profile });
    }
}

/// Sends the learned values about requests and clients of earlier runs to the scheduler.
fn recall_policy(core: &mut Core) {
    let number = |name: &str| core.catalogue.number(core.catalogue.resolve(name, None)?);
    let (policy, down) = core.learned_profiles.policy(number);
    core.turn(Event::PolicyRestored { policy, down });
}

/// Sends the learned values about requests of an added model to the scheduler.
pub(crate) fn recall_model(core: &mut Core, name: &str, model: ModelId) {
    let was_served = core.catalogue.resolve(name, None).is_some();
    let number = |other: &str| (other == name).then_some(model);
    for (policy, down) in of_model(core.learned_profiles.policy(number), was_served) {
        core.turn(Event::PolicyRestored { policy, down });
    }
}

/// Writes learned values to disk in the background; `None` if nothing changed. The task must be
/// awaited at the end, since a runtime that shuts down drops tasks that have not begun.
pub(crate) fn save(core: &mut Core) -> Option<JoinHandle<()>> {
    core.saved = clock::now();
    remember(core);
    let at_end = core.scheduler.is_closing();
    let (path, text) = core.learned_profiles.changed(at_end)?;
    Some(tokio::task::spawn_blocking(move || {
        if let Err(error) = learned_profiles::write(&path, &text) {
            tracing::warn!("failed to write learned values to {}: {error}", path.display());
        }
    }))
}

fn remember(core: &mut Core) {
    core.learned_profiles.enter_shapes(&core.catalogue);
    let name = |id: ModelId| core.catalogue.get(id).map(|info| learned_profiles::key(info));
    let time = core.time();
    for (id, member) in core.fleet.members() {
        if let Some(profile) = core.scheduler.learned_profile(time, id) {
            core.learned_profiles.update(time, &member.entry, profile, name);
        }
    }
    // Before the first listing the scheduler has no values from the file yet.
    if core.listings.known {
        let name = |id: ModelId| core.catalogue.get(id).map(|info| info.name.clone());
        let is_served = |name: &str| core.catalogue.resolve(name, None).is_some();
        let learned = core.scheduler.learned(time);
        core.learned_profiles.update_policy(time, &learned, (name, is_served));
    }
}

/// Starts a listing that is due.
pub(crate) fn list_now(core: &mut Core) {
    if core.shutdown.has_begun {
        core.listings.due = None;
    } else {
        core.listings.begin_another(&core.config);
    }
}

/// True if the adapter may be a physical card.
fn is_hardware(entry: &AdapterEntry) -> bool {
    !matches!(entry.class, Class::Software | Class::Cpu)
}
