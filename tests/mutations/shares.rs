//! Bugs in fair shares between clients.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    // Turns.
    mutant(
        "whoever came first goes first",
        "lists.rs",
        "Place { priority: order.priority, turn, order }",
        "Place { priority: order.priority, turn: 0, order }",
    ),
    mutant(
        "turns go before priorities",
        "lists.rs",
        "    pub(super) priority: u32,\n    pub(super) turn: Turn,",
        "    pub(super) turn: Turn,\n    pub(super) priority: u32,",
    ),
    mutant(
        "who comes anew is owed all that others were served",
        "shares.rs",
        "client.turn = least.map_or(client.turn, |least| client.turn.max(least));",
        "",
    ),
    mutant(
        "who leaves for a moment is owed again what it was served",
        "shares.rs",
        "client.turn = least.map_or(client.turn, |least| client.turn.max(least));",
        "client.turn = least.unwrap_or(client.turn);",
    ),
    mutant("what is served does not count", "queue.rs", "turn.saturating_add(cost)", "turn"),
    mutant("what was lost counts as served", "queue.rs", "turn.saturating_sub(cost)", "turn"),
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
        "a turn changes in one lane only",
        "shares.rs",
        "client.keys.iter().copied().collect()",
        "client.keys.iter().copied().take(1).collect()",
    ),
    mutant(
        "who waits in another lane has left",
        "shares.rs",
        "        client.keys.remove(&key);\n",
        "        client.keys.clear();\n",
    ),
    mutant(
        "the last is looked for in the first line",
        "lists.rs",
        "End::Back => self.heads.last()?",
        "End::Back => self.heads.first()?",
    ),
    mutant(
        "late rows are counted line after line",
        "lists.rs",
        "by_client.push_back(requests);",
        "by_client.push_front(own);",
    ),
    // What is remembered.
    mutant(
        "everybody who ever asked is remembered",
        "shares.rs",
        "self.clients.retain(|_, client| !client.keys.is_empty() || client.turn > least);",
        "",
    ),
    mutant(
        "who is ahead of others is forgotten",
        "shares.rs",
        "!client.keys.is_empty() || client.turn > least",
        "!client.keys.is_empty()",
    ),
    // Who makes room.
    mutant(
        "nobody makes room",
        "shares.rs",
        "let more = self.share(requests, rows) > mine;",
        "let more = false;",
    ),
    mutant(
        "who holds less makes room",
        "shares.rs",
        "let more = self.share(requests, rows) > mine;",
        "let more = true;",
    ),
    mutant(
        "who holds as much makes room",
        "shares.rs",
        "let more = self.share(requests, rows) > mine;",
        "let more = self.share(requests, rows) >= mine;",
    ),
    mutant(
        "who has waited longest makes room",
        "shares.rs",
        "most.requests.values().rev().copied()",
        "most.requests.values().copied()",
    ),
    mutant(
        "rows are not held",
        "shares.rs",
        "by_requests.max(u128::from(rows) * self.limits.requests.max(1) as u128)",
        "by_requests",
    ),
    mutant(
        "what somebody once held is never forgotten",
        "shares.rs",
        "        self.by_share.remove(&(self.share_of(&holding), client));\n",
        "",
    ),
    mutant(
        "what has begun to run makes room",
        "queue.rs",
        "if is_whole(id, waiting) {",
        "if true {",
    ),
    mutant(
        "who makes room for another is not told",
        "admission.rs",
        "room.clone().unwrap_or_else(|| vec![arrival.request])",
        "room.clone().map_or_else(|| vec![arrival.request], |_| Vec::new())",
    ),
];
