//! Bugs in what the `cost` policy learns of waits and misses, and in who takes over from whom.

use crate::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("misses buy no patience", "cost.rs", "self.misses.price() * adapter.misses", "0.0"),
    mutant(
        "what a start makes miss is not learned",
        "scale.rs",
        "MISSES_GAIN * (adapter.missed - adapter.misses)",
        "0.0",
    ),
    mutant("a miss has no greatest price", "misses.rs", "self.theta.min(PRICED_MAX)", "self.theta"),
    mutant(
        "misses for other reasons are not allowed for",
        "misses.rs",
        "(ALLOWED - self.others)",
        "(ALLOWED - OTHERS)",
    ),
    mutant("each that starts takes all the blame", "misses.rs", "rate / sum;", "1.0;"),
    mutant(
        "a start is to blame for what came later",
        "misses.rs",
        "|| adapter.ready > request.arrived",
        "|| true",
    ),
    mutant(
        "misses keep adapters for ever",
        "cost.rs",
        "let wait = wait.min(most)",
        "let wait = wait.max(0.0)",
    ),
    mutant(
        "what is learned of waits is not used",
        "cost.rs",
        "adapter.spells.wait().unwrap_or(1.0)",
        "1.0",
    ),
    mutant("the latency goal lets go as soon as others", "cost.rs", "{ LINGER }", "{ 1.0 }"),
    mutant(
        "the latency goal starts the cheapest",
        "cost.rs",
        "return own < others;",
        "return own > others;",
    ),
    mutant("waits are learned of a few spells", "spells.rs", "self.lasted.len() >= ENOUGH", "true"),
    mutant(
        "spells are remembered for ever",
        "spells.rs",
        "if self.lasted.len() == REMEMBERED {",
        "if false {",
    ),
    mutant(
        "a start costs nothing when waits are compared",
        "spells.rs",
        "{ wait + break_even };",
        "{ wait };",
    ),
    mutant("a spell that has ended goes on", "state.rs", "self.workless.take()", "self.workless"),
    mutant("nobody takes over", "replace.rs", "if saved <= price", "if true"),
    mutant("who takes over need not have paid", "replace.rs", "if saved <= price", "if false"),
    mutant(
        "a moment is enough to take over",
        "replace.rs",
        "|| adapter.regret.lasted() < OBSERVED",
        "",
    ),
    mutant(
        "somebody takes over on the way down",
        "replace.rs",
        "if self.closing.is_some() {",
        "if false {",
    ),
    mutant(
        "who is dearer takes over",
        "replace.rs",
        "self.row_joules(&own) >= self.row_joules(slot)",
        "false",
    ),
    mutant(
        "who cannot carry it takes over",
        "replace.rs",
        "let carried = lasted < OBSERVED",
        "let carried = true || lasted < OBSERVED",
    ),
    mutant("what was long ago counts", "replace.rs", "if passed > RECENT {", "if false {"),
    mutant(
        "the latency goal routes by energy",
        "plan.rs",
        "Some(Goal::Balanced | Goal::Energy)",
        "Some(_)",
    ),
    mutant("no slack is kept for a start", "plan.rs", "+ self.reserve(first.lane.model)", ""),
    mutant(
        "misses do not make a start hurry",
        "plan.rs",
        "slack * (1.0 - self.misses.theta / THETA_LAZY).max(0.0)",
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
        "self.look_again.into_iter().chain(self.start_at)",
        "self.look_again.into_iter()",
    ),
    mutant(
        "whoever waits for a start gets another",
        "scale.rs",
        "if self.start_at.is_some() {",
        "if false {",
    ),
];
