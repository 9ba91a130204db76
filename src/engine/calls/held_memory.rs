//! Host memory held for clients: bodies, parsed and decoded inputs, and answers until they are
//! written. One bound applies to all of it, and a part of it is reserved for clients that hold
//! little.
//!
//! Memory is charged before it is allocated. A charge can travel with its bytes
//! ([`HeldMemory::wrap`]), so that it ends when the last reference to them is dropped.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use types::error::{Error, ErrorKind};
use types::tensor::{Tensor, Tensors};

/// Number of equal parts into which the bound is divided.
const PARTS: usize = 8;
/// Maximum of parts for the requests of clients that hold more than one part.
const REQUEST_PARTS: usize = 6;
/// Maximum of parts for answers: more than for requests, so that admitted requests can be answered.
const ANSWER_PARTS: usize = 7;

/// Suggested delay before a retry if the memory is in use.
const RETRY: Duration = Duration::from_secs(1);

/// The bound on host memory, shared by all requests.
#[derive(Clone, Debug)]
pub struct Memory {
    used: Arc<Mutex<Used>>,
    max: usize,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    /// Bytes per client; clients that hold none are absent.
    clients: HashMap<u64, usize>,
}

/// The reason why a charge is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The request alone needs more than the bound, which is given in bytes.
    Never(usize),
    /// Other requests hold the memory.
    Now,
}

impl Full {
    /// The error if the body or the inputs of a request are rejected: 413 or 429.
    pub fn of_request(self) -> Error {
        match self {
            Full::Never(max) => Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the request needs more memory than the server holds for all requests, {max} \
                     bytes; send less, or raise limits.host_memory_bytes"
                ),
            ),
            Full::Now => {
                let message = "the memory for requests and answers (limits.host_memory_bytes) is \
                               in use by other requests; retry later";
                Error::new(ErrorKind::QueueFull, message).retry_after(RETRY)
            }
        }
    }

    /// The error if the answer of a request is rejected: 503.
    pub fn of_answer(self) -> Error {
        match self {
            Full::Never(max) => Error::unavailable(format!(
                "the answer needs more memory than the server holds for all requests, {max} \
                 bytes; request fewer outputs or binary data, or raise \
                 limits.host_memory_bytes"
            )),
            Full::Now => Error::unavailable(
                "the memory for requests and answers (limits.host_memory_bytes) is in use by other \
                 requests; retry later",
            )
            .retry_after(RETRY),
        }
    }
}

impl Memory {
    pub fn new(max: usize) -> Memory {
        Memory { used: Arc::default(), max }
    }

    /// The memory account of one request of a client.
    pub fn of(&self, client: u64) -> Account {
        Account { memory: self.clone(), client, own: Arc::default() }
    }

    /// Counts memory that is allocated regardless of the bound: outputs that a worker has sent.
    pub(crate) fn owe(&self, bytes: usize) -> HeldMemory {
        lock(&self.used).bytes += bytes;
        let (memory, own) = (self.clone(), Arc::default());
        HeldMemory { memory, bytes, client: None, own, parts: PARTS }
    }

    /// Wraps outputs so that their memory is counted until they are dropped.
    pub(crate) fn owing(&self, outputs: Tensors) -> Tensors {
        let counted = |tensor: Tensor| {
            let held = self.owe(tensor.data.len());
            Tensor { data: held.wrap(tensor.data), ..tensor }
        };
        outputs.0.into_iter().map(counted).collect()
    }

    pub fn used(&self) -> usize {
        lock(&self.used).bytes
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Increases the charge `held` if enough memory is free. The last parts are reserved for
    /// clients that hold little, so that one client cannot exclude the others.
    fn add(&self, held: &HeldMemory, bytes: usize) -> Result<(), Full> {
        // An empty charge must not enter its client: clients that hold nothing are absent.
        if bytes == 0 {
            return Ok(());
        }
        let mut used = lock(&self.used);
        let request = held.own.load(Ordering::Relaxed);
        if request.checked_add(bytes).is_none_or(|own| own > self.max) {
            // Tested first: a retry of this request cannot succeed, so that it is 413 and not 429.
            return Err(Full::Never(self.max));
        }
        let sum = used.bytes.checked_add(bytes).filter(|sum| *sum <= self.max).ok_or(Full::Now)?;
        if let Some(client) = held.client {
            let own = used.clients.get(&client).copied().unwrap_or_default().saturating_add(bytes);
            // A request may use the whole bound while no other one holds memory.
            let is_alone = used.bytes == request;
            if sum > self.max / PARTS * held.parts && own > self.max / PARTS && !is_alone {
                return Err(Full::Now);
            }
            used.clients.insert(client, own);
        }
        held.own.store(request + bytes, Ordering::Relaxed);
        used.bytes = sum;
        Ok(())
    }

    fn give_back(&self, held: &HeldMemory, bytes: usize) {
        let mut used = lock(&self.used);
        used.bytes = used.bytes.saturating_sub(bytes);
        let Some(client) = held.client else { return };
        held.own.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(own) = used.clients.get_mut(&client) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                used.clients.remove(&client);
            }
        }
    }
}

