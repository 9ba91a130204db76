//! Listings of the adapters in the machine: the one that is under way, and when the next is due.

use crate::EngineConfig;
use crate::workers::lister;
use adapter::entry::AdapterEntry;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use types::clock;

/// Time between two listings of adapters: a listing may wake sleeping cards.
const LIST_AGAIN_MIN: Duration = Duration::from_secs(10);
/// A card that comes is usable only after its driver has taken it.
const SETTLED: Duration = Duration::from_secs(1);

/// A listing that is under way; `None` comes of one that failed.
type Listing = oneshot::Receiver<Option<Vec<AdapterEntry>>>;

/// What is known of listings.
pub(crate) struct Listings {
    under_way: Option<Listing>,
    /// When adapters were last listed.
    listed: Instant,
    /// When they are listed again, if they are.
    pub(crate) due: Option<Instant>,
    /// Whether the adapters of the machine are known.
    pub(crate) known: bool,
    /// Adapters that the settings name, as they were last compared with those that are there.
    pub(crate) compared: Option<Vec<String>>,
}

impl Listings {
    /// Begins the first one.
    pub(crate) fn begin(config: &EngineConfig) -> Listings {
        let under_way = Some(list_in_background(config));
        Listings { under_way, listed: clock::now(), due: None, known: false, compared: None }
    }

    /// A worker that died may mean that its card is gone, and the kernel may say so: looks which
    /// are there, but no more often than is good for them.
    pub(crate) fn again(&mut self, why: &str) {
        tracing::debug!("adapters are listed again: {why}");
        let soon = clock::now() + SETTLED;
        // Whoever goes on telling does not put it off.
        self.due.get_or_insert(soon.max(self.listed + LIST_AGAIN_MIN));
    }

    /// The time of a listing has come.
    pub(crate) fn begin_another(&mut self, config: &EngineConfig) {
        self.due = None;
        if self.under_way.is_some() {
            // It began before what was told meanwhile.
            return self.again("it was asked for during a listing");
        }
        self.under_way = Some(list_in_background(config));
    }

    /// Waits for the end of the listing that is under way, for ever if there is none.
    pub(crate) async fn ended(&mut self) -> Option<Vec<AdapterEntry>> {
        let Some(listing) = &mut self.under_way else { return std::future::pending().await };
        let entries = listing.await.unwrap_or_default();
        (self.under_way, self.listed) = (None, clock::now());
        entries
    }
}

/// Lists adapters beside everything else: requests may arrive meanwhile, and wait.
fn list_in_background(config: &EngineConfig) -> Listing {
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
