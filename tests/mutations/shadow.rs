//! Bugs in the validation of adapters after wrong results.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant(
        "an adapter answers right after a wrong result without shadow runs",
        "adapter.rs",
        "self.shadow_batches = SHADOW_BATCHES;",
        "",
    ),
    mutant(
        "any fault of an adapter leads to shadow runs",
        "adapter.rs",
        "if fault == Fault::WrongAnswer {",
        "if true {",
    ),
    mutant(
        "an adapter under validation answers although others can",
        "reliability.rs",
        "adapter.shadow_batches > 0 && world.adapters.iter().any(reliable)",
        "false",
    ),
    mutant(
        "an adapter under validation does not answer even if no other can",
        "reliability.rs",
        "adapter.shadow_batches > 0 && world.adapters.iter().any(reliable)",
        "adapter.shadow_batches > 0",
    ),
    mutant(
        "an adapter under validation answers instead of starting another",
        "reliability.rs",
        "a.state().is_on() || back || eligible::may_be_turned_on(world, *other, a)",
        "a.state().is_on()",
    ),
    mutant(
        "an adapter under validation answers while another starts",
        "reliability.rs",
        "a.state().is_on() || back || eligible::may_be_turned_on(world, *other, a)",
        "a.state().serves() || back || eligible::may_be_turned_on(world, *other, a)",
    ),
    mutant(
        "requests wait for an adapter that would exceed the maximum",
        "eligible.rs",
        "off && is_eligible(world, id) && on(world) < world.settings.max",
        "off && is_eligible(world, id)",
    ),
    mutant(
        "no adapter is started for rows that an adapter under validation must not answer",
        "scale.rs",
        "&& !reliability::must_shadow(world, *id, a, *model)",
        "",
    ),
    mutant(
        "an adapter under validation is turned on before a reliable one",
        "reliability.rs",
        "let good = |a: &Adapter| a.shadow_batches == 0 && is_reliable(world, a);",
        "let good = |a: &Adapter| is_reliable(world, a);",
    ),
    mutant(
        "an unreliable adapter is turned on before a reliable one",
        "reliability.rs",
        "let good = |a: &Adapter| a.shadow_batches == 0 && is_reliable(world, a);",
        "let good = |a: &Adapter| a.shadow_batches == 0;",
    ),
    mutant(
        "an adapter that drains does not count as able to answer",
        "reliability.rs",
        "let back = goes\n            &&",
        "let back = false &&",
    ),
    mutant(
        "no batch is repeated as a shadow run",
        "batches.rs",
        "    shadow::shadow(world, out, now, id, &batch);\n",
        "",
    ),
    mutant(
        "the answer of an adapter under validation is used for a shadow run",
        "shadow.rs",
        "world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0) || !owed",
        "!owed",
    ),
    mutant(
        "a batch with cancelled rows is repeated as a shadow run",
        "shadow.rs",
        "world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0) || !owed",
        "world.adapters.get(&by).is_none_or(|adapter| adapter.shadow_batches > 0)",
    ),
    mutant(
        "a shadow run uses an adapter that has not loaded the model",
        "shadow.rs",
        "a.shadow_batches > 0\n            && a.state().is_idle()\n            && holds",
        "a.shadow_batches > 0 && (holds || true) && a.state().is_idle()",
    ),
    mutant(
        "the count of shadow runs that remain does not decrease",
        "shadow.rs",
        "adapter.shadow_batches.saturating_sub(1)",
        "adapter.shadow_batches",
    ),
    mutant(
        "the outputs of a shadow run are used as answers",
        "batches.rs",
        "if batch.repeats.is_some() {",
        "if false {",
    ),
    mutant(
        "a lost shadow run is repeated",
        "lifecycle.rs",
        "    for batch in batches.iter().filter(|batch| batch.repeats.is_none()) {\n        requests::retry(world, out, batch, fault);",
        "    for batch in &batches {\n        requests::retry(world, out, batch, fault);",
    ),
    mutant(
        "the failure of a shadow run is handled as the failure of its requests",
        "batches.rs",
        "finished.filter(|done| done.batch.repeats.is_none())",
        "finished",
    ),
];
