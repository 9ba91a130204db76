//! Bugs in eviction, in announcements, and in the values kept between two runs of the server.

use crate::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    // Placement and eviction.
    mutant(
        "old requests count as much as recent ones",
        "popularity.rs",
        "*count = 1.0 + *count * ((*at - now) / AVERAGED).exp();",
        "*count += 1.0;",
    ),
    mutant(
        "a long pause does not lower the request rate of a model",
        "popularity.rs",
        "rate.min(PAUSE / pause.max(1e-9))",
        "rate",
    ),
    mutant(
        "a second copy of a model is worth as much as the only one",
        "eviction.rs",
        "{ COPY }",
        "{ 1.0 }",
    ),
    mutant(
        "an adapter stays on for models that have memory elsewhere",
        "eviction.rs",
        "others && is_worth && bytes > free_elsewhere(world, id, since)",
        "others && is_worth",
    ),
    mutant(
        "an adapter stays on for its models regardless of the cost",
        "eviction.rs",
        "2.0 * rate * start_cost::late_joules(world, 1.0) >= watts",
        "true",
    ),
    mutant(
        "adapters do not stay on for their models",
        "eviction.rs",
        "others && is_worth",
        "false",
    ),
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
        "the placement of a model ignores the cost of the evicted models",
        "routing.rs",
        "(slot.loss, slot.finish(1))",
        "(0.0, slot.finish(1))",
    ),
    mutant(
        "a second copy is loaded while another model is not loaded at all",
        "prepare.rs",
        "&& (measures || !eviction::is_spare_copy(world, now, id, model))",
        "",
    ),
    mutant(
        "a placement without recent victims has a loss of negative zero",
        "eviction.rs",
        ".fold(0.0, |sum",
        ".fold(-0.0, |sum",
    ),
    mutant(
        "requests do not count for the popularity of their model",
        "admission.rs",
        "world.popularity.note(now, model);",
        "",
    ),
    // Announcements.
    mutant(
        "no adapter is turned off early after an announced client was served",
        "early_start.rs",
        "early_stop::after_announced(world, out, now, key);",
        "",
    ),
    mutant(
        "an adapter turns off early although an announced request is due soon",
        "early_stop.rs",
        "pause.as_secs_f64() >= SHORTEST && ",
        "",
    ),
    mutant(
        "a client is assumed to announce its requests although the last was unannounced",
        "expected.rs",
        "(self.plan, self.announces) = (None, met);",
        "(self.plan, self.announces) = (None, self.announces || met);",
    ),
    mutant(
        "an adapter turns off right after an announced request",
        "client_pattern.rs",
        "if enough { self.end_pause() } else { END_PAUSE.as_secs_f64() }",
        "if enough { self.end_pause() } else { 0.0 }",
    ),
    mutant(
        "a request within a busy period does not meet its announcement",
        "expected.rs",
        "begins || plan.window.from <= now",
        "begins",
    ),
    mutant(
        "no wake-up is scheduled for an early turn-off",
        "expected.rs",
        ".chain(entry.release_at()).min()",
        ".min()",
    ),
    mutant(
        "announcements count although the client missed the last ones",
        "expected.rs",
        "(entry.missed_announcements < MISSED_MAX).then(",
        "true.then(",
    ),
    mutant(
        "missed announcements are not reset by a request",
        "early_start.rs",
        "(entry.model, entry.missed_announcements) = (model, 0);",
        "entry.model = model;",
    ),
    mutant(
        "an adapter does not wait for a late announced request",
        "announced.rs",
        "until: at + LATE_MIN.max(within / LATE_SHARE),",
        "until: at,",
    ),
    mutant(
        "an adapter starts at the time of an announcement",
        "announced.rs",
        "Some(expected::start_at(now, window, start))",
        "Some(now).filter(|_| start >= 0.0)",
    ),
    mutant(
        "the model of an expected client is not loaded where it has no recent requests",
        "prepare.rs",
        "(all || has_request || measures || expected)",
        "(all || has_request || measures)",
    ),
    mutant(
        "the model of an expected client is loaded only after a while",
        "prepare.rs",
        "adapter.economy.no_work_since.filter(|_| !expected)",
        "adapter.economy.no_work_since",
    ),
    // Restored values.
    mutant(
        "the clients of an earlier run are not restored",
        "learned.rs",
        "world.clients.restore(now, client, down);",
        "let _ = client;",
    ),
    mutant(
        "a pause during which the server was down counts",
        "client_pattern.rs",
        ".filter(|_| self.down <= UNSEEN_MAX * pause)",
        "",
    ),
    mutant(
        "a restart shifts the times of a client by the downtime",
        "client_pattern.rs",
        "ago.saturating_add(down)",
        "ago",
    ),
    mutant(
        "the last busy period of a client is not restored",
        "client_pattern.rs",
        "began: learned.began.map(at),",
        "began: None,",
    ),
    mutant(
        "restored idle periods replace those of this run",
        "economy.rs",
        "if !self.idle_periods.is_empty() {",
        "if false {",
    ),
    mutant(
        "restored values replace those of an adapter that this run has started",
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
        "the price of late requests is not restored",
        "learned.rs",
        "world.late_price.restore(late_price);",
        "let _ = late_price;",
    ),
    mutant(
        "the request rates of models are not restored",
        "learned.rs",
        "world.popularity.restore(now, *model, (*count, ago.saturating_add(down)));",
        "let _ = (count, ago);",
    ),
    mutant(
        "the late requests of starts are not restored",
        "economy.rs",
        "self.late_per_start =\n            profile.late_permille",
        "self.late_per_start_long =\n            profile.late_permille",
    ),
    mutant(
        "clients of a model that is not served are restored",
        "learned.rs",
        "learned.clients.iter().filter(|it| world.models.contains_key(&it.model))",
        "learned.clients.iter()",
    ),
];
