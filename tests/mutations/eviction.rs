//! Bugs in which models keep their memory, and in what is kept between two runs of the server.

use crate::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    // Places.
    mutant(
        "requests of long ago count like the last ones",
        "popularity.rs",
        "*count = 1.0 + *count * ((*at - now) / AVERAGED).exp();",
        "*count += 1.0;",
    ),
    mutant(
        "a long pause says nothing of a model",
        "popularity.rs",
        "rate.min(PAUSE / pause.max(1e-9))",
        "rate",
    ),
    mutant("a copy is worth as much as the only one", "eviction.rs", "{ COPY }", "{ 1.0 }"),
    mutant(
        "an adapter stays on for models that have memory elsewhere",
        "eviction.rs",
        "others && is_worth && bytes > free_elsewhere(world, id, since)",
        "others && is_worth",
    ),
    mutant(
        "an adapter stays on for its models whatever that costs",
        "eviction.rs",
        "2.0 * rate * start_cost::late_joules(world, 1.0) >= watts",
        "true",
    ),
    mutant("no adapter stays on for its models", "eviction.rs", "others && is_worth", "false"),
    mutant(
        "an adapter stays on for its models for an hour",
        "eviction.rs",
        "(PAUSE / rate).min(AVERAGED)",
        "AVERAGED",
    ),
    mutant(
        "a model is loaded on two adapters for one row",
        "routing.rs",
        "(!best.loaded && slots.iter().any(comes))",
        "false",
    ),
    mutant(
        "where a model is loaded does not depend on what makes room",
        "routing.rs",
        "(slot.loss, slot.finish(1))",
        "(0.0, slot.finish(1))",
    ),
    mutant(
        "a second copy is loaded while another model has no place",
        "prepare.rs",
        "&& (measures || !eviction::is_spare_copy(world, now, id, model))",
        "",
    ),
    mutant("no loss is less than none", "eviction.rs", ".fold(0.0, |sum", ".fold(-0.0, |sum"),
    mutant(
        "requests do not count for a model",
        "admission.rs",
        "world.popularity.note(now, model);",
        "",
    ),
    // Announced.
    mutant(
        "nothing is turned off early after an announced client was served",
        "early_start.rs",
        "early_stop::after_announced(world, out, now, key);",
        "",
    ),
    mutant(
        "an adapter turns off early although an announced client comes soon",
        "early_stop.rs",
        "pause.as_secs_f64() >= SHORTEST && ",
        "",
    ),
    mutant(
        "a client is taken to announce its requests although the last was not announced",
        "expected.rs",
        "(self.plan, self.announces) = (None, met);",
        "(self.plan, self.announces) = (None, self.announces || met);",
    ),
    mutant(
        "an announced client has no time for more requests",
        "client_pattern.rs",
        "if enough { self.end_pause() } else { END_PAUSE.as_secs_f64() }",
        "if enough { self.end_pause() } else { 0.0 }",
    ),
    mutant(
        "a request within a spell does not meet its announcement",
        "expected.rs",
        "begins || plan.window.from <= now",
        "begins",
    ),
    mutant(
        "the early release is not waited for",
        "expected.rs",
        ".chain(entry.release_at()).min()",
        ".min()",
    ),
    mutant(
        "a client that does not keep its word is believed",
        "expected.rs",
        "(entry.missed_announcements < MISSED_MAX).then(",
        "true.then(",
    ),
    mutant(
        "a client that came is not believed again",
        "early_start.rs",
        "(entry.model, entry.missed_announcements) = (model, 0);",
        "entry.model = model;",
    ),
    mutant(
        "an announced client is not waited for",
        "announced.rs",
        "until: at + LATE_MIN.max(within / LATE_SHARE),",
        "until: at,",
    ),
    mutant(
        "an announced client is started for at once",
        "announced.rs",
        "Some(expected::start_at(now, window, start))",
        "Some(now).filter(|_| start >= 0.0)",
    ),
    mutant(
        "the model of an expected client is not loaded where nobody asked for it",
        "prepare.rs",
        "(all || asked || measures || expected)",
        "(all || asked || measures)",
    ),
    mutant(
        "the model of an expected client is loaded only after a while",
        "prepare.rs",
        "adapter.economy.no_work_since.filter(|_| !expected)",
        "adapter.economy.no_work_since",
    ),
    // Learned.
    mutant(
        "clients of an earlier run are forgotten",
        "learned.rs",
        "world.clients.restore(now, client, down);",
        "let _ = client;",
    ),
    mutant(
        "a gap counts in which the server was down",
        "client_pattern.rs",
        ".filter(|_| self.down <= UNSEEN_MAX * pause)",
        "",
    ),
    mutant("a restart shifts a client", "client_pattern.rs", "ago.saturating_add(down)", "ago"),
    mutant(
        "when a client came last is forgotten",
        "client_pattern.rs",
        "began: learned.began.map(at),",
        "began: None,",
    ),
    mutant(
        "an earlier run knows better than this one",
        "economy.rs",
        "if !self.idle_periods.is_empty() {",
        "if false {",
    ),
    mutant(
        "an earlier run teaches an adapter that this one has started",
        "adapter.rs",
        "if self.incarnation.0 == 0 {",
        "if self.incarnation.0 < u64::MAX {",
    ),
    mutant(
        "the starts of an earlier run do not count",
        "economy.rs",
        "now + (*left).min(HOUR)",
        "now",
    ),
    mutant(
        "the price of late requests is forgotten",
        "learned.rs",
        "world.late_price.restore(late_price);",
        "let _ = late_price;",
    ),
    mutant(
        "the rates of models are forgotten",
        "learned.rs",
        "world.popularity.restore(now, *model, (*count, ago.saturating_add(down)));",
        "let _ = (count, ago);",
    ),
    mutant(
        "late requests of starts are forgotten",
        "economy.rs",
        "self.late_per_start =\n            profile.late_permille",
        "self.late_per_start_long =\n            profile.late_permille",
    ),
    mutant(
        "clients of a model that is not served are kept",
        "learned.rs",
        "learned.clients.iter().filter(|it| world.models.contains_key(&it.model))",
        "learned.clients.iter()",
    ),
];
