//! The worker's end of the link: blocking, since a worker has two threads and no async runtime.

use super::endpoint::Endpoint;
use super::frame::{
    Assembler, CompleteMessage, FrameLengths, Header, PREFIX, Pieces, WireError, encode,
};
use super::message::{FromWorker, ToWorker};
use interprocess::local_socket::{GenericFilePath, Stream, prelude::*};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use types::tensor::Tensors;

/// Connects to the server.
///
/// # Errors
/// If nothing listens there.
pub fn connect(endpoint: &Endpoint) -> Result<(WorkerReceiver, WorkerSender), WireError> {
    match endpoint {
        Endpoint::Local(socket) => {
            let name = socket.as_path().to_fs_name::<GenericFilePath>()?;
            let stream = Arc::new(Stream::connect(name)?);
            Ok(halves(Box::new(Half(stream.clone())), Box::new(Half(stream))))
        }
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(halves(Box::new(stream.try_clone()?), Box::new(stream)))
        }
    }
}

fn halves(
    reader: Box<dyn Read + Send>,
    stream: Box<dyn Write + Send>,
) -> (WorkerReceiver, WorkerSender) {
    let reader = BufReader::with_capacity(64 * 1024, reader);
    let receiver = WorkerReceiver { reader, assembler: Assembler::new(), buffer: Vec::new() };
    (receiver, WorkerSender { writer: Arc::new(Mutex::new(Writer { stream, buffer: Vec::new() })) })
}

/// One direction of a shared local stream.
struct Half(Arc<Stream>);

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Half {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        (&*self.0).write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        (&*self.0).flush()
    }
}

/// The worker's receiving half of the link.
pub struct WorkerReceiver {
    reader: BufReader<Box<dyn Read + Send>>,
    assembler: Assembler<ToWorker>,
    buffer: Vec<u8>,
}

impl WorkerReceiver {
    /// Waits for the next whole message.
    ///
    /// # Errors
    /// [`WireError::Closed`] once the server has closed the link.
    pub fn receive(&mut self) -> Result<CompleteMessage<ToWorker>, WireError> {
        loop {
            let mut prefix = [0; PREFIX];
            self.read(&mut prefix)?;
            let prefix = FrameLengths::parse(&prefix)?;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(prefix.header + prefix.payload, 0);
            self.read(&mut buffer)?;
            let (header, payload) = buffer.split_at(prefix.header);
            let whole = self.assembler.push(header, payload)?;
            self.buffer = buffer;
            if let Some(whole) = whole {
                return Ok(whole);
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), WireError> {
        self.reader.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => WireError::Closed,
            _ => WireError::Io(error),
        })
    }
}

struct Writer {
    stream: Box<dyn Write + Send>,
    buffer: Vec<u8>,
}

/// The worker's sending half of the link. Clones let both threads send. The lock is held for one
/// frame, so a pong waits for at most one piece of a large tensor.
#[derive(Clone)]
pub struct WorkerSender {
    writer: Arc<Mutex<Writer>>,
}

impl WorkerSender {
    /// Sends a message that carries no tensors.
    pub fn send(&self, message: FromWorker) -> Result<(), WireError> {
        self.send_frame(&Header::Message(message), &[])
    }

    /// Sends a message with the bytes of the tensors that it declares.
    pub fn send_with(&self, message: FromWorker, tensors: &Tensors) -> Result<(), WireError> {
        let parts = tensors.0.iter().map(|tensor| tensor.data.clone()).collect();
        let mut pieces = Pieces::new(parts);
        self.send_frame(&Header::Message(message), &pieces.next())?;
        while !pieces.is_empty() {
            self.send_frame(&Header::<FromWorker>::Piece, &pieces.next())?;
        }
        Ok(())
    }

    /// Sends raw bytes that need not be a frame, for injected link faults.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<(), WireError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.stream.write_all(bytes)?;
        Ok(())
    }

    fn send_frame(
        &self,
        header: &Header<FromWorker>,
        payload: &[bytes::Bytes],
    ) -> Result<(), WireError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { stream, buffer } = &mut *writer;
        encode(buffer, header, payload)?;
        stream.write_all(buffer)?;
        Ok(())
    }
}
