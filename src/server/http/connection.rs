//! A client's socket with two features that hyper lacks: a minimum rate of reading, below which a
//! client is disconnected since its answer occupies memory, and a lingering close, in which a
//! client that is still sending can read the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Duration of a lingering close: further data are read and dropped for this long after the last
/// byte of the answer. Closing a socket with unread data resets the connection, so that the client
/// might not receive its 413.
const LINGER: Duration = Duration::from_secs(2);

/// Minimum rate at which a client must read, in bytes per second, on average over the write
/// timeout.
const READ_RATE_MIN: u64 = 16 * 1024;

/// Size of the reads during a lingering close, in bytes.
const SCRATCH_BYTES: usize = 16 * 1024;

/// A flag for a body that the client may still be sending and that will not be read. It is set with
/// the answer, and makes the connection linger when it closes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnreadFlag(Arc<AtomicBool>);

impl UnreadFlag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client's socket with a write timeout and a lingering close.
pub(crate) struct Connection {
    stream: TcpStream,
    unread: UnreadFlag,
    write_timeout: Duration,
    /// Begins when a write waits for the client, and ends when all data have been written.
    waiting: Option<WriteWait>,
    /// Runs during a lingering close.
    lingering: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

/// A period in which writes wait for the client.
struct WriteWait {
    end: Pin<Box<Sleep>>,
    /// Bytes that the client has accepted since the period began.
    written: u64,
}

impl WriteWait {
    fn new(timeout: Duration) -> WriteWait {
        WriteWait { end: Box::pin(sleep(timeout)), written: 0 }
    }
}

/// Returns true if so few bytes were written in a period that the client must be disconnected.
fn is_too_slow(written: u64, period: Duration) -> bool {
    (written as f64) < READ_RATE_MIN as f64 * period.as_secs_f64()
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration) -> Connection {
        // Without it, small answers wait for the client's acknowledgement. A failure is harmless.
        let _ = stream.set_nodelay(true);
        let unread = UnreadFlag::default();
        Connection {
            stream,
            unread,
            write_timeout,
            waiting: None,
            lingering: None,
            finished: false,
        }
    }

    pub(crate) fn unread(&self) -> UnreadFlag {
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

    /// Returns the result of a write; a client that reads too little is an error.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let (Some(waiting), Ok(bytes)) = (&mut self.waiting, &written) {
                waiting.written += *bytes as u64;
            }
            return Poll::Ready(written);
        }
        loop {
            let timeout = self.write_timeout;
            let waiting = self.waiting.get_or_insert_with(|| WriteWait::new(timeout));
            ready!(waiting.end.as_mut().poll(cx));
            if is_too_slow(waiting.written, timeout) {
                let message = "the client reads too slowly";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
            self.waiting = None;
        }
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
        // A client that has finished sending needs no lingering close.
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
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.waiting = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.finished = true;
        }
        self.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::net::TcpListener;

    async fn connection(write_timeout: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Connection::new(stream, write_timeout), client)
    }

    /// Simulates a write of a number of bytes, or of none that must wait.
    fn watch(connection: &mut Connection, bytes: Option<usize>) -> Poll<io::Result<usize>> {
        let written = bytes.map_or(Poll::Pending, |bytes| Poll::Ready(Ok(bytes)));
        connection.watch(&mut Context::from_waker(Waker::noop()), written)
    }

    #[tokio::test]
    async fn client_that_reads_too_slowly_is_disconnected() {
        let timeout = Duration::from_millis(100);
        for (bytes, is_dropped) in [(100, true), (2 * READ_RATE_MIN as usize, false)] {
            let (mut connection, _client) = connection(timeout).await;
            assert!(watch(&mut connection, None).is_pending());
            for _ in 0..3 {
                tokio::time::sleep(timeout / 2).await;
                let _ = watch(&mut connection, Some(bytes / 20));
            }
            let waiting = watch(&mut connection, None);
            assert_eq!(waiting.is_ready(), is_dropped, "{bytes} bytes per second: {waiting:?}");
        }
    }

    #[tokio::test]
    async fn a_pause_between_answers_is_not_slow_reading() {
        let timeout = Duration::from_millis(50);
        let (mut connection, _client) = connection(timeout).await;
        assert!(watch(&mut connection, None).is_pending());
        assert!(watch(&mut connection, Some(10)).is_ready());
        std::future::poll_fn(|cx| Pin::new(&mut connection).poll_flush(cx)).await.unwrap();
        tokio::time::sleep(timeout * 2).await;
        assert!(watch(&mut connection, None).is_pending());
    }
}
