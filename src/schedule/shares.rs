//! Fair shares: whose turn it is among the clients that wait for a model, and who holds how much of
//! the queue. So nobody can starve the others, however much they ask for.
//!
//! Turns are start-time fair queuing (Goyal, Vin, Cheng, SIGCOMM 1996): what a client was served is
//! added up, and who was served least goes first. Who comes anew starts where those who wait are,
//! so that nobody saves up a claim; who asks alone is served in order, as if there were no turns.

use super::ids::{ClientId, RequestId, Shape};
use super::lane::Lane;
use std::collections::{BTreeMap, BTreeSet};

/// Clients that are remembered before those that can be forgotten are.
const REMEMBERED: usize = 64;

/// What a client was served, by rows and their sizes.
pub(super) type Turn = u64;

/// What rows cost: shapes of one size take about the same time.
pub(super) fn cost(shape: Shape, rows: u32) -> Turn {
    u64::from(rows) << shape.size.min(31)
}

#[derive(Debug, Default)]
struct Client {
    turn: Turn,
    /// Where it has requests that wait.
    lanes: BTreeSet<Lane>,
}

/// The turns of the clients of one model.
#[derive(Debug, Default)]
pub(super) struct Turns {
    clients: BTreeMap<ClientId, Client>,
    /// Those who wait.
    waiting: BTreeSet<(Turn, ClientId)>,
    remembered_max: usize,
}

impl Turns {
    pub(super) fn of(&self, client: ClientId) -> Turn {
        self.clients.get(&client).map_or(0, |client| client.turn)
    }

    /// How many others wait.
    pub(super) fn beside(&self, client: ClientId) -> u64 {
        let waits = self.lanes(client).next().is_some();
        (self.waiting.len() - usize::from(waits)) as u64
    }

    /// Where requests of this client wait.
    pub(super) fn lanes(&self, client: ClientId) -> impl Iterator<Item = &Lane> {
        self.clients.get(&client).into_iter().flat_map(|client| &client.lanes)
    }

    /// The turn of who was served least of those who wait.
    fn least(&self) -> Option<Turn> {
        self.waiting.first().map(|(turn, _)| *turn)
    }

    /// A request of this client waits in a lane where none of it did; gives the client's turn.
    pub(super) fn join(&mut self, id: ClientId, lane: Lane) -> Turn {
        self.forget_some();
        let least = self.least();
        let client = self.clients.entry(id).or_default();
        if client.lanes.is_empty() {
            client.turn = least.map_or(client.turn, |least| client.turn.max(least));
            self.waiting.insert((client.turn, id));
        }
        client.lanes.insert(lane);
        client.turn
    }

    /// No request of this client waits in this lane any more.
    pub(super) fn leave(&mut self, id: ClientId, lane: Lane) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.lanes.remove(&lane);
        if client.lanes.is_empty() {
            self.waiting.remove(&(client.turn, id));
        }
        if self.waiting.is_empty() {
            // Nobody has to be made up for anything.
            self.clients.clear();
        }
    }

    /// This client's turn is another one; gives the lanes where that matters.
    pub(super) fn set(&mut self, id: ClientId, turn: Turn) -> Vec<Lane> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if self.waiting.remove(&(client.turn, id)) {
            self.waiting.insert((turn, id));
        }
        client.turn = turn;
        client.lanes.iter().copied().collect()
    }

    /// Forgets those who would start anew where they are, once there are many.
    fn forget_some(&mut self) {
        if self.clients.len() < self.remembered_max.max(REMEMBERED) {
            return;
        }
        let least = self.least().unwrap_or(Turn::MAX);
        self.clients.retain(|_, client| !client.lanes.is_empty() || client.turn > least);
        self.remembered_max = 2 * self.clients.len();
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) requests: usize,
    pub(super) rows: u64,
}

impl Limits {
    /// Whether a request of `more` rows may join so many. One that is larger than all that may
    /// wait may come alone.
    pub(super) fn have_room(self, requests: usize, rows: u64, more: u64) -> bool {
        let fits = rows.saturating_add(more) <= self.rows || requests == 0;
        requests < self.requests && fits
    }
}

/// What of a client waits.
#[derive(Debug, Default)]
struct Holding {
    rows: u64,
    /// By arrival, with their rows.
    requests: BTreeMap<u64, (RequestId, u64)>,
}

/// The larger of the shares of requests and of rows (dominant resource fairness, Ghodsi et al.,
/// NSDI 2011), in a unit that is the same for all.
type Share = u128;

/// Who holds how much of the queue.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) limits: Limits,
    clients: BTreeMap<ClientId, Holding>,
    by_share: BTreeSet<(Share, ClientId)>,
}

impl Holdings {
    /// From now on so much may wait. Who holds how much of it is another share then.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let share = |(client, holding): (&ClientId, &Holding)| (self.share_of(holding), *client);
        self.by_share = self.clients.iter().map(share).collect();
    }

    fn share(&self, requests: usize, rows: u64) -> Share {
        let by_requests = requests as u128 * u128::from(self.limits.rows.max(1));
        by_requests.max(u128::from(rows) * self.limits.requests.max(1) as u128)
    }

    fn share_of(&self, holding: &Holding) -> Share {
        self.share(holding.requests.len(), holding.rows)
    }

    /// Of a request, known by its number, other rows wait than did.
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

    /// The requests of who holds most, the newest first, with their rows, as long as that is more
    /// than `client` would hold with one more of so many rows.
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

    const LANE: Lane = Lane { model: ModelId(0), shape: Shape { number: 0, size: 0 }, group: 0 };

    #[test]
    fn who_is_not_behind_anybody_is_forgotten_once_there_are_many() {
        let mut turns = Turns::default();
        let (waits, ahead) = (ClientId(0), ClientId(1));
        turns.join(waits, LANE);
        turns.join(ahead, LANE);
        turns.set(ahead, 7);
        turns.leave(ahead, LANE);
        for client in 2..10_000 {
            turns.join(ClientId(client), LANE);
            turns.leave(ClientId(client), LANE);
        }
        assert!(turns.clients.len() <= REMEMBERED, "{} are remembered", turns.clients.len());
        assert_eq!((turns.of(waits), turns.of(ahead)), (0, 7));
    }
}
