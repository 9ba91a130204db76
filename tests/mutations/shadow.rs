//! Bugs in whether an adapter is trusted that computed wrongly.

use super::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("who computed wrongly answers at once", "lifecycle.rs", "adapter.trial = SHADOWED;", ""),
    mutant(
        "whoever failed is on trial",
        "lifecycle.rs",
        "if fault == Fault::WrongAnswer {",
        "if true {",
    ),
    mutant(
        "who is on trial answers beside others",
        "shadow.rs",
        "adapter.trial > 0 && self.adapters.iter().any(trusted)",
        "false",
    ),
    mutant(
        "who is on trial answers never",
        "shadow.rs",
        "adapter.trial > 0 && self.adapters.iter().any(trusted)",
        "adapter.trial > 0",
    ),
    mutant(
        "who is on trial answers where another would have to start",
        "shadow.rs",
        "a.state.is_on() || back || self.may_be_turned_on(*other, a)",
        "a.state.is_on()",
    ),
    mutant(
        "who is on trial answers while another starts",
        "shadow.rs",
        "a.state.is_on() || back || self.may_be_turned_on(*other, a)",
        "a.state.serves() || back || self.may_be_turned_on(*other, a)",
    ),
    mutant(
        "one that may not be on is waited for",
        "shadow.rs",
        "off && self.is_eligible(id) && self.on() < self.settings.max",
        "off && self.is_eligible(id)",
    ),
    mutant(
        "nobody is started for what one on trial must leave",
        "scale.rs",
        " && !self.is_on_trial(*id, a, *model)",
        "",
    ),
    mutant(
        "one on trial is turned on before one that can be trusted",
        "shadow.rs",
        "let good = |a: &Adapter| a.trial == 0 && self.is_trusted(a);",
        "let good = |a: &Adapter| self.is_trusted(a);",
    ),
    mutant(
        "who fails again and again is turned on before one that does not",
        "shadow.rs",
        "let good = |a: &Adapter| a.trial == 0 && self.is_trusted(a);",
        "let good = |a: &Adapter| a.trial == 0;",
    ),
    mutant(
        "one that is being let go counts for nothing",
        "shadow.rs",
        "let back = goes &&",
        "let back = false &&",
    ),
    mutant("nothing is repeated", "requests.rs", "        self.shadow(now, id, &batch);\n", ""),
    mutant(
        "one on trial is compared with another",
        "shadow.rs",
        "self.adapters.get(&by).is_none_or(|adapter| adapter.trial > 0) || !owed",
        "!owed",
    ),
    mutant(
        "what nobody waits for is repeated",
        "shadow.rs",
        "self.adapters.get(&by).is_none_or(|adapter| adapter.trial > 0) || !owed",
        "self.adapters.get(&by).is_none_or(|adapter| adapter.trial > 0)",
    ),
    mutant(
        "what is not loaded is repeated",
        "shadow.rs",
        "a.trial > 0 && a.is_idle() && holds",
        "a.trial > 0 && a.is_idle()",
    ),
    mutant("a trial never ends", "shadow.rs", "adapter.trial.saturating_sub(1)", "adapter.trial"),
    mutant(
        "what is repeated is answered again",
        "requests.rs",
        "        if batch.repeats.is_some() {",
        "        if false {",
    ),
    mutant(
        "what is repeated and lost runs again",
        "lifecycle.rs",
        "state.batch().filter(|batch| batch.repeats.is_none())",
        "state.batch()",
    ),
    mutant(
        "what is repeated and fails is told to those who asked",
        "requests.rs",
        "finished.filter(|(_, batch)| batch.repeats.is_none())",
        "finished",
    ),
];
