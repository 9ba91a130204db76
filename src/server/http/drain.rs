//! Bodies that a handler did not read to the end, such as those of rejected requests.
//!
//! The rest of such a body precedes the next request on the connection. It is read and dropped
//! before the answer is sent: clients that write the whole body before they read then receive the
//! answer, and the connection can carry another request. A body that is too long or too slow ends
//! the connection, with `Connection: close` and a lingering close (see `connection.rs`).

use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Limits for reading a body that keeps its connection open.
#[derive(Clone, Copy, Debug)]
struct DrainBounds {
    pub bytes: u64,
    time: Duration,
    /// Maximum time without a byte, since some clients stop sending until they are answered.
    pause: Duration,
}

const BOUNDS: DrainBounds = DrainBounds {
    bytes: 16 * 1024 * 1024,
    time: Duration::from_secs(5),
    pause: Duration::from_secs(1),
};

/// A request's body. If it is dropped before its end, it passes to its [`BodyRest`].
#[derive(Debug)]
pub(crate) struct Lent<B> {
    /// `None` after its end.
    body: Option<B>,
    is_begun: bool,
    rest: BodyRest<B>,
}

/// The rest of a body that a handler did not read to its end.
#[derive(Debug)]
pub(crate) struct BodyRest<B>(Arc<Mutex<Option<UnreadBody<B>>>>);

#[derive(Debug)]
struct UnreadBody<B> {
    /// `None` after an error, after which nothing can be read.
    body: Option<B>,
    is_begun: bool,
}

impl<B> Clone for BodyRest<B> {
    fn clone(&self) -> BodyRest<B> {
        BodyRest(self.0.clone())
    }
}

impl<B: Body> Lent<B> {
    /// Returns the body for a handler, and its rest after the handler.
    pub(crate) fn new(body: B) -> (Lent<B>, BodyRest<B>) {
        let rest = BodyRest(Arc::default());
        let body = Some(body).filter(|body| !body.is_end_stream());
        (Lent { body, is_begun: false, rest: rest.clone() }, rest)
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.is_begun = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        // Nothing follows an error: hyper closes the connection.
        let is_broken = matches!(polled, Poll::Ready(Some(Err(_))));
        let has_ended =
            matches!(polled, Poll::Ready(None)) || (polled.is_ready() && body.is_end_stream());
        if is_broken {
            self.rest.keep(UnreadBody { body: None, is_begun: true });
        }
        if is_broken || has_ended {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            self.rest.keep(UnreadBody { body: Some(body), is_begun: self.is_begun });
        }
    }
}

impl<B> BodyRest<B> {
    fn keep(&self, unread: UnreadBody<B>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
    }
}

impl<B: Body + Unpin> BodyRest<B> {
    /// Returns true if the body was read to its end.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Reads and drops the rest. Returns true if it has ended, so that another request may follow.
    /// `waits` is true for a client that sends its body only after `100 Continue`.
    pub(crate) async fn drain(self, waits: bool) -> bool {
        self.drain_within(BOUNDS, waits).await
    }

    async fn drain_within(self, bounds: DrainBounds, waits: bool) -> bool {
        let unread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(UnreadBody { body, is_begun }) = unread else { return true };
        let Some(body) = body else { return false };
        // Reading would make hyper send `100 Continue`.
        if (waits && !is_begun) || body.size_hint().lower() > bounds.bytes {
            return false;
        }
        timeout(bounds.time, read_all(body, bounds)).await.unwrap_or(false)
    }
}

/// Reads and drops a body within its limits. Returns true if it has ended.
async fn read_all<B: Body + Unpin>(mut body: B, bounds: DrainBounds) -> bool {
    let mut left = bounds.bytes;
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match timeout(bounds.pause, frame).await {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) | Err(_) => return false,
        };
        let bytes = frame.data_ref().map_or(0, hyper::body::Buf::remaining);
        match left.checked_sub(bytes as u64) {
            Some(less) => left = less,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::stream::{self, Stream, StreamExt};
    use http_body_util::{BodyExt, Empty, Full, StreamBody};
    use std::convert::Infallible;

    type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

    fn frames(count: usize, bytes: usize) -> Frames {
        let piece = Bytes::from(vec![0; bytes]);
        let frame = move || Ok(Frame::data(piece.clone()));
        Box::pin(stream::repeat_with(frame).take(count))
    }

    #[tokio::test]
    async fn body_that_was_read_has_no_rest() {
        let (lent, rest) = Lent::new(Full::new(Bytes::from_static(b"abc")));
        assert_eq!(lent.collect().await.unwrap().to_bytes(), "abc");
        assert!(rest.drain(true).await);
        let (lent, rest) = Lent::new(Empty::<Bytes>::new());
        assert!(lent.is_end_stream());
        drop(lent);
        assert!(rest.drain(true).await);
    }

    #[tokio::test]
    async fn rest_of_a_body_is_read() {
        let (mut lent, rest) = Lent::new(StreamBody::new(frames(5, 1000)));
        assert!(lent.frame().await.is_some());
        drop(lent);
        // The handler began to read, so the client is sending.
        assert!(rest.drain(true).await);
        let (lent, rest) = Lent::new(StreamBody::new(frames(5, 1000)));
        drop(lent);
        assert!(rest.drain(false).await);
    }

    #[tokio::test]
    async fn body_that_waits_for_continue_is_not_read() {
        let (lent, rest) = Lent::new(StreamBody::new(frames(5, 1000)));
        drop(lent);
        assert!(!rest.drain(true).await);
    }

    #[tokio::test]
    async fn long_and_slow_bodies_end_the_connection() {
        let (time, pause) = (Duration::from_millis(600), Duration::from_millis(200));
        let bounds = DrainBounds { bytes: 10_000, time, pause };
        let drain = |frames: Frames| {
            let (lent, rest) = Lent::new(StreamBody::new(frames));
            drop(lent);
            rest.drain_within(bounds, false)
        };
        assert!(drain(frames(10, 1000)).await);
        assert!(!drain(frames(11, 1000)).await);
        let begin = types::clock::now();
        assert!(!drain(Box::pin(stream::pending())).await);
        assert!((pause..time).contains(&begin.elapsed()));
        let slow = frames(100, 1).then(|frame| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            frame
        });
        let begin = types::clock::now();
        assert!(!drain(Box::pin(slow)).await);
        assert!(begin.elapsed() >= time);
    }

    #[tokio::test]
    async fn a_body_that_breaks_ends_the_connection() {
        let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"a"))), Err("broken")]);
        let (mut lent, rest) = Lent::new(StreamBody::new(broken));
        assert!(lent.frame().await.is_some_and(|frame| frame.is_ok()));
        assert!(lent.frame().await.is_some_and(|frame| frame.is_err()));
        drop(lent);
        assert!(!rest.is_empty() && !rest.drain(false).await);
    }

    #[tokio::test]
    async fn body_with_a_too_long_declared_length_is_not_read() {
        let long = vec![0; BOUNDS.bytes as usize + 1];
        let (lent, rest) = Lent::new(Full::new(Bytes::from(long)));
        drop(lent);
        assert!(!rest.is_empty() && !rest.drain(false).await);
    }
}
