//! Server-sent events: the snapshot at once and after every change, and each new decision.
//!
//! A stream holds no queue. It looks at the newest snapshot when its client is ready for more,
//! and at most every [`SPACING`], so a slow client sees fewer snapshots instead of late ones.

use crate::api::admin::snapshot_value;
use crate::api::guard::Head;
use crate::api::respond::Outcome;
use crate::api::routes::Api;
use crate::error::Error;
use crate::telemetry::Snapshot;
use futures_util::{Stream, StreamExt, stream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use warp::Reply;
use warp::http::HeaderValue;
use warp::sse::{self, Event};

/// Snapshots of one stream are at least so far apart: often enough for an eye, and little work
/// while the server is busy.
const SPACING: Duration = Duration::from_millis(200);

/// A comment is sent after so much silence, so that a dead connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /api/events`.
pub(crate) fn events(api: &Api, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let permit = api.event_streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Error::unavailable("too many event streams are open"))?;
    let stream = Feed::new(api.engine.snapshots(), api.closing.clone(), permit).into_stream();
    let stream = sse::keep_alive().interval(KEEP_ALIVE).stream(stream);
    let mut response = sse::reply(stream).into_response();
    // Proxies that gather an answer before passing it on would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One client's view of the snapshots.
struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    closing: CancellationToken,
    /// Events of the snapshot being told; sent before the next snapshot is looked at.
    pending: VecDeque<Event>,
    /// The newest decision told, or `None` before the first snapshot.
    told: Option<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        closing: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Feed {
        Feed { snapshots, closing, pending: VecDeque::new(), told: None, _permit: permit }
    }

    fn into_stream(self) -> impl Stream<Item = Result<Event, serde_json::Error>> {
        let step = |mut feed: Feed| async move { feed.next().await.map(|event| (event, feed)) };
        stream::unfold(self, step).map(Ok)
    }

    /// The next event; `None` once the server shuts down or the engine is gone.
    async fn next(&mut self) -> Option<Event> {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.next_event()).await.flatten()
    }

    async fn next_event(&mut self) -> Option<Event> {
        while self.pending.is_empty() {
            if self.told.is_some() {
                tokio::time::sleep(SPACING).await;
                self.snapshots.changed().await.ok()?;
            }
            self.tell();
        }
        self.pending.pop_front()
    }

    /// Queues the newest snapshot, and the decisions in it that were not told yet.
    fn tell(&mut self) {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let newest = snapshot.decisions.iter().map(|decision| decision.seq).max();
        if let Some(told) = self.told {
            let new = snapshot.decisions.iter().filter(|decision| decision.seq > told);
            let event = |decision| Event::default().event("decision").json_data(decision).ok();
            self.pending.extend(new.filter_map(event));
        }
        self.told = newest.max(self.told).or(Some(0));
        let shown = snapshot_value(&snapshot).ok();
        let event =
            shown.and_then(|shown| Event::default().event("snapshot").json_data(shown).ok());
        self.pending.extend(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::DecisionView;
    use tokio::sync::Semaphore;

    fn with_decisions(seqs: impl IntoIterator<Item = u64>) -> Arc<Snapshot> {
        let decision = |seq| DecisionView {
            seq,
            at_ms: 0,
            adapter: "cpu".into(),
            change: "start".into(),
            model: None,
            reason: "backlog".into(),
            text: "line one".into(),
        };
        let decisions = seqs.into_iter().map(decision).collect();
        Arc::new(Snapshot { decisions, ..Snapshot::default() })
    }

    async fn feed(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        closing: &CancellationToken,
    ) -> std::pin::Pin<Box<dyn Stream<Item = String>>> {
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let stream = Feed::new(snapshots, closing.clone(), permit).into_stream();
        Box::pin(stream.map(|event| event.unwrap().to_string()))
    }

    #[tokio::test]
    async fn a_snapshot_at_once_then_new_decisions_with_each_change() {
        let (sender, receiver) = watch::channel(with_decisions([3, 4]));
        let closing = CancellationToken::new();
        let mut feed = feed(receiver, &closing).await;
        let first = feed.next().await.unwrap();
        assert!(first.starts_with("event:snapshot\ndata:{"), "{first}");
        // Two changes before the client looks: one snapshot, no decision lost.
        sender.send(with_decisions([3, 4, 5])).unwrap();
        sender.send(with_decisions([4, 5, 6])).unwrap();
        for seq in [5, 6] {
            let decision = feed.next().await.unwrap();
            assert!(decision.starts_with("event:decision\n"), "{decision}");
            assert!(decision.contains(&format!("\"seq\":{seq}")), "{decision}");
        }
        assert!(feed.next().await.unwrap().starts_with("event:snapshot\n"));
        closing.cancel();
        assert_eq!(feed.next().await, None);
    }

    #[tokio::test]
    async fn a_feed_ends_with_its_engine() {
        let (sender, receiver) = watch::channel(with_decisions([]));
        let mut feed = feed(receiver, &CancellationToken::new()).await;
        assert!(feed.next().await.is_some());
        drop(sender);
        assert_eq!(feed.next().await, None);
    }
}
