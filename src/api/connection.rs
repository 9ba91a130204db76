//! A client's socket with two manners that hyper lacks: it gives up on a client that does not
//! read, and it lets a client that is still sending read the answer before the socket closes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// After our last byte, what the client still sends is read and dropped for so long. Closing
/// with unread data would reset the connection, and the client might never see its 413.
const LINGER: Duration = Duration::from_secs(2);

/// What is dropped while lingering is read in pieces of this size.
const SCRATCH_BYTES: usize = 16 * 1024;

/// Whether the client is still sending a body that will not be read: set by who answers it, read
/// by the connection, which then lingers. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// See the module's sentence.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: Unread,
    write_timeout: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs once something was dropped after our last byte.
    lingering: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration) -> Connection {
        // Without it small answers wait for the client's acknowledgement; failing is harmless.
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

    /// Waits for the client's first byte and leaves it unread; `None` if there will be none.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let there = self.stream.peek(&mut first).await?;
        let [byte] = first;
        Ok((there > 0).then_some(byte))
    }

    /// Passes a write on; one that waits for longer than the timeout is an error.
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
        // A client that is not sending anything needs no lingering.
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
