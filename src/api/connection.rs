//! A client's socket with two features that hyper lacks: a timeout of writes to a client that does
//! not read, and a lingering close, in which a client that is still sending can read the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Time of a lingering close: further data are read and dropped for this long after the last byte
/// of the answer. Closing a socket with unread data resets the connection, so that the client might
/// not receive its 413.
const LINGER: Duration = Duration::from_secs(2);

/// Size of the reads during a lingering close, in bytes.
const SCRATCH_BYTES: usize = 16 * 1024;

/// A flag for a body that the client may still be sending and that will not be read. It is set with
/// the answer, and makes the connection linger when it closes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client's socket with a write timeout and a lingering close.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Unread,
    write_timeout: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs during a lingering close.
    lingering: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration) -> Connection {
        // Without it small answers wait for the client's acknowledgement. A failure is harmless.
        let _ = stream.set_nodelay(true);
        let unread = Unread::default();
        Connection {
            stream,
            unread,
            write_timeout,
            stalled: None,
            lingering: None,
            finished: false,
        }
    }

    pub(crate) fn unread(&self) -> Unread {
        self.unread.clone()
    }

    /// Waits for the client's first byte and leaves it unread; `None` if the client sends none.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let there = self.stream.peek(&mut first).await?;
        let [byte] = first;
        Ok((there > 0).then_some(byte))
    }

    /// Returns the result of a write; a write that waits for longer than the timeout is an error.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    fn linger(&mut self) {
        self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; SCRATCH_BYTES];
        if self.unread.0.load(Ordering::Relaxed) {
            self.linger();
        }
        loop {
            let mut dropped = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut dropped) {
                Poll::Ready(Ok(())) if !dropped.filled().is_empty() => {
                    self.linger();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        // A client that sends nothing more needs no lingering close.
        self.lingering.as_mut().map_or(Poll::Ready(()), |timer| timer.as_mut().poll(cx))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.finished = true;
        }
        self.poll_linger(cx).map(Ok)
    }
}
