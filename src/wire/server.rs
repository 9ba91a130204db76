//! The server's end of the link: asynchronous, with one reader and one writer per worker.

use super::endpoint::Endpoint;
use super::frame::{
    Assembler, CompleteMessage, FrameLengths, Header, PREFIX, Pieces, WireError, encode,
};
use super::message::{FromWorker, ToWorker};
use bytes::Bytes;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{self, GenericFilePath, ListenerOptions, prelude::*};
use std::io::ErrorKind;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4;

/// A listener for one worker. Dropping it closes the endpoint.
pub struct Listener {
    socket: Socket,
}

enum Socket {
    Local(local_socket::tokio::Listener),
    Tcp(TcpListener),
}

type Incoming = Box<dyn AsyncRead + Send + Unpin>;
type Outward = Box<dyn AsyncWrite + Send + Unpin>;

impl Listener {
    /// Listens at this endpoint.
    ///
    /// # Errors
    /// If the system cannot open it.
    pub fn open(endpoint: &Endpoint) -> Result<Listener, WireError> {
        let socket = match endpoint {
            Endpoint::Local(socket) => {
                let name = socket.as_path().to_fs_name::<GenericFilePath>()?;
                Socket::Local(ListenerOptions::new().name(name).create_tokio()?)
            }
            Endpoint::Tcp(address) => {
                let socket =
                    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                // The connection of the previous worker may still be in TIME_WAIT.
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                Socket::Tcp(socket.listen(BACKLOG)?)
            }
        };
        Ok(Listener { socket })
    }

    /// Accepts the next connection. At a local socket, connections of processes other than `pid`
    /// are dropped; at others, the token of the first message authenticates the worker.
    ///
    /// # Errors
    /// If the system accepts no connection.
    pub async fn accept(&self, pid: u32) -> Result<(ServerReceiver, ServerSender), WireError> {
        match &self.socket {
            Socket::Local(listener) => loop {
                let stream = listener.accept().await?;
                if peer_is(&stream, pid) {
                    let (reader, writer) = tokio::io::split(stream);
                    return Ok(halves(Box::new(reader), Box::new(writer)));
                }
                tracing::warn!(pid, "a process other than the worker connected to its socket");
            },
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Messages must not wait for others (Nagle's algorithm).
                stream.set_nodelay(true)?;
                let (reader, writer) = stream.into_split();
                Ok(halves(Box::new(reader), Box::new(writer)))
            }
        }
    }
}

/// True if the peer is this process, or if the platform does not report it; the token decides then.
fn peer_is(stream: &local_socket::tokio::Stream, pid: u32) -> bool {
    let Ok(credentials) = stream.peer_creds() else { return true };
    credentials.pid().is_none_or(|peer| u32::try_from(peer) == Ok(pid))
}

fn halves(reader: Incoming, writer: Outward) -> (ServerReceiver, ServerSender) {
    let reader = BufReader::with_capacity(64 * 1024, reader);
    let receiver = ServerReceiver { reader, assembler: Assembler::new(), buffer: Vec::new() };
    (receiver, ServerSender { writer, buffer: Vec::new() })
}

/// The server's receiving half of the link.
pub struct ServerReceiver {
    reader: BufReader<Incoming>,
    assembler: Assembler<FromWorker>,
    buffer: Vec<u8>,
}

impl ServerReceiver {
    /// Waits for the next whole message. A future dropped halfway leaves the link unusable.
    ///
    /// # Errors
    /// [`WireError::Closed`] once the worker has closed the link.
    pub async fn receive(&mut self) -> Result<CompleteMessage<FromWorker>, WireError> {
        loop {
            let mut prefix = [0; PREFIX];
            self.reader.read_exact(&mut prefix).await.map_err(closed)?;
            let prefix = FrameLengths::parse(&prefix)?;
            self.buffer.resize(prefix.header + prefix.payload, 0);
            self.reader.read_exact(&mut self.buffer).await.map_err(closed)?;
            let (header, payload) = self.buffer.split_at(prefix.header);
            if let Some(whole) = self.assembler.push(header, payload)? {
                return Ok(whole);
            }
        }
    }
}

fn closed(error: std::io::Error) -> WireError {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            WireError::Closed
        }
        _ => WireError::Io(error),
    }
}

/// A message to send, with the bytes that it declares, in parts.
pub struct Outgoing {
    pub message: ToWorker,
    pub body: Vec<Bytes>,
}

/// The server's sending half of the link.
pub struct ServerSender {
    writer: Outward,
    buffer: Vec<u8>,
}

impl ServerSender {
    /// Sends until all channels are closed. Messages in `control` carry no tensors and have
    /// precedence, also between the pieces of a large message; those in `files` are sent last.
    pub async fn run(
        mut self,
        mut control: mpsc::Receiver<ToWorker>,
        mut batches: mpsc::Receiver<Outgoing>,
        mut files: mpsc::Receiver<Outgoing>,
    ) -> Result<(), WireError> {
        loop {
            tokio::select! { biased;
                Some(message) = control.recv() => self.frame(&Header::Message(message), &[]).await?,
                Some(outgoing) = batches.recv() => self.with_body(outgoing, &mut control).await?,
                Some(outgoing) = files.recv() => self.with_body(outgoing, &mut control).await?,
                else => return Ok(()),
            }
        }
    }

    async fn with_body(
        &mut self,
        outgoing: Outgoing,
        control: &mut mpsc::Receiver<ToWorker>,
    ) -> Result<(), WireError> {
        let mut pieces = Pieces::new(outgoing.body);
        self.frame(&Header::Message(outgoing.message), &pieces.next()).await?;
        while !pieces.is_empty() {
            while let Ok(message) = control.try_recv() {
                self.frame(&Header::Message(message), &[]).await?;
            }
            self.frame(&Header::Piece, &pieces.next()).await?;
        }
        Ok(())
    }

    async fn frame(
        &mut self,
        header: &Header<ToWorker>,
        payload: &[Bytes],
    ) -> Result<(), WireError> {
        encode(&mut self.buffer, header, payload)?;
        self.writer.write_all(&self.buffer).await.map_err(closed)
    }
}
