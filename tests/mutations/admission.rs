//! Bugs in the admission of requests.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "a request that cannot be answered in time is not rejected at its arrival",
        "admission.rs",
        "rows_up_to(world, order, arrival, &slots, most) as f64 > most",
        "false",
    ),
    mutant(
        "rows that are due later count as waiting before a request",
        "queue.rs",
        "own.range(..place)",
        "own.range(..)",
    ),
    mutant(
        "all rows of other clients count as waiting before a request",
        "admission.rs",
        "own.saturating_mul(world.queue.clients_beside(model, client) + 1).min(all)",
        "all",
    ),
    mutant(
        "rows of other clients do not count as waiting before a request",
        "admission.rs",
        "own.saturating_mul(world.queue.clients_beside(model, client) + 1).min(all)",
        "own.min(all)",
    ),
    mutant(
        "a request of a high priority is rejected due to the rows that wait",
        "admission.rs",
        "order.priority < Arrival::PRIORITY_DEFAULT || !measured",
        "!measured",
    ),
    mutant(
        "a request is rejected at its arrival although an adapter was never measured",
        "admission.rs",
        "order.priority < Arrival::PRIORITY_DEFAULT || !measured || slow",
        "order.priority < Arrival::PRIORITY_DEFAULT || slow",
    ),
    mutant(
        "a request that would be late without any load is rejected as an overload",
        "admission.rs",
        "!measured || slow",
        "!measured",
    ),
    mutant(
        "an adapter that can be turned on does not count as capacity",
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
        "a rejection due to overload has no retry time",
        "admission.rs",
        "let drain = drain(world, now);\n        out.reject(arrival.request, Reject::Overload",
        "let drain = Duration::ZERO;\n        out.reject(arrival.request, Reject::Overload",
    ),
    mutant(
        "a request is admitted without a margin before its deadline",
        "admission.rs",
        "rows_by(&slots, left * SURE)",
        "rows_by(&slots, left)",
    ),
];
