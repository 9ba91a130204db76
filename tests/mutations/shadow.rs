//! Bugs in whether an adapter is trusted that computed wrongly.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "who computed wrongly answers at once",
        "adapter.rs",
        "self.shadow_batches = SHADOW_BATCHES;",
        "",
    ),
    mutant(
        "whoever failed is on trial",
        "adapter.rs",
        "if fault == Fault::WrongAnswer {",
        "if true {",
    ),
    mutant(
        "who is on trial answers beside others",
        "reliability.rs",
        "adapter.shadow_batches > 0 && world.adapters.iter().any(reliable)",
        "false",
    ),
    mutant(
        "who is on trial answers never",
        "reliability.rs",
        "adapter.shadow_batches > 0 && world.adapters.iter().any(reliable)",
        "adapter.shadow_batches > 0",
    ),
    mutant(
        "who is on trial answers where another would have to start",
        "reliability.rs",
        "a.state().is_on() || back || eligible::may_be_turned_on(world, *other, a)",
        "a.state().is_on()",
    ),
    mutant(
        "who is on trial answers while another starts",
        "reliability.rs",
        "a.state().is_on() || back || eligible::may_be_turned_on(world, *other, a)",
        "a.state().serves() || back || eligible::may_be_turned_on(world, *other, a)",
    ),
    mutant(
        "one that may not be on is waited for",
        "eligible.rs",
        "off && is_eligible(world, id) && on(world) < world.settings.max",
        "off && is_eligible(world, id)",
    ),
    mutant(
        "nobody is started for what one on trial must leave",
        "scale.rs",
        "&& !reliability::must_shadow(world, *id, a, *model)",
        "",
    ),
    mutant(
        "one on trial is turned on before one that can be trusted",
        "reliability.rs",
        "let good = |a: &Adapter| a.shadow_batches == 0 && is_reliable(world, a);",
        "let good = |a: &Adapter| is_reliable(world, a);",
    ),
    mutant(
        "who fails again and again is turned on before one that does not",
        "reliability.rs",
        "let good = |a: &Adapter| a.shadow_batches == 0 && is_reliable(world, a);",
        "let good = |a: &Adapter| a.shadow_batches == 0;",
    ),
    mutant(
        "one that is being let go counts for nothing",
        "reliability.rs",
        "let back = goes\n            &&",
        "let back = false &&",
    ),
    mutant(
        "nothing is repeated",
        "batches.rs",
        "    shadow::shadow(world, out, now, id, &batch);\n",
        "",
    ),
    mutant(
        "one on trial is compared with another",
        "shadow.rs",
        "world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0) || !owed",
        "!owed",
    ),
    mutant(
        "what nobody waits for is repeated",
        "shadow.rs",
        "world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0) || !owed",
        "world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0)",
    ),
    mutant(
        "what is not loaded is repeated",
        "shadow.rs",
        "a.shadow_batches > 0\n            && a.state().is_idle()\n            && holds",
        "a.shadow_batches > 0 && (holds || true) && a.state().is_idle()",
    ),
    mutant(
        "a trial never ends",
        "shadow.rs",
        "adapter.shadow_batches.saturating_sub(1)",
        "adapter.shadow_batches",
    ),
    mutant(
        "what is repeated is answered again",
        "batches.rs",
        "if batch.repeats.is_some() {",
        "if false {",
    ),
    mutant(
        "what is repeated and lost runs again",
        "lifecycle.rs",
        "    for batch in batches.iter().filter(|batch| batch.repeats.is_none()) {\n        requests::retry(world, out, batch, fault);",
        "    for batch in &batches {\n        requests::retry(world, out, batch, fault);",
    ),
    mutant(
        "what is repeated and fails is told to those who asked",
        "batches.rs",
        "finished.filter(|done| done.batch.repeats.is_none())",
        "finished",
    ),
];
