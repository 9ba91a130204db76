//! A byte buffer that grows, and that charges its memory before it is allocated.

use bytes::Bytes;
use engine::{Full, HeldMemory};
use std::io::{self, Write};

/// Minimum capacity that is allocated, in bytes.
const CAPACITY_MIN: usize = 1024;

/// Minimum size of an allocation that an allocator requests directly from the system, in bytes
/// (jemalloc's `oversize_threshold`): its pages are not resident before bytes are written to them.
const FRESH_BYTES_MIN: usize = 8 << 20;

/// A growing buffer and the charge of its memory.
#[derive(Debug)]
pub(crate) struct Growing {
    data: Vec<u8>,
    held: HeldMemory,
    /// The declared number of bytes; 0 if there is none.
    declared: usize,
    /// The reason why the last write failed.
    full: Option<Full>,
}

impl Growing {
    /// Creates an empty buffer; `held` is a charge of no bytes.
    pub(crate) fn new(held: HeldMemory) -> Growing {
        Growing { data: Vec::new(), held, declared: 0, full: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Returns a charge for bytes in addition to these.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<HeldMemory, Full> {
        self.held.grow(bytes)?;
        Ok(self.held.split(bytes))
    }

    /// Records a declared number of bytes: the capacity does not exceed it, and is allocated at
    /// once if that takes no memory before the bytes arrive.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.declared = bytes;
    }

    /// Charges and allocates memory for more bytes.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        let needed = self.data.len().saturating_add(bytes);
        if needed <= self.data.capacity() {
            return self.held.grow(needed.saturating_sub(self.held.bytes()));
        }
        // Old and new memory exist together while the bytes are copied.
        let before = self.held.bytes();
        self.held.grow(needed)?;
        if self.data.try_reserve_exact(needed - self.data.len()).is_err() {
            self.held.shrink_to(before);
            return Err(Full::Now);
        }
        self.held.shrink_to(self.data.capacity());
        Ok(())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let (length, capacity) = (self.data.len(), self.data.capacity());
        if bytes.len() <= capacity - length {
            self.reserve(bytes.len())?;
        } else {
            self.extend(bytes.len())?;
        }
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    /// Allocates more capacity than is needed now, so that bytes are rarely copied.
    fn extend(&mut self, bytes: usize) -> Result<(), Full> {
        let (length, double) = (self.data.len(), self.data.capacity().max(CAPACITY_MIN / 2) * 2);
        let needed = length.saturating_add(bytes);
        if self.declared < needed {
            let more = bytes.max(double - length);
            return self.reserve(more).or_else(|_| self.reserve(bytes));
        }
        if needed < FRESH_BYTES_MIN {
            let double = double.min(self.declared).min(FRESH_BYTES_MIN);
            let more = bytes.max(double - length);
            return self.reserve(more).or_else(|_| self.reserve(bytes));
        }
        let before = self.held.bytes();
        self.held.grow(needed)?;
        if self.data.try_reserve_exact(self.declared - length).is_err() {
            self.held.shrink_to(before);
            return Err(Full::Now);
        }
        self.held.shrink_to(needed);
        Ok(())
    }

    /// Returns the first `N` bytes, to be overwritten.
    pub(crate) fn first_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.data.first_chunk_mut()
    }

    /// Returns the reason why a write failed, if memory was the reason.
    pub(crate) fn full(&self) -> Option<Full> {
        self.full
    }

    /// Returns the bytes with their charge.
    pub(crate) fn finish(mut self) -> Bytes {
        // If much memory is unused, the bytes are copied to release it.
        if self.data.len() < self.data.capacity() / 2 {
            self.data.shrink_to_fit();
        }
        self.held.shrink_to(self.data.capacity().min(self.held.bytes()));
        self.held.wrap(self.data)
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(|full| {
            self.full = Some(full);
            io::Error::from(io::ErrorKind::OutOfMemory)
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Memory;

    #[test]
    fn memory_is_charged_before_it_is_allocated() {
        let memory = Memory::new(15_000);
        let mut growing = Growing::new(memory.of(1).request());
        for length in 1..=5_000 {
            growing.push(b"x").unwrap();
            assert_eq!(growing.len(), length);
            assert_eq!(memory.used(), growing.data.capacity());
        }
        // A copy would need the old and the new memory.
        assert_eq!(growing.push(&[0; 4_000]), Err(Full::Never(15_000)));
        assert_eq!((growing.len(), memory.used()), (5_000, growing.data.capacity()));
        let bytes = growing.finish();
        assert!(bytes.iter().all(|byte| *byte == b'x') && memory.used() >= 5_000);
        drop(bytes);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn declared_bytes_are_charged_as_they_arrive() {
        let memory = Memory::new(64 << 20);
        let mut growing = Growing::new(memory.of(1).request());
        growing.expect(60 << 20);
        assert_eq!(memory.used(), 0);
        for _ in 0..100 {
            growing.push(&[0; 100_000]).unwrap();
            let length = growing.len();
            assert!((length..=2 * length).contains(&memory.used()), "{length} {}", memory.used());
        }
        assert!(memory.used() == growing.len() && growing.data.capacity() == 60 << 20);
        growing.push(&[0; 50 << 20]).unwrap();
        assert_eq!((memory.used(), growing.data.capacity()), (growing.len(), 60 << 20));
    }

    #[test]
    fn capacity_does_not_exceed_the_declared_length() {
        let memory = Memory::new(1 << 20);
        let mut growing = Growing::new(memory.of(1).request());
        growing.expect(5_000);
        for _ in 0..50 {
            growing.push(&[0; 100]).unwrap();
        }
        assert_eq!((growing.data.capacity(), memory.used()), (5_000, 5_000));
        growing.push(&[0; 100]).unwrap();
        assert!(growing.data.capacity() > 5_000);
    }

    #[test]
    fn short_data_in_a_large_buffer_are_copied() {
        let memory = Memory::new(10_000);
        let mut growing = Growing::new(memory.of(1).request());
        growing.reserve(9_000).unwrap();
        growing.write_all(b"abc").unwrap();
        assert!(memory.used() >= 9_000 && growing.full().is_none());
        let bytes = growing.finish();
        assert!(memory.used() < 100, "{}", memory.used());
        drop(bytes);
        let mut growing = Growing::new(memory.of(1).request());
        assert!(growing.write_all(&[0; 10_001]).is_err());
        assert_eq!(growing.full(), Some(Full::Never(10_000)));
    }
}
