//! Fair shares: the order of the clients that wait for a model, and each client's share of the
//! queue. No client can starve the others, however many requests it sends.
//!
//! The order is start-time fair queuing (Goyal, Vin, Cheng, SIGCOMM 1996): the service of each
//! client is added up, and the client with the least service goes first. A new client starts at the
//! level of the waiting ones, so that it gains no claim by waiting; a single client is served in
//! order, as without fair queuing.

use super::ids::{ClientId, RequestId, Shape};
use super::queue_key::QueueKey;
use std::collections::{BTreeMap, BTreeSet};

/// Number of clients that are kept before those without a difference are removed.
const REMEMBERED: usize = 64;

/// Service of a client, by rows and their sizes.
pub(super) type Turn = u64;

/// Returns the cost of rows: shapes of one size take about the same time.
pub(super) fn cost(shape: Shape, rows: u32) -> Turn {
    // 32 bits of rows, shifted by 31 at most, fit into 64 bits.
    u64::from(rows) << shape.size.min(31)
}

#[derive(Debug, Default)]
struct Client {
    turn: Turn,
    /// Lanes with waiting requests of the client.
    keys: BTreeSet<QueueKey>,
}

/// The service levels of the clients of one model.
#[derive(Debug, Default)]
pub(super) struct Turns {
    clients: BTreeMap<ClientId, Client>,
    /// Clients with waiting requests.
    waiting: BTreeSet<(Turn, ClientId)>,
    remembered_max: usize,
}

impl Turns {
    pub(super) fn of(&self, client: ClientId) -> Turn {
        self.clients.get(&client).map_or(0, |client| client.turn)
    }

    /// Returns the number of other waiting clients.
    pub(super) fn beside(&self, client: ClientId) -> u64 {
        let waits = self.keys(client).next().is_some();
        (self.waiting.len() - usize::from(waits)) as u64
    }

    /// Returns the queues with waiting requests of this client.
    pub(super) fn keys(&self, client: ClientId) -> impl Iterator<Item = &QueueKey> {
        self.clients.get(&client).into_iter().flat_map(|client| &client.keys)
    }

    /// Returns the least service of a waiting client.
    fn least(&self) -> Option<Turn> {
        self.waiting.first().map(|(turn, _)| *turn)
    }

    /// Adds a queue with waiting requests to this client; returns the client's service.
    pub(super) fn join(&mut self, id: ClientId, key: QueueKey) -> Turn {
        self.forget_some();
        let least = self.least();
        let client = self.clients.entry(id).or_default();
        if client.keys.is_empty() {
            client.turn = least.map_or(client.turn, |least| client.turn.max(least));
            self.waiting.insert((client.turn, id));
        }
        client.keys.insert(key);
        client.turn
    }

    /// Removes a queue without waiting requests from this client.
    pub(super) fn leave(&mut self, id: ClientId, key: QueueKey) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.keys.remove(&key);
        if client.keys.is_empty() {
            self.waiting.remove(&(client.turn, id));
        }
        if self.waiting.is_empty() {
            // No client is owed service: reset the counters.
            self.clients.clear();
        }
    }

    /// Changes this client's service; returns the queues for which that matters.
    pub(super) fn set(&mut self, id: ClientId, turn: Turn) -> Vec<QueueKey> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if self.waiting.remove(&(client.turn, id)) {
            self.waiting.insert((turn, id));
        }
        client.turn = turn;
        client.keys.iter().copied().collect()
    }

    /// Removes clients that would restart at their present level, once there are many.
    fn forget_some(&mut self) {
        if self.clients.len() < self.remembered_max.max(REMEMBERED) {
            return;
        }
        let least = self.least().unwrap_or(Turn::MAX);
        self.clients.retain(|_, client| !client.keys.is_empty() || client.turn > least);
        // Doubled, so that the walk over all clients costs little per request on average.
        self.remembered_max = 2 * self.clients.len();
    }
}

/// Limits of the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) requests: usize,
    pub(super) rows: u64,
}

