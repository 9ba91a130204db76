//! Bugs in fair shares between clients.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    // Order of the clients.
    mutant(
        "requests are served in the order of arrival regardless of client shares",
        "lists.rs",
        "Place { priority: order.priority, turn, order }",
        "Place { priority: order.priority, turn: 0, order }",
    ),
    mutant(
        "client shares take precedence over priorities",
        "lists.rs",
        "    pub(super) priority: u32,\n    pub(super) turn: Turn,",
        "    pub(super) turn: Turn,\n    pub(super) priority: u32,",
    ),
    mutant(
        "a new client has a claim to all that others were served before",
        "shares.rs",
        "client.turn = least.map_or(client.turn, |least| client.turn.max(least));",
        "",
    ),
    mutant(
        "a client that pauses briefly regains a claim to what it was served",
        "shares.rs",
        "client.turn = least.map_or(client.turn, |least| client.turn.max(least));",
        "client.turn = least.unwrap_or(client.turn);",
    ),
    mutant(
        "served rows do not count for the share of their client",
        "queue.rs",
        "turn.saturating_add(cost)",
        "turn",
    ),
    mutant(
        "lost rows count for the share of their client",
        "queue.rs",
        "turn.saturating_sub(cost)",
        "turn",
    ),
    mutant(
        "the size of rows does not count",
        "shares.rs",
        "u64::from(rows) << shape.size.min(31)",
        "u64::from(rows)",
    ),
    mutant(
        "the number of rows does not count",
        "shares.rs",
        "u64::from(rows) << shape.size.min(31)",
        "1 << shape.size.min(31)",
    ),
    mutant(
        "the share of a client is updated in only one of its queues",
        "shares.rs",
        "client.keys.iter().copied().collect()",
        "client.keys.iter().copied().take(1).collect()",
    ),
    mutant(
        "a client that still waits in another queue counts as absent",
        "shares.rs",
        "        client.keys.remove(&key);\n",
        "        client.keys.clear();\n",
    ),
    mutant(
        "the last request is taken from the first client",
        "lists.rs",
        "End::Back => self.heads.last()?",
        "End::Back => self.heads.first()?",
    ),
    mutant(
        "late rows are counted one client after the other",
        "lists.rs",
        "by_client.push_back(requests);",
        "by_client.push_front(requests);",
    ),
    // Records of clients.
    mutant(
        "clients without requests are never removed",
        "shares.rs",
        "self.clients.retain(|_, client| !client.keys.is_empty() || client.turn > least);",
        "",
    ),
    mutant(
        "a client that is ahead of its share is removed",
        "shares.rs",
        "!client.keys.is_empty() || client.turn > least",
        "!client.keys.is_empty()",
    ),
    // Rejections at a full queue.
    mutant(
        "a full queue never rejects requests of the client with the largest share",
        "shares.rs",
        "let more = self.share(requests, rows) > mine;",
        "let more = false;",
    ),
    mutant(
        "a client with a smaller share of the queue is rejected in favour of another",
        "shares.rs",
        "let more = self.share(requests, rows) > mine;",
        "let more = true;",
    ),
    mutant(
        "a client with an equal share of the queue is rejected in favour of another",
        "shares.rs",
        "let more = self.share(requests, rows) > mine;",
        "let more = self.share(requests, rows) >= mine;",
    ),
    mutant(
        "the request that has waited longest is rejected first",
        "shares.rs",
        "most.requests.values().rev().copied()",
        "most.requests.values().copied()",
    ),
    mutant(
        "the rows of a client do not count for its share of the queue",
        "shares.rs",
        "by_requests.max(u128::from(rows) * self.limits.requests.max(1) as u128)",
        "by_requests",
    ),
    mutant(
        "former shares of the queue are never removed",
        "shares.rs",
        "        self.by_share.remove(&(self.share_of(&holding), client));\n",
        "",
    ),
    mutant(
        "a request that has begun to run is rejected in favour of another",
        "queue.rs",
        "if is_whole(id, waiting) {",
        "if true {",
    ),
    mutant(
        "a request that is rejected in favour of another gets no answer",
        "admission.rs",
        "room.clone().unwrap_or_else(|| vec![arrival.request])",
        "room.clone().map_or_else(|| vec![arrival.request], |_| Vec::new())",
    ),
];