/// Locks the counters. A poisoned lock is usable, since no panic leaves them inconsistent.
fn lock(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The memory account of one request of a client.
#[derive(Clone, Debug)]
pub struct Account {
    memory: Memory,
    client: u64,
    /// Bytes of all charges of the request; changed under the lock of the memory.
    own: Arc<AtomicUsize>,
}

impl Account {
    /// An empty charge for a request, which can grow.
    pub fn request(&self) -> HeldMemory {
        self.empty(REQUEST_PARTS)
    }

    /// An empty charge for an answer, which can grow.
    pub fn answer(&self) -> HeldMemory {
        self.empty(ANSWER_PARTS)
    }

    fn empty(&self, parts: usize) -> HeldMemory {
        let (memory, own) = (self.memory.clone(), self.own.clone());
        HeldMemory { memory, bytes: 0, client: Some(self.client), own, parts }
    }

    /// A charge for a request.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn charge(&self, bytes: usize) -> Result<HeldMemory, Full> {
        let mut held = self.request();
        held.grow(bytes)?;
        Ok(held)
    }
}

/// Charged memory, released when dropped.
#[derive(Debug)]
pub struct HeldMemory {
    memory: Memory,
    bytes: usize,
    /// `None` for outputs that a worker has sent.
    client: Option<u64>,
    /// Bytes of all charges of the request.
    own: Arc<AtomicUsize>,
    /// Parts of the bound that a client with more than one part may fill.
    parts: usize,
}

impl HeldMemory {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges more bytes.
    ///
    /// # Errors
    /// If there is not enough memory; nothing is charged then.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        self.memory.add(self, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Releases all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.memory.give_back(self, less);
        self.bytes -= less;
    }

    /// Splits off at most `bytes` of the charge.
    pub fn split(&mut self, bytes: usize) -> HeldMemory {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let (memory, own) = (self.memory.clone(), self.own.clone());
        HeldMemory { memory, bytes, client: self.client, own, parts: self.parts }
    }

    /// Bytes that carry their charge: it ends when the last reference to them is dropped.
    pub fn wrap(self, data: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(ChargedData { data, _held: self })
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.memory.give_back(self, self.bytes);
    }
}

/// Bytes and their charge.
struct ChargedData<T> {
    data: T,
    _held: HeldMemory,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for ChargedData<T> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(memory: &Memory, client: u64, bytes: usize) -> Option<HeldMemory> {
        memory.of(client).charge(bytes).ok()
    }

    #[test]
    fn clients_with_much_memory_leave_a_part_to_others() {
        let memory = Memory::new(800);
        let much: Vec<_> = (0..100).map_while(|_| taken(&memory, 1, 50)).collect();
        assert_eq!((much.len(), memory.used()), (12, 600));
        let little = taken(&memory, 2, 100);
        assert!(little.is_some() && taken(&memory, 2, 1).is_none());
        assert!(taken(&memory, 3, 101).is_none() && taken(&memory, 3, 100).is_some());
        drop((much, little));
        assert_eq!(memory.used(), 0);
        assert!(lock(&memory.used).clients.is_empty());
    }

    #[test]
    fn answers_of_a_large_client_may_fill_one_more_part() {
        let memory = Memory::new(800);
        let much: Vec<_> = (0..100).map_while(|_| taken(&memory, 1, 50)).collect();
        let mut answer = memory.of(1).answer();
        assert_eq!((much.len(), answer.grow(100)), (12, Ok(())));
        assert_eq!(answer.grow(1), Err(Full::Now));
        assert!(taken(&memory, 2, 100).is_some());
    }

    #[test]
    fn one_request_may_use_the_whole_bound_but_not_more() {
        let memory = Memory::new(800);
        assert_eq!(memory.of(1).charge(801).unwrap_err(), Full::Never(800));
        assert!(taken(&memory, 1, usize::MAX).is_none());
        let mut all = memory.of(1).request();
        for _ in 0..8 {
            assert_eq!(all.grow(100), Ok(()));
        }
        assert_eq!(all.grow(1), Err(Full::Never(800)));
        assert!(taken(&memory, 2, 1).is_none());
        let owed = memory.owe(10);
        assert_eq!(memory.used(), 810);
        drop((all, owed));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn the_charges_of_one_request_count_together() {
        let memory = Memory::new(800);
        let request = memory.of(1);
        let body = request.charge(500).unwrap();
        // The only request may exceed one part; a request beyond the bound gets `Full::Never`.
        let mut tensors = request.charge(300).unwrap();
        assert_eq!(tensors.grow(1), Err(Full::Never(800)));
        assert_eq!(memory.of(1).charge(1).unwrap_err(), Full::Now);
        drop(body);
        assert_eq!(tensors.split(100).bytes(), 100);
        assert_eq!(tensors.grow(500), Ok(()));
    }

    #[test]
    fn a_charge_ends_with_the_last_reference_to_its_bytes() {
        let memory = Memory::new(800);
        let mut held = memory.of(1).charge(100).unwrap();
        held.shrink_to(80);
        let data = held.split(30).wrap(vec![7; 30]);
        drop(held);
        let part = data.slice(3..5);
        drop(data);
        assert_eq!((part.as_ref(), memory.used()), (&[7, 7][..], 30));
        drop(part);
        assert_eq!(memory.used(), 0);
        assert!(lock(&memory.used).clients.is_empty());
    }
}