impl Limits {
    /// Returns whether a request of `more` rows fits beside the waiting ones. A request that is
    /// larger than the limit of rows may wait alone.
    pub(super) fn allow(self, requests: usize, rows: u64, more: u64) -> bool {
        let fits = rows.saturating_add(more) <= self.rows || requests == 0;
        requests < self.requests && fits
    }
}

/// Waiting requests of a client.
#[derive(Debug, Default)]
struct Holding {
    rows: u64,
    /// Requests by arrival, with their rows.
    requests: BTreeMap<u64, (RequestId, u64)>,
}

/// The larger of the shares of requests and of rows (dominant resource fairness, Ghodsi et al.,
/// NSDI 2011), in a unit that is the same for all.
type Share = u128;

/// Shares of the queue by client.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) limits: Limits,
    clients: BTreeMap<ClientId, Holding>,
    by_share: BTreeSet<(Share, ClientId)>,
}

impl Holdings {
    /// Sets the limits of the queue and recomputes the shares.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let share = |(client, holding): (&ClientId, &Holding)| (self.share_of(holding), *client);
        self.by_share = self.clients.iter().map(share).collect();
    }

    fn share(&self, requests: usize, rows: u64) -> Share {
        // Both fractions are multiplied by both limits: exact and without a division. The products
        // of 64-bit numbers need 128 bits.
        let by_requests = requests as u128 * u128::from(self.limits.rows.max(1));
        by_requests.max(u128::from(rows) * self.limits.requests.max(1) as u128)
    }

    fn share_of(&self, holding: &Holding) -> Share {
        self.share(holding.requests.len(), holding.rows)
    }

    /// Sets the waiting rows of a request, which is identified by its number.
    pub(super) fn set_rows(
        &mut self,
        client: ClientId,
        (number, id): (u64, RequestId),
        (from, to): (u64, u64),
    ) {
        let mut holding = self.clients.remove(&client).unwrap_or_default();
        self.by_share.remove(&(self.share_of(&holding), client));
        holding.rows = holding.rows + to - from;
        if to == 0 {
            holding.requests.remove(&number);
        } else {
            holding.requests.insert(number, (id, to));
        }
        if !holding.requests.is_empty() {
            self.by_share.insert((self.share_of(&holding), client));
            self.clients.insert(client, holding);
        }
    }

    /// Returns the requests of the client with the largest share, the newest first, with their
    /// rows, as long as that is more than the share of `client` would be with one more request of
    /// this size.
    pub(super) fn surplus(
        &self,
        client: ClientId,
        rows: u64,
    ) -> impl Iterator<Item = (RequestId, u64)> {
        let mine = self.clients.get(&client);
        let (requests, held) = mine.map_or((0, 0), |mine| (mine.requests.len(), mine.rows));
        let mine = self.share(requests + 1, held.saturating_add(rows));
        let most = self.by_share.last().and_then(|(_, most)| self.clients.get(most));
        most.into_iter().flat_map(move |most| {
            let (mut requests, mut rows) = (most.requests.len(), most.rows);
            most.requests.values().rev().copied().take_while(move |(_, own)| {
                let more = self.share(requests, rows) > mine;
                (requests, rows) = (requests - 1, rows - own);
                more
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::ModelId;
    use super::*;

    const KEY: QueueKey =
        QueueKey { model: ModelId(0), shape: Shape { number: 0, size: 0 }, group: 0 };

    #[test]
    fn clients_without_debt_are_forgotten_once_there_are_many() {
        let mut turns = Turns::default();
        let (waits, ahead) = (ClientId(0), ClientId(1));
        turns.join(waits, KEY);
        turns.join(ahead, KEY);
        turns.set(ahead, 7);
        turns.leave(ahead, KEY);
        for client in 2..10_000 {
            turns.join(ClientId(client), KEY);
            turns.leave(ClientId(client), KEY);
        }
        assert!(turns.clients.len() <= REMEMBERED, "{} are remembered", turns.clients.len());
        assert_eq!((turns.of(waits), turns.of(ahead)), (0, 7));
    }
}
