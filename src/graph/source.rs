//! Files that are read piece by piece: weights are in memory once, each in a piece of its own.

use crate::error::{OnnxError, Result};
use bytes::{Buf, Bytes};
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// Bytes that are read at once between large pieces.
const BUFFER: u64 = 1 << 16;

/// A reader with random access.
trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A file, read from its beginning.
pub struct FileSource {
    content: Box<dyn ReadSeek>,
    length: u64,
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}

impl From<Bytes> for FileSource {
    fn from(data: Bytes) -> FileSource {
        let length = data.len() as u64;
        FileSource { content: Box::new(Cursor::new(data)), length }
    }
}

impl FileSource {
    /// # Errors
    /// If the length of the file cannot be determined.
    pub fn of(file: File) -> io::Result<FileSource> {
        let length = file.metadata()?.len();
        Ok(FileSource { content: Box::new(file), length })
    }

    /// A part of the file: up to its end if no length is given.
    ///
    /// # Errors
    /// If the file has no such part, or it cannot be read.
    pub(crate) fn part(mut self, offset: u64, length: Option<u64>) -> Result<Bytes> {
        let length = length.unwrap_or(self.length.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(OnnxError::invalid(format!(
                "has {} bytes, not {length} at {offset}",
                self.length
            )));
        }
        let read = self.content.seek(SeekFrom::Start(offset));
        let read = read.and_then(|_| piece(&mut self.content, length));
        read.map_err(|error| failed(&error, error.to_string()))
    }

    /// The file as a buffer for protobuf. `leaves_large`: large pieces are skipped, as if they were
    /// empty.
    pub(crate) fn stream(self, leaves_large: bool) -> Stream {
        let mut stream = Stream {
            content: self.content,
            left: self.length,
            buffer: Bytes::new(),
            leaves_large,
            failed: None,
        };
        stream.fill();
        stream
    }
}

/// An error of reading: of the machine (disk, memory), except for a file that ends too early, which
/// is invalid itself.
fn failed(error: &io::Error, text: String) -> OnnxError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => OnnxError::invalid(text),
        _ => OnnxError::machine(text),
    }
}

/// A piece in memory of its own.
fn piece(content: &mut impl Read, length: u64) -> io::Result<Bytes> {
    let size = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut data = Vec::new();
    data.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    content.take(length).read_to_end(&mut data)?;
    if data.len() < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(data.into())
}

/// A file as a buffer for the parser. Its interface has no read errors: see [`Stream::end`].
pub(crate) struct Stream {
    content: Box<dyn ReadSeek>,
    /// Bytes of the file that are not read yet.
    left: u64,
    buffer: Bytes,
    leaves_large: bool,
    failed: Option<io::Error>,
}

impl Stream {
    fn fill(&mut self) {
        if self.buffer.is_empty() && self.left > 0 {
            self.buffer = self.read(self.left.min(BUFFER));
        }
    }

    fn read(&mut self, length: u64) -> Bytes {
        self.left -= length;
        piece(&mut self.content, length).unwrap_or_else(|error| self.fail(error))
    }

    fn pass_over(&mut self, length: u64) -> io::Result<()> {
        self.content.seek_relative(i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?)
    }

    /// Notes the error and reports the end of the data, so that the parser ends soon.
    fn fail(&mut self, error: io::Error) -> Bytes {
        self.failed.get_or_insert(error);
        self.left = 0;
        Bytes::new()
    }

    /// # Errors
    /// The error that occurred while the file was read.
    pub(crate) fn end(self) -> Result<()> {
        let text = |error: &io::Error| format!("cannot be read: {error}");
        self.failed.map_or(Ok(()), |error| Err(failed(&error, text(&error))))
    }
}

impl Buf for Stream {
    fn remaining(&self) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        left.saturating_add(self.buffer.len())
    }

    fn chunk(&self) -> &[u8] {
        &self.buffer
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 && !self.buffer.is_empty() {
            let step = count.min(self.buffer.len());
            self.buffer.advance(step);
            count -= step;
            self.fill();
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let begin = self.buffer.split_to(length.min(self.buffer.len()));
        let rest = (length - begin.len()) as u64;
        let bytes = if rest == 0 {
            // A copy, since a slice would keep the whole buffer in memory.
            Ok(Bytes::copy_from_slice(&begin))
        } else {
            self.left = self.left.saturating_sub(rest);
            match self.leaves_large {
                true => self.pass_over(rest).map(|()| Bytes::new()),
                false => piece(&mut begin.reader().chain(&mut self.content), length as u64),
            }
        };
        let bytes = bytes.unwrap_or_else(|error| self.fail(error));
        self.fill();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FailureKind;

    fn numbers(length: usize) -> Bytes {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn stream_gives_the_bytes_of_the_file() {
        for (length, step) in [(0, 1), (5, 2), (200_000, 7), (200_000, 70_000), (200_000, 200_000)]
        {
            let data = numbers(length);
            let mut stream = FileSource::from(data.clone()).stream(false);
            let mut found = Vec::new();
            while stream.has_remaining() {
                let next = step.min(stream.remaining());
                match found.len() % 2 {
                    0 => found.extend_from_slice(&stream.copy_to_bytes(next)),
                    _ => {
                        found.push(stream.get_u8());
                    }
                }
            }
            assert_eq!(found, data, "{length} by {step}");
            stream.end().unwrap();
        }
    }

    #[test]
    fn large_pieces_can_be_skipped() {
        let mut stream = FileSource::from(numbers(300_000)).stream(true);
        assert_eq!(stream.get_u8(), 0);
        assert!(stream.copy_to_bytes(250_000).is_empty());
        assert_eq!(stream.get_u8(), (250_001 % 251) as u8);
        assert_eq!(stream.remaining(), 300_000 - 250_002);
        stream.end().unwrap();
    }

    #[test]
    fn parts_must_be_inside_the_file() {
        let source = || FileSource::from(numbers(10));
        assert_eq!(source().part(2, Some(3)).unwrap()[..], [2, 3, 4]);
        assert_eq!(source().part(8, None).unwrap()[..], [8, 9]);
        for (offset, length) in [(8, Some(3)), (u64::MAX, Some(1)), (11, Some(0))] {
            assert!(
                source().part(offset, length).unwrap_err().to_string().contains("has 10 bytes")
            );
        }
    }

    /// A file that becomes shorter while it is read.
    #[test]
    fn truncated_file_is_reported_at_the_end() {
        let content = Box::new(Cursor::new(numbers(100_000)));
        let source = FileSource { content, length: 200_000 };
        let mut stream = source.stream(false);
        while stream.has_remaining() {
            stream.advance(stream.remaining().min(50_000));
        }
        let error = stream.end().unwrap_err();
        assert!(error.to_string().contains("cannot be read"));
        assert_eq!(error.kind, FailureKind::Invalid, "the file is wrong, not the machine");
    }

    /// A disk that fails after its first bytes.
    struct Failing(Cursor<Bytes>);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.position() > 0 {
                return Err(io::Error::other("input/output error"));
            }
            self.0.read(buffer)
        }
    }

    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn disk_error_is_an_error_of_the_machine() {
        let source = || {
            let content = Box::new(Failing(Cursor::new(numbers(100_000))));
            FileSource { content, length: 100_000 }
        };
        let mut read = source().stream(false);
        read.advance(read.remaining());
        assert_eq!(read.end().unwrap_err().kind, FailureKind::Machine);
        assert_eq!(source().part(1, Some(5)).unwrap_err().kind, FailureKind::Machine);
    }
}
