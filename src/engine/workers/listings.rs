//! Listings of the adapters in the machine: the running one, and the time of the next one.

use crate::EngineConfig;
use crate::workers::lister;
use adapter::entry::AdapterEntry;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use types::clock;

/// Minimum time between two listings, since a listing may wake cards in a low-power state.
const LISTING_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Delay of a listing after an event: an added card is usable only after its driver is bound.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// A running listing; a failed one returns `None`.
type Listing = oneshot::Receiver<Option<Vec<AdapterEntry>>>;

/// The state of listings.
pub(crate) struct Listings {
    running: Option<Listing>,
    /// The time of the last listing.
    listed: Instant,
    /// The time of the next listing, if one is due.
    pub(crate) due: Option<Instant>,
    /// True once a listing has been applied.
    pub(crate) known: bool,
    /// Adapter ids of the settings that were last compared with a listing.
    pub(crate) compared: Option<Vec<String>>,
}

impl Listings {
    /// Starts the first listing.
    pub(crate) fn begin(config: &EngineConfig) -> Listings {
        let running = Some(list_in_background(config));
        Listings { running, listed: clock::now(), due: None, known: false, compared: None }
    }

    /// Schedules another listing at a limited rate, for example because a worker died and its card
    /// may be lost.
    pub(crate) fn request(&mut self, why: &str) {
        tracing::debug!("scheduling a listing of adapters: {why}");
        let soon = clock::now() + SETTLE_TIME;
        // Further requests do not postpone the scheduled listing.
        self.due.get_or_insert(soon.max(self.listed + LISTING_INTERVAL_MIN));
    }

    /// Starts the listing that is due.
    pub(crate) fn begin_another(&mut self, config: &EngineConfig) {
        self.due = None;
        if self.running.is_some() {
            // The running listing began before the event that requested this one.
            return self.request("requested during a listing");
        }
        self.running = Some(list_in_background(config));
    }

    /// Waits for the end of the running listing; never returns if there is none.
    pub(crate) async fn ended(&mut self) -> Option<Vec<AdapterEntry>> {
        let Some(listing) = &mut self.running else { return std::future::pending().await };
        let entries = listing.await.unwrap_or_default();
        (self.running, self.listed) = (None, clock::now());
        entries
    }
}

/// Lists adapters in the background, while requests can already arrive.
fn list_in_background(config: &EngineConfig) -> Listing {
    let (listed, listing) = oneshot::channel();
    let config = EngineConfig { recorder: None, ..config.clone() };
    tokio::spawn(async move {
        let entries = lister::list(&config).await;
        let _ = listed.send(entries.map_or_else(
            |error| {
                tracing::warn!("failed to list adapters: {error:#}");
                None
            },
            Some,
        ));
    });
    listing
}
