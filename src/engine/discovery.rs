//! Which adapters there are, and what earlier runs learned of them.

use super::driver::Driver;
use super::{EngineConfig, lister, recollections};
use crate::adapter::entry::{AdapterEntry, Class, Usability, warn_of_unknown};
use crate::adapter::names::distinguish;
use crate::clock;
use crate::schedule::{AdapterId, Event, ModelId};
use std::time::Duration;
use tokio::sync::oneshot;

/// Time between two listings of adapters: a listing may wake sleeping cards.
const LIST_AGAIN_MIN: Duration = Duration::from_secs(10);

/// A card that comes is usable only after its driver has taken it.
const SETTLED: Duration = Duration::from_secs(1);

/// A listing that is under way; `None` comes of one that failed.
pub(super) type Listing = oneshot::Receiver<Option<Vec<AdapterEntry>>>;

impl Driver {
    /// Takes in a listing; a later one that failed changes nothing.
    pub(super) fn discover(&mut self, entries: Option<Vec<AdapterEntry>>) -> Option<Event> {
        self.listed = clock::now();
        let named = &self.config.named_adapters;
        if let Some(entries) = entries.as_ref().filter(|_| self.compared.as_ref() != Some(named)) {
            warn_of_unknown(entries, named);
            self.compared = Some(named.clone());
        }
        let otherwise = (!self.known).then(|| self.config.entries_without_listing.clone());
        let mut entries = entries.or(otherwise)?;
        distinguish(&mut entries, &self.config.assumptions.name);
        let is_first = !std::mem::replace(&mut self.known, true);
        let usable = entries.iter().filter(|entry| entry.state == Usability::Usable).count();
        tracing::info!(found = entries.len(), usable, "adapters listed");
        self.warn_of_unreachable(&entries);
        let cards = entries.iter().filter(|entry| is_hardware(entry));
        let cards = cards.filter_map(|entry| Some((entry.id.clone(), entry.pci.clone()?)));
        self.sensors.watch(cards.collect());
        self.turn(Event::Excluded { adapters: self.fleet.excluded(&entries) });
        let adapters = self.fleet.discover(entries, &self.config.assumptions);
        let ids: Vec<AdapterId> = adapters.iter().map(|(id, _)| *id).collect();
        self.turn(Event::Discovered { adapters });
        self.restore_modes(&ids);
        for adapter in ids {
            self.recall(adapter);
        }
        if is_first {
            self.recall_policy();
        }
        None
    }

    /// Logs the cards that no graphics API lists, unless the last listing had the same.
    fn warn_of_unreachable(&self, entries: &[AdapterEntry]) {
        let is_news = |entry: &&AdapterEntry| {
            let mut before = self.fleet.unused.iter();
            // The loss of one that was used is logged as that.
            let was_used = self.fleet.members().any(|(_, member)| member.entry.id == entry.id);
            let is_known = before.any(|old| (&old.id, &old.reason) == (&entry.id, &entry.reason));
            entry.unreachable && !was_used && !is_known
        };
        for entry in entries.iter().filter(is_news) {
            let reason = entry.reason.as_deref().unwrap_or_default();
            tracing::warn!(adapter = %entry.id, "{} cannot be used: {reason}", entry.name);
        }
    }

    /// Tells the scheduler what is known of models that have just come.
    pub(super) fn recall_all(&mut self) {
        self.remember();
        let ids: Vec<AdapterId> = self.fleet.members().map(|(id, _)| id).collect();
        for adapter in ids {
            self.recall(adapter);
        }
    }

    fn recall(&mut self, adapter: AdapterId) {
        let models = self.catalogue.all();
        let models = models.map(|(id, entry)| (id, recollections::key(&entry.info)));
        let Some(member) = self.fleet.member(adapter) else { return };
        if let Some(memory) = self.recollections.of(&member.entry, models) {
            self.turn(Event::Recalled { adapter, memory });
        }
    }

    /// Tells the scheduler what it learned of requests and clients before this run.
    fn recall_policy(&mut self) {
        let number = |name: &str| self.catalogue.number(self.catalogue.resolve(name, None)?);
        let (policy, down) = self.recollections.policy(number);
        self.turn(Event::Learned { policy, down });
    }

    /// Keeps what was learned, beside everything else.
    pub(super) fn save(&mut self) {
        self.saved = clock::now();
        self.remember();
        let at_end = self.scheduler.is_closing();
        if let Some((path, text)) = self.recollections.changed(at_end) {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = recollections::write(&path, &text) {
                    tracing::warn!("cannot keep what was learned in {}: {error}", path.display());
                }
            });
        }
    }

    fn remember(&mut self) {
        self.recollections.enter_shapes(&self.catalogue);
        let name = |id: ModelId| self.catalogue.get(id).map(|info| recollections::key(info));
        let time = self.time();
        for (id, member) in self.fleet.members() {
            if let Some(memory) = self.scheduler.recollection(time, id) {
                self.recollections.update(time, &member.entry, memory, name);
            }
        }
        // Before the first listing the scheduler knows nothing yet.
        if self.known {
            let name = |id: ModelId| self.catalogue.get(id).map(|info| info.name.clone());
            let is_served = |name: &str| self.catalogue.resolve(name, None).is_some();
            let learned = self.scheduler.learned(time);
            self.recollections.update_policy(time, &learned, (name, is_served));
        }
    }

    /// A worker that died may mean that its card is gone, and the kernel may say so: looks which
    /// are there, but no more often than is good for them.
    pub(super) fn list_again(&mut self, why: &str) {
        tracing::debug!("adapters are listed again: {why}");
        let soon = clock::now() + SETTLED;
        // Whoever goes on telling does not put it off.
        self.list_at.get_or_insert(soon.max(self.listed + LIST_AGAIN_MIN));
    }

    /// The time of a listing has come.
    pub(super) fn list_now(&mut self) {
        self.list_at = None;
        if self.shutdown.has_begun {
            return;
        }
        if self.inboxes.listing.is_some() {
            // It began before what was told meanwhile.
            return self.list_again("it was asked for during a listing");
        }
        self.inboxes.listing = Some(list_in_background(&self.config));
    }
}

/// Whether a card of its own may be behind it.
fn is_hardware(entry: &AdapterEntry) -> bool {
    !matches!(entry.class, Class::Software | Class::Cpu)
}

/// Lists adapters beside everything else: requests may arrive meanwhile, and wait.
pub(super) fn list_in_background(config: &EngineConfig) -> Listing {
    let (listed, listing) = oneshot::channel();
    let config = EngineConfig { recorder: None, ..config.clone() };
    tokio::spawn(async move {
        let entries = lister::list(&config).await;
        let _ = listed.send(entries.map_or_else(
            |error| {
                tracing::warn!("adapters could not be listed: {error:#}");
                None
            },
            Some,
        ));
    });
    listing
}

/// Waits for the end of a listing, for ever if there is none.
pub(super) async fn listed(listing: &mut Option<Listing>) -> Option<Vec<AdapterEntry>> {
    match listing {
        Some(listing) => listing.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}
