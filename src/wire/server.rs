//! The server's end: asynchronous, one reader and one writer per worker.

use super::frame::{Assembler, Header, PREFIX, Pieces, Prefix, Whole, WireError, encode};
use super::message::{Down, Up};
use bytes::Bytes;
use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, prelude::*};
use std::io::ErrorKind;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// Waits for one worker. Dropping it removes the socket.
pub struct Door {
    listener: Listener,
}

impl Door {
    /// Opens a socket of this name.
    pub fn open(socket: &Path) -> Result<Door, WireError> {
        let name = socket.to_fs_name::<GenericFilePath>()?;
        Ok(Door { listener: ListenerOptions::new().name(name).create_tokio()? })
    }

    /// Takes the next connection of the process `pid`; others are dropped.
    pub async fn accept(&self, pid: u32) -> Result<(Receiver, Sender), WireError> {
        loop {
            let stream = self.listener.accept().await?;
            if peer_is(&stream, pid) {
                return Ok(halves(stream));
            }
            tracing::warn!(pid, "a process other than the worker connected to its socket");
        }
    }
}

/// Whether the other side is this process. Where the platform does not tell, the token decides.
fn peer_is(stream: &Stream, pid: u32) -> bool {
    let Ok(credentials) = stream.peer_creds() else { return true };
    credentials.pid().is_none_or(|peer| u32::try_from(peer) == Ok(pid))
}

fn halves(stream: Stream) -> (Receiver, Sender) {
    let (reader, writer) = tokio::io::split(stream);
    let reader = BufReader::with_capacity(64 * 1024, reader);
    let receiver = Receiver { reader, assembler: Assembler::new(), buffer: Vec::new() };
    (receiver, Sender { writer, buffer: Vec::new() })
}

/// What comes from the worker.
pub struct Receiver {
    reader: BufReader<ReadHalf<Stream>>,
    assembler: Assembler<Up>,
    buffer: Vec<u8>,
}

impl Receiver {
    /// Waits for the next whole message. A future dropped halfway leaves the link unusable.
    ///
    /// # Errors
    /// [`WireError::Closed`] once the worker is gone.
    pub async fn receive(&mut self) -> Result<Whole<Up>, WireError> {
        loop {
            let mut prefix = [0; PREFIX];
            self.reader.read_exact(&mut prefix).await.map_err(closed)?;
            let prefix = Prefix::parse(&prefix)?;
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

/// A message to send, with the bytes of the tensors that it declares, in parts.
pub struct Outgoing {
    pub message: Down,
    pub body: Vec<Bytes>,
}

/// What goes to the worker.
pub struct Sender {
    writer: WriteHalf<Stream>,
    buffer: Vec<u8>,
}

impl Sender {
    /// Sends until both channels are closed. Messages in `control` carry no tensors and go first,
    /// between the pieces of a large one too.
    pub async fn run(
        mut self,
        mut control: mpsc::Receiver<Down>,
        mut batches: mpsc::Receiver<Outgoing>,
    ) -> Result<(), WireError> {
        loop {
            tokio::select! { biased;
                Some(message) = control.recv() => self.frame(&Header::Message(message), &[]).await?,
                Some(outgoing) = batches.recv() => self.batch(outgoing, &mut control).await?,
                else => return Ok(()),
            }
        }
    }

    async fn batch(
        &mut self,
        outgoing: Outgoing,
        control: &mut mpsc::Receiver<Down>,
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

    async fn frame(&mut self, header: &Header<Down>, payload: &[Bytes]) -> Result<(), WireError> {
        encode(&mut self.buffer, header, payload)?;
        self.writer.write_all(&self.buffer).await.map_err(closed)
    }
}
