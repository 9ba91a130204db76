//! Answers that hyper writes by itself, to requests that it cannot parse. They have no body;
//! [`Automatic`] gives them the body of all errors.

use crate::http::access::new_id;
use crate::http::connection::UnreadFlag;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The errors of hyper as text, by their status.
const TEXTS: [(&str, &str); 3] = [
    ("400", "the request is not HTTP/1.1: its first line or one of its headers is malformed"),
    ("414", "the target of the request is too long"),
    ("431", "the headers of the request are too large (limits.header_bytes) or more than 100"),
];

/// A connection that adds a body to automatic answers.
pub(crate) struct Automatic<I> {
    inner: I,
    /// Set with such an answer, since the rest of the client's data is not read.
    unread: UnreadFlag,
    /// The answer in place of hyper's, and the number of its bytes that have been written.
    answer: Option<(Vec<u8>, usize)>,
}

impl<I> Automatic<I> {
    pub(crate) fn new(inner: I, unread: UnreadFlag) -> Automatic<I> {
        Automatic { inner, unread, answer: None }
    }
}

impl<I: AsyncWrite + Unpin> Automatic<I> {
    /// Writes the answer in place of `data` if that is an automatic one; `None` if it is not.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.answer.is_none() {
            self.answer = Some((with_body(data)?, 0));
            self.unread.set();
        }
        Some(self.poll_write_answer(cx).map_ok(|()| data.len()))
    }

    fn poll_write_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, written)) = &mut self.answer {
            let rest = answer.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.answer = None;
                break;
            }
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the answer with a body if `data` is exactly an automatic one. Every other answer of the
/// server has a request id.
fn with_body(data: &[u8]) -> Option<Vec<u8>> {
    let head = str::from_utf8(data.strip_suffix(b"\r\n\r\n")?).ok()?;
    let mut lines = head.split("\r\n");
    let first = lines.next().filter(|line| line.starts_with("HTTP/1."))?;
    let status = first.split(' ').nth(1)?;
    let (_, text) = TEXTS.iter().find(|(known, _)| *known == status)?;
    let (mut date, mut is_empty) = ("", false);
    for line in lines {
        match line.split_once(':')?.0 {
            "connection" => {}
            "content-length" => is_empty = line == "content-length: 0",
            "date" => date = line,
            _ => return None,
        }
    }
    let body = serde_json::json!({ "error": text }).to_string();
    let length = body.len();
    let id = new_id();
    let id = id.to_str().unwrap_or_default();
    let date = if date.is_empty() { String::new() } else { format!("{date}\r\n") };
    let answer = format!(
        "{first}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nx-request-id: {id}\r\nconnection: close\r\n\
         content-length: {length}\r\n{date}\r\n{body}"
    );
    is_empty.then_some(answer.into_bytes())
}

impl<I: AsyncRead + Unpin> AsyncRead for Automatic<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Automatic<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_answer(cx, data) {
            Some(polled) => polled,
            None => Pin::new(&mut self.inner).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = data.iter().filter(|part| !part.is_empty());
        if let (Some(only), None) = (parts.next(), parts.next())
            && let Some(polled) = self.poll_answer(cx, only)
        {
            return polled;
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_answers_get_the_body_of_errors() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                     content-length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let answer = String::from_utf8(with_body(bare).unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains("\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT"), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].as_str().unwrap().contains("limits.header_bytes"));
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        for other in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-request-id: a\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "",
        ] {
            assert!(with_body(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[tokio::test]
    async fn answer_is_written_through_a_narrow_connection() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut client, server) = tokio::io::duplex(7);
        let mut server = Automatic::new(server, UnreadFlag::default());
        let writing = tokio::spawn(async move {
            let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            server.write_all(bare).await.unwrap();
            server.shutdown().await.unwrap();
        });
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got.ends_with("malformed\"}"), "{got}");
    }
}
