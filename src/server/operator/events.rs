//! Server-sent events: the snapshot at once and after every change, and each new decision.
//!
//! A stream has no queue. It reads the newest snapshot when its client is ready for more, at most
//! every [`SPACING`], so that a slow client receives fewer snapshots instead of late ones. All
//! streams share one rendering of a snapshot.

use crate::context::ApiState;
use crate::http::guard::Head;
use crate::http::respond::Outcome;
use crate::operator::load::LoadGenerator;
use crate::operator::rendered::{RenderedSnapshot, whole};
use futures_util::{Stream, StreamExt, stream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Snapshot;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use types::error::Error;
use warp::Reply;
use warp::http::HeaderValue;
use warp::sse::{self, Event};

/// Minimum time between two snapshots of one stream: frequent enough for a viewer, and little work
/// while the server is busy.
const SPACING: Duration = Duration::from_millis(200);

/// Idle time after which a comment is sent, so that a dead connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /api/events`.
pub(crate) fn events(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    let permit = api.event_streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Error::unavailable("too many event streams are open"))?;
    let feed = Feed {
        snapshots: api.engine.snapshots(),
        rendered: api.rendered.clone(),
        load: Some(api.load.clone()),
        closing: api.closing.clone(),
        pending: VecDeque::new(),
        sent: None,
        _permit: permit,
    };
    let stream = feed.into_stream();
    let stream = sse::keep_alive().interval(KEEP_ALIVE).stream(stream);
    let mut response = sse::reply(stream).into_response();
    // Proxies that buffer an answer before they pass it on would delay events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The state of one client's event stream.
struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    rendered: Arc<RenderedSnapshot>,
    load: Option<LoadGenerator>,
    closing: CancellationToken,
    /// Remaining events of the current snapshot; sent before the next snapshot is read.
    pending: VecDeque<Event>,
    /// Number of the newest decision that was sent, or `None` before the first snapshot.
    sent: Option<u64>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = Result<Event, serde_json::Error>> {
        let step = |mut feed: Feed| async move { feed.next().await.map(|event| (event, feed)) };
        stream::unfold(self, step).map(Ok)
    }

    /// Returns the next event; `None` after the server shuts down or the engine ends.
    async fn next(&mut self) -> Option<Event> {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.next_event()).await.flatten()
    }

    async fn next_event(&mut self) -> Option<Event> {
        while self.pending.is_empty() {
            if self.sent.is_some() {
                tokio::time::sleep(SPACING).await;
                self.snapshots.changed().await.ok()?;
            }
            self.queue_newest();
        }
        self.pending.pop_front()
    }

    /// Queues the newest snapshot, and its decisions that were not sent yet: within the first
    /// snapshot, later as separate events.
    fn queue_newest(&mut self) {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let newest = snapshot.decisions.iter().map(|decision| decision.seq).max();
        let text = match self.sent {
            None => whole(&snapshot, self.load.as_ref()).map(|value| value.to_string()),
            Some(sent) => {
                let new = snapshot.decisions.iter().filter(|decision| decision.seq > sent);
                let event = |decision| Event::default().event("decision").json_data(decision).ok();
                self.pending.extend(new.filter_map(event));
                self.rendered.of(&snapshot, self.load.as_ref()).map(|text| text.to_string())
            }
        };
        self.sent = newest.max(self.sent).or(Some(0));
        self.pending.extend(text.map(|text| Event::default().event("snapshot").data(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::DecisionView;
    use tokio::sync::Semaphore;

    fn with_decisions(seqs: impl IntoIterator<Item = u64>) -> Arc<Snapshot> {
        let decision = |seq| DecisionView {
            seq,
            at_ms: 0,
            adapter: "cpu".into(),
            change: schedule::Change::Start,
            model: None,
            reason: schedule::Reason::Ahead,
            text: "line one".into(),
        };
        let decisions = seqs.into_iter().map(decision).collect();
        Arc::new(Snapshot { decisions, ..Snapshot::default() })
    }

    async fn feed(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        closing: &CancellationToken,
    ) -> std::pin::Pin<Box<dyn Stream<Item = String>>> {
        let feed = Feed {
            snapshots,
            rendered: Arc::default(),
            load: None,
            closing: closing.clone(),
            pending: VecDeque::new(),
            sent: None,
            _permit: Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap(),
        };
        Box::pin(feed.into_stream().map(|event| event.unwrap().to_string()))
    }

    #[tokio::test]
    async fn stream_begins_with_a_snapshot_followed_by_new_decisions() {
        let (sender, receiver) = watch::channel(with_decisions([3, 4]));
        let closing = CancellationToken::new();
        let mut feed = feed(receiver, &closing).await;
        let first = feed.next().await.unwrap();
        assert!(first.starts_with("event:snapshot\ndata:{"), "{first}");
        assert_eq!(first.matches("\"seq\":").count(), 2, "{first}");
        // Two changes before the client reads: one snapshot, no decision lost.
        sender.send(with_decisions([3, 4, 5])).unwrap();
        sender.send(with_decisions([4, 5, 6])).unwrap();
        for seq in [5, 6] {
            let decision = feed.next().await.unwrap();
            assert!(decision.starts_with("event:decision\n"), "{decision}");
            assert!(decision.contains(&format!("\"seq\":{seq}")), "{decision}");
        }
        let second = feed.next().await.unwrap();
        assert!(second.starts_with("event:snapshot\n"), "{second}");
        assert!(!second.contains("decisions"), "{second}");
        closing.cancel();
        assert_eq!(feed.next().await, None);
    }

    #[test]
    fn streams_share_one_rendering() {
        let (rendered, snapshot) = (RenderedSnapshot::default(), with_decisions([1]));
        let texts = [0, 1].map(|_| rendered.of(&snapshot, None).unwrap());
        assert!(Arc::ptr_eq(&texts[0], &texts[1]));
        let other = rendered.of(&with_decisions([2]), None).unwrap();
        assert!(!Arc::ptr_eq(&other, &texts[0]));
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
