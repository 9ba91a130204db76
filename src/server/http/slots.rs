//! Slots for open connections: their number is limited, and one address cannot use all of them, so
//! that one client cannot exclude the others.

use crate::http::access::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum share of all connections for one address, in quarters.
const ADDRESS_QUARTERS: usize = 3;

/// The open connections.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSlots {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    address_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    addresses: HashMap<u64, usize>,
}

impl ConnectionSlots {
    pub(crate) fn new(max: usize) -> ConnectionSlots {
        let address_max = max.saturating_mul(ADDRESS_QUARTERS).div_ceil(4);
        ConnectionSlots { taken: Arc::default(), max, address_max }
    }

    /// Returns a slot for a connection from this address, if there is one.
    pub(crate) fn take(&self, address: IpAddr) -> Option<ConnectionSlot> {
        let network = network(address);
        let mut taken = lock(&self.taken);
        let own = taken.addresses.get(&network).copied().unwrap_or_default();
        if taken.all >= self.max || own >= self.address_max {
            return None;
        }
        taken.all += 1;
        taken.addresses.insert(network, own + 1);
        Some(ConnectionSlot { taken: self.taken.clone(), network })
    }
}

/// A poisoned lock is used: no panic leaves the value half changed.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slot of one connection, which is released when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    taken: Arc<Mutex<Taken>>,
    network: u64,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.addresses.get_mut(&self.network) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.addresses.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_address_cannot_use_all_connections() {
        let slots = ConnectionSlots::new(8);
        let much: Vec<_> = (0..8).map_while(|_| slots.take(address(1))).collect();
        assert_eq!(much.len(), 6);
        let little = slots.take(address(2));
        assert!(little.is_some() && slots.take(address(1)).is_none());
        let last = slots.take(address(3));
        assert!(last.is_some() && slots.take(address(4)).is_none());
        drop((much, little, last));
        assert_eq!(lock(&slots.taken).all, 0);
        assert!(lock(&slots.taken).addresses.is_empty());
    }

    #[test]
    fn single_connection_is_available_to_every_address() {
        let slots = ConnectionSlots::new(1);
        let one = slots.take(address(1));
        assert!(one.is_some() && slots.take(address(2)).is_none());
        drop(one);
        assert!(slots.take(address(2)).is_some());
        assert!(ConnectionSlots::new(0).take(address(1)).is_none());
    }
}
