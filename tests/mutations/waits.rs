//! Bugs in what the `cost` policy learns of waits and misses, and in who takes over from whom.

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
        "a miss has no greatest price",
        "late_price.rs",
        "self.theta.min(PRICED_MAX)",
        "self.theta",
    ),
    mutant(
        "misses for other reasons are not allowed for",
        "late_price.rs",
        "(ALLOWED - self.others)",
        "(ALLOWED - OTHERS)",
    ),
    mutant("each that starts takes all the blame", "late_requests.rs", "rate / sum;", "1.0;"),
    mutant(
        "a start is to blame for what came later",
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
        "the latency goal turns off as soon as the other goals",
        "wait.rs",
        "{\n        LINGER\n    } else {",
        "{\n        1.0\n    } else {",
    ),
    mutant(
        "the latency goal starts the cheapest",
        "cost.rs",
        "return own < others;",
        "return own > others;",
    ),
    mutant(
        "waits are learned of a few spells",
        "idle_periods.rs",
        "self.periods.len() >= ENOUGH",
        "true",
    ),
    mutant(
        "spells are remembered for ever",
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
        "a spell that has ended goes on",
        "economy.rs",
        "self.no_work_since.take()",
        "self.no_work_since",
    ),
    mutant("nobody takes over", "replace.rs", "if saved <= price", "if true"),
    mutant("who takes over need not have paid", "replace.rs", "if saved <= price", "if false"),
    mutant(
        "a moment is enough to take over",
        "replace.rs",
        "|| adapter.economy.savings.lasted() < OBSERVED",
        "",
    ),
    mutant(
        "somebody takes over on the way down",
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
        "who cannot carry it takes over",
        "replace.rs",
        "let carried = lasted < OBSERVED",
        "let carried = true || lasted < OBSERVED",
    ),
    mutant(
        "savings of long ago count for a takeover",
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
        "misses do not make a start hurry",
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
        "a start that waits is forgotten",
        "scheduler.rs",
        "self.world.recheck_at.into_iter().chain(self.world.start_at)",
        "self.world.recheck_at.into_iter()",
    ),
    mutant(
        "whoever waits for a start gets another",
        "scale.rs",
        "if world.start_at.is_some() {",
        "if false {",
    ),
];
