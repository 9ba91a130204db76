//! Bugs in whether to take a request in.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "who cannot be answered in time waits until it is late",
        "admission.rs",
        "rows_up_to(world, order, arrival, &slots, most) as f64 > most",
        "false",
    ),
    mutant(
        "what is due later counts as waiting before",
        "queue.rs",
        "own.range(..place)",
        "own.range(..)",
    ),
    mutant(
        "all that others wait for goes before",
        "admission.rs",
        "own.saturating_mul(world.queue.clients_beside(model, client) + 1).min(all)",
        "all",
    ),
    mutant(
        "others have no turns",
        "admission.rs",
        "own.saturating_mul(world.queue.clients_beside(model, client) + 1).min(all)",
        "own.min(all)",
    ),
    mutant(
        "the urgent are turned away by what waits",
        "admission.rs",
        "order.priority < Arrival::PRIORITY_DEFAULT || !measured",
        "!measured",
    ),
    mutant(
        "who was never measured is thought to be known",
        "admission.rs",
        "order.priority < Arrival::PRIORITY_DEFAULT || !measured || slow",
        "order.priority < Arrival::PRIORITY_DEFAULT || slow",
    ),
    mutant(
        "who is slow alone is told that others are to blame",
        "admission.rs",
        "!measured || slow",
        "!measured",
    ),
    mutant(
        "who can be turned on does not count",
        "slots.rs",
        "if off && eligible::is_eligible(world, *id) && eligible::takes(world, adapter, model) {",
        "if false {",
    ),
    mutant(
        "turning on takes no time",
        "slots.rs",
        "let free = adapter.cold_start() + estimates::load_time(world, *id, model);",
        "let free = 0.0;",
    ),
    mutant(
        "who is turned away by what waits is not told how long",
        "admission.rs",
        "let drain = drain(world, now);\n        out.reject(arrival.request, Reject::Overload",
        "let drain = Duration::ZERO;\n        out.reject(arrival.request, Reject::Overload",
    ),
    mutant(
        "who is only just in time if all goes well is let in",
        "admission.rs",
        "rows_by(&slots, left * SURE)",
        "rows_by(&slots, left)",
    ),
];
