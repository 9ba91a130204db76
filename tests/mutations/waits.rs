//! Bugs in waits and misses that the `cost` policy learns, and in takeovers between adapters.

use crate::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "the price of misses does not lengthen the wait",
        "start_cost.rs",
        "world.late_price.price() * adapter.economy.late_per_start_long",
        "0.0",
    ),
    mutant(
        "the requests that a start makes late are not learned",
        "economy.rs",
        "LATE_GAIN * (self.late_this_start - self.late_per_start)",
        "0.0",
    ),
    mutant(
        "the price of a miss has no upper bound",
        "late_price.rs",
        "self.theta.min(PRICED_MAX)",
        "self.theta",
    ),
    mutant(
        "misses without a start do not reduce the allowed share",
        "late_price.rs",
        "(ALLOWED - self.others)",
        "(ALLOWED - OTHERS)",
    ),
    mutant(
        "a late request is attributed in full to each adapter that starts",
        "late_requests.rs",
        "rate / sum;",
        "1.0;",
    ),
    mutant(
        "a start counts as the cause of late requests that arrived after it",
        "late_requests.rs",
        "|| adapter.ready > request.arrived",
        "|| true",
    ),
    mutant(
        "the price of misses is bounded below the break-even wait",
        "wait.rs",
        "let most = most.max(break_even);",
        "let most = most.min(1.0);",
    ),
    mutant(
        "the waits learned from idle periods are not used",
        "wait.rs",
        "adapter.economy.idle_periods.wait().unwrap_or(1.0)",
        "1.0",
    ),
    mutant(
        "the latency goal turns adapters off as soon as the other goals",
        "wait.rs",
        "{\n        LINGER\n    } else {",
        "{\n        1.0\n    } else {",
    ),
    mutant(
        "the latency goal does not start the fastest adapter",
        "cost.rs",
        "return own < others;",
        "return own > others;",
    ),
    mutant(
        "waits are learned from too few idle periods",
        "idle_periods.rs",
        "self.periods.len() >= ENOUGH",
        "true",
    ),
    mutant(
        "the number of recorded idle periods has no bound",
        "idle_periods.rs",
        "if self.periods.len() == REMEMBERED {",
        "if false {",
    ),
    mutant(
        "a start costs nothing when waits are compared",
        "idle_periods.rs",
        "{ wait + break_even };",
        "{ wait };",
    ),
    mutant(
        "an idle period that has ended continues",
        "economy.rs",
        "self.no_work_since.take()",
        "self.no_work_since",
    ),
    mutant("no adapter takes over", "replace.rs", "if saved <= price", "if true"),
    mutant(
        "an adapter takes over before it would have saved the cost of its start",
        "replace.rs",
        "if saved <= price",
        "if false",
    ),
    mutant(
        "an adapter takes over after too short an observation",
        "replace.rs",
        "|| adapter.economy.savings.lasted() < OBSERVED",
        "",
    ),
    mutant(
        "an adapter takes over during shutdown",
        "replace.rs",
        "if world.closing.is_some() {",
        "if false {",
    ),
    mutant(
        "an adapter with a higher energy per row takes over",
        "replace.rs",
        "energy_rank::rank(world, now, &own, late) >= energy_rank::rank(world, now, slot, late)",
        "false",
    ),
    mutant(
        "an adapter that cannot carry the load takes over",
        "replace.rs",
        "let carried = lasted < OBSERVED",
        "let carried = true || lasted < OBSERVED",
    ),
    mutant(
        "old savings count for a takeover",
        "replace.rs",
        "passed > recent || savings.until",
        "savings.until",
    ),
    mutant(
        "the latency goal routes by energy",
        "world.rs",
        "Some(Goal::Balanced | Goal::Energy)",
        "Some(_)",
    ),
    mutant("no slack is kept for a start", "plan.rs", "+ reserve(world, first.key.model)", ""),
    mutant(
        "misses do not make a start earlier",
        "plan.rs",
        "slack * (1.0 - world.late_price.theta / THETA_LAZY).max(0.0)",
        "slack",
    ),
    mutant(
        "a start never waits",
        "cost.rs",
        "if !unmet.drain.is_finite() && at > now {",
        "if false {",
    ),
    mutant(
        "no wake-up is scheduled for a start that waits",
        "scheduler.rs",
        "self.world.recheck_at.into_iter().chain(self.world.start_at)",
        "self.world.recheck_at.into_iter()",
    ),
    mutant(
        "another adapter starts for rows that wait for a planned start",
        "scale.rs",
        "if world.start_at.is_some() {",
        "if false {",
    ),
];
