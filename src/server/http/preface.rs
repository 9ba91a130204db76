//! HTTP/2 without TLS begins with a preface (RFC 9113, section 3.4), which is not an HTTP/1.1
//! request. hyper closes the connection without an answer, so [`Http1`] answers 505 before that.

use crate::http::connection::UnreadFlag;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: application/json\r\ncontent-length: 62\r\nconnection: close\r\n\r\n\
    {\"error\":\"HTTP/2 is not supported: send requests in HTTP/1.1\"}";

/// A connection that is not yet known to be HTTP/1.1.
pub(crate) struct Http1<I> {
    inner: I,
    /// Set when the preface was read, since the frames after it are not read.
    unread: UnreadFlag,
    state: PrefaceState,
}

enum PrefaceState {
    /// No data have been read.
    New,
    Http1,
    /// The preface was read; the number of bytes of the answer that have been written.
    Http2(usize),
}

impl<I> Http1<I> {
    pub(crate) fn new(inner: I, unread: UnreadFlag) -> Http1<I> {
        Http1 { inner, unread, state: PrefaceState::New }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Http1<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if matches!(self.state, PrefaceState::Http2(_)) {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if matches!(self.state, PrefaceState::New) && !read.is_empty() {
            let is_preface = read.starts_with(PREFACE);
            self.state = if is_preface { PrefaceState::Http2(0) } else { PrefaceState::Http1 };
            if is_preface {
                // hyper treats this as the end of the connection, and shuts down.
                buffer.set_filled(before);
                self.unread.set();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Http1<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let PrefaceState::Http2(written) = self.state
            && let Some(rest) = ANSWER.get(written..).filter(|rest| !rest.is_empty())
        {
            let more = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if more == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.state = PrefaceState::Http2(written + more);
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_the_length_of_the_body() {
        let answer = str::from_utf8(ANSWER).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].is_string());
    }
}
