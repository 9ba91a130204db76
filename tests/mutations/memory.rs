//! Bugs where there is no memory, in loads that others share an adapter with, and in trust.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    // No memory.
    mutant(
        "as many rows are run again as did not fit",
        "requests.rs",
        "let half = bucket.div_ceil(2).next_power_of_two().min(bucket - 1).max(1);",
        "let half = bucket;",
    ),
    mutant("halving counts as a retry", "requests.rs", "u32::from(fault != Fault::Memory)", "1"),
    mutant(
        "a row that does not fit alone is tried again and again",
        "requests.rs",
        "if rows == 0 || bucket <= 1 {",
        "if rows == 0 {",
    ),
    mutant(
        "memory is never free again for more rows",
        "scale.rs",
        "known.rows_max.filter(|(_, until)| *until > now)",
        "known.rows_max",
    ),
    mutant(
        "an adapter runs more rows than its memory holds",
        "loading.rs",
        "model.max_rows.min(limit).max(1)",
        "model.max_rows.max(1)",
    ),
    mutant(
        "who refuses what waits is started for it",
        "scale.rs",
        "let helps = self.is_eligible(id) && self.helps(id);",
        "let helps = self.is_eligible(id);",
    ),
    mutant(
        "what there was no memory for is never tried again",
        "watch.rs",
        "crowded.retain(|_, until| *until > now)",
        "crowded.retain(|_, _| true)",
    ),
    mutant(
        "nobody wakes up when a refusal ends",
        "scheduler.rs",
        "adapters.chain(refusals).chain(self.shrink_at())",
        "adapters.chain(refusals.take(0)).chain(self.shrink_at())",
    ),
    // Memory that other programs take.
    mutant(
        "what other programs use does not matter",
        "state.rs",
        "self.profile.memory.into_iter().chain(self.room).min()",
        "self.profile.memory",
    ),
    mutant(
        "what is allowed does not matter",
        "state.rs",
        "self.profile.memory.into_iter().chain(self.room).min()",
        "self.room.or(self.profile.memory)",
    ),
    mutant(
        "who has no room for a model takes it before one that has",
        "loading.rs",
        "(self.has_room(adapter, model) || !self.anyone_has_room(model))",
        "true",
    ),
    mutant(
        "what nobody has room for is tried nowhere",
        "loading.rs",
        "(self.has_room(adapter, model) || !self.anyone_has_room(model))",
        "self.has_room(adapter, model)",
    ),
    mutant(
        "an adapter that the operator holds off has room",
        "loading.rs",
        "let off = matches!(adapter.state, State::Off) && self.is_eligible(*id);",
        "let off = matches!(adapter.state, State::Off);",
    ),
    mutant(
        "who has a model needs room for it",
        "loading.rs",
        "adapter.room.filter(|_| !adapter.replicas.contains_key(&model))",
        "adapter.room",
    ),
    mutant(
        "what would not fit alone waits for room for ever",
        "loading.rs",
        ".saturating_sub(budget).min(held);",
        ".saturating_sub(budget);",
    ),
    mutant("nothing is given back", "loading.rs", "self.give_back(now, id);", ""),
    mutant(
        "more is given back than others need",
        "loading.rs",
        "if held <= room {",
        "if held == 0 {",
    ),
    mutant(
        "what is missed is given back",
        "loading.rs",
        "find(|(model, _)| !self.is_missed(now, id, adapter, *model))",
        "next()",
    ),
    mutant(
        "the queue keeps its first limits",
        "scheduler.rs",
        "self.queue.set_limits(&settings);",
        "",
    ),
    mutant(
        "settings stay as they were",
        "scheduler.rs",
        "self.settings = settings;",
        "let _ = settings;",
    ),
    mutant(
        "shares of the queue are those of its first limits",
        "shares.rs",
        "self.by_share = self.clients.iter().map(share).collect();",
        "let _ = share;",
    ),
    // Trust.
    mutant(
        "who fails at every start is waited for",
        "scheduler.rs",
        "let trusted = adapter.strikes <= self.settings.retries_max.max(1) + halvings;",
        "let trusted = adapter.strikes < u32::MAX;",
    ),
    mutant(
        "who halves again and again is waited for",
        "scheduler.rs",
        "if halves { self.halvings_max() } else { 0 }",
        "if halves { 1000 } else { 0 }",
    ),
    mutant(
        "who halves is not waited for",
        "scheduler.rs",
        "if halves { self.halvings_max() } else { 0 }",
        "0",
    ),
    mutant(
        "fewer rows are forgotten before they are tried",
        "requests.rs",
        "let until = soon + self.settings.backoff_max;",
        "let until = now + self.settings.backoff_max;",
    ),
    // Loads beside batches.
    mutant(
        "a loaded model waits for the load of another",
        "state.rs",
        "self.is_idle() || matches!(self.state, State::Loading { batch: None, .. })",
        "self.is_idle()",
    ),
    mutant(
        "what ran beside a load teaches",
        "requests.rs",
        "Some((None, batch))",
        "Some((Some(since), batch))",
    ),
    mutant(
        "what began beside a load teaches",
        "requests.rs",
        "let alone = !adapter.disturbed;",
        "let alone = true;",
    ),
    mutant(
        "a batch is forgotten when the load beside it ends",
        "lifecycle.rs",
        "Some((_, batch)) => State::Busy { since: now, batch },",
        "Some(_) => State::Idle { since: now },",
    ),
    mutant(
        "a load goes on though its adapter goes",
        "scale.rs",
        "self.actions.push_back(Action::Unload { adapter: id, incarnation, model });",
        "let _ = (incarnation, model);",
    ),
    mutant(
        "models are loaded ahead between batches",
        "loading.rs",
        "since + quiet",
        "since.max(Time::default() + quiet * 0)",
    ),
    mutant(
        "nobody wakes up to load ahead",
        "scheduler.rs",
        "due.chain(self.next_ahead(now)).min()",
        "due.min()",
    ),
    mutant(
        "a batch loses the time for which a load held it up",
        "scale.rs",
        "State::Draining { since: now, batch };",
        "State::Draining { since: Time::default(), batch };",
    ),
];
