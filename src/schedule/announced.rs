//! Clients that say when they will come next: an adapter is started for them as for those of whom
//! that was learned (`ahead.rs`).
//!
//! A client that does not keep its word is not believed again until it comes.

use super::ahead::Plan;
use super::ids::{ClientId, ModelId, Time};
use super::rhythm::Window;
use super::scheduler::Scheduler;
use std::time::Duration;

/// The adapter is ready so much before the announced time, and waits for so much longer, or for this
/// share of the time.
const EARLY: Duration = Duration::from_millis(500);
const LATE_MIN: Duration = Duration::from_secs(15);
const LATE_SHARE: u32 = 10;
/// Announcements in a row that a client did not meet, after which its next ones are ignored.
pub(super) const UNMET_MAX: u8 = 3;

impl Scheduler {
    /// A client says that it will ask for a model in so long.
    pub(super) fn announced(
        &mut self,
        now: Time,
        (model, client): (ModelId, ClientId),
        within: Duration,
    ) {
        if !self.looks_ahead() || !self.models.contains_key(&model) {
            return;
        }
        let Some(late) = self.ahead.believed(model, client) else { return };
        let Some((adapter, _, start)) = self.watch_for(now, model, late.max(1.0)) else { return };
        let at = now + within;
        let window = Window {
            from: Time(at.0.saturating_sub(EARLY)).max(now),
            until: at + LATE_MIN.max(within / LATE_SHARE),
        };
        let start_at = Some(super::ahead::start_at(now, window, start));
        let plan = Plan { window, adapter, model, start_at, announced: true };
        self.ahead.plan(now, (model, client), plan);
        self.look_ahead(now);
    }
}
