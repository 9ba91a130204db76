//! Bugs in bridges, in the latency that scheduling aims at, in light traffic, in the wait where
//! requests are late, and in starts ahead of regular clients.

use crate::{Mutant, mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    // Bridges.
    mutant(
        "a bridge turns off",
        "wait.rs",
        "adapter.profile.role == Role::Bridge && self.closing.is_none() && self.is_bridge(adapter)",
        "false",
    ),
    mutant(
        "a bridge counts for the minimum and the maximum",
        "scale.rs",
        "(adapter.profile.role == Role::Regular\n                || adapter.wish",
        "(adapter.profile.role != Role::Fallback\n                || adapter.wish",
    ),
    mutant("a bridge is not turned on", "scheduler.rs", "        self.keep_bridges(now);\n", ""),
    mutant(
        "a model that is slower than its target is bridged",
        "bridge.rs",
        "service.batch(1) * service.caution() <= profile.slo.as_secs_f64()",
        "true",
    ),
    mutant(
        "a bridge keeps a model that it does not serve",
        "loading.rs",
        "            self.drop_not_bridged(now, id);\n",
        "",
    ),
    mutant(
        "a model that no card can load is not served by a bridge",
        "bridge.rs",
        "            || !self.is_taken_by_regular(model)\n",
        "",
    ),
    mutant(
        "a bridge that does not serve a model is a place for it",
        "loading.rs",
        "                && self.may_play(adapter, model)\n",
        "",
    ),
    mutant(
        "a bridge does not measure models",
        "loading.rs",
        "let measures = self.is_to_be_measured(adapter, model);",
        "let measures = false;",
    ),
    mutant(
        "a bridge measures a model again that it has measured",
        "bridge.rs",
        "known.services.is_empty() && known.load.is_none()",
        "true",
    ),
    mutant(
        "a bridge does not replace adapters that are not usable",
        "bridge.rs",
        "            || self.is_bridged(adapter, model)\n            || self.stands_in()",
        "            || self.is_bridged(adapter, model)",
    ),
    mutant(
        "a bridge is on without an adapter to bridge",
        "bridge.rs",
        "adapter.present\n            && self.has_regular()",
        "adapter.present",
    ),
    mutant(
        "a bridge is turned on during shutdown",
        "bridge.rs",
        "if self.closing.is_some() || by_hand {",
        "if by_hand {",
    ),
    mutant(
        "rows that a bridge serves in time start another adapter",
        "cost.rs",
        "adapter.profile.role != Role::Fallback ||",
        "adapter.profile.role == Role::Regular ||",
    ),
    // The aim.
    mutant(
        "the aim ignores the time that adapters take",
        "target.rs",
        "least.map_or(slo, |seconds| slo.max(Duration::from_secs_f64((REACH * seconds).min(1e6))))",
        "slo",
    ),
    mutant(
        "the aim is shorter than the target",
        "target.rs",
        "slo.max(Duration::from_secs_f64((REACH * seconds).min(1e6)))",
        "Duration::from_secs_f64((REACH * seconds).min(1e6))",
    ),
    mutant(
        "a request aims at the time of one row",
        "target.rs",
        "self.least_time(model, size, rows)",
        "self.least_time(model, size, 1)",
    ),
    mutant(
        "a request is due after the time of one row",
        "admission.rs",
        "self.aim_for(model, arrival.shape.size, rows.max(1))",
        "self.aim(model)",
    ),
    mutant(
        "the aim expects help of adapters that the operator keeps off",
        "target.rs",
        "            && adapter.wish != Wish::Off\n",
        "",
    ),
    // Light traffic.
    mutant(
        "idle power is ignored under light traffic",
        "light.rs",
        " + idle_watts / self.arrivals.now(now).max(RATE_MIN)",
        "",
    ),
    mutant(
        "idle power counts under heavy traffic as under light traffic",
        "light.rs",
        "self.arrivals.now(now).max(RATE_MIN)",
        "RATE_MIN",
    ),
    mutant(
        "arrivals of long ago count as traffic",
        "light.rs",
        "self.rows_per_second * (-now.since(self.at).as_secs_f64() / AVERAGED).exp()",
        "self.rows_per_second",
    ),
    mutant(
        "an adapter that needed help is preferred",
        "light.rs",
        "late && self.needed_help(now, slot.adapter)",
        "false",
    ),
    mutant(
        "the need for help is never forgotten",
        "light.rs",
        "self.at.is_some_and(|at| now.0.as_secs_f64() - at < self.counts)\n",
        "self.at.is_some()\n",
    ),
    mutant(
        "the need for help is forgotten as soon each time",
        "light.rs",
        "if soon { longer }",
        "if false { longer }",
    ),
    mutant(
        "an adapter with late rows is not remembered to need help",
        "cost.rs",
        "            self.note_help(now, &served);\n",
        "",
    ),
    mutant(
        "light traffic is looked at where no start makes requests late",
        "light.rs",
        "fits.next().is_none()",
        "true",
    ),
    // The wait where requests are late.
    mutant(
        "late requests cost nothing",
        "wait.rs",
        "self.late_joules(adapter.late_requests())",
        "0.0",
    ),
    mutant("the penalty for late requests has no bound", "wait.rs", ".min(LATE_JOULES_MAX)", ""),
    mutant(
        "every start is taken to make requests late",
        "wait.rs",
        "if self.start_makes_late(id, adapter, start) {",
        "if true {",
    ),
    mutant(
        "no start is taken to make requests late",
        "wait.rs",
        "if self.start_makes_late(id, adapter, start) {",
        "if false {",
    ),
    mutant(
        "an adapter turns off sooner than its start takes",
        "wait.rs",
        "seconds.clamp(start.min(WAIT_MAX), WAIT_MAX)",
        "seconds.min(WAIT_MAX)",
    ),
    mutant(
        "the latency goal does not raise the penalty for late requests",
        "wait.rs",
        "{ LINGER } else { 1.0 }",
        "{ 1.0 } else { 1.0 }",
    ),
    mutant(
        "a start ahead of a client teaches how many requests a start makes late",
        "state.rs",
        "self.early || self.incarnation",
        "self.incarnation",
    ),
    // Starts ahead of regular clients.
    mutant(
        "a forecast needs no samples",
        "rhythm.rs",
        "if self.pauses.len() < ENOUGH {",
        "if false {",
    ),
    mutant(
        "a forecast is used whatever it costs",
        "rhythm.rs",
        "(cost < WORTH * waiting).then(",
        "true.then(",
    ),
    mutant(
        "a window of any width is a forecast",
        "rhythm.rs",
        "if high - low > WIDTH_MAX * low {",
        "if false {",
    ),
    mutant("a window has no margin", "rhythm.rs", "high + MARGIN + MARGIN_SHARE * high", "high"),
    mutant("an adapter turns off for a very short time", "rhythm.rs", "< SHORTEST {", "< 0.0 {"),
    mutant(
        "a client that found the adapter ready teaches what a miss costs",
        "rhythm.rs",
        "(!ready).then_some(0)",
        "Some(0)",
    ),
    mutant(
        "adapters start ahead where that is turned off",
        "ahead.rs",
        "        self.settings.ahead\n            && self.closing",
        "        self.closing",
    ),
    mutant("nothing is turned off early", "ahead.rs", "        self.let_go_early(now);\n", ""),
    mutant(
        "an adapter turns off early although another client may come",
        "ahead.rs",
        "if !all && !recent.clone().all(|(_, entry)| planned(entry)) {",
        "if false {",
    ),
    mutant(
        "the minimum turns off early",
        "ahead.rs",
        "if lets_go && self.on_for_good() > self.settings.min {",
        "if lets_go {",
    ),
    mutant(
        "an adapter that the operator keeps on turns off early",
        "ahead.rs",
        "                    && adapter.wish == Wish::Auto\n",
        "",
    ),
    mutant(
        "an adapter starts when the client is there",
        "ahead.rs",
        "Time(window.from.0.saturating_sub(lead)).max(now)",
        "window.until",
    ),
    mutant(
        "an adapter that started ahead turns off before the client comes",
        "wait.rs",
        "Some(expected) if adapter.early && !adapter.served => expected.until,",
        "Some(expected) if adapter.early && !adapter.served => since,",
    ),
    mutant(
        "an adapter that started ahead waits on for a client that did not come",
        "wait.rs",
        "Some(expected) if adapter.early && !adapter.served => expected.until,",
        "Some(expected) if adapter.early && !adapter.served => until.max(expected.until),",
    ),
    mutant(
        "the end of a plan is not waited for",
        "scheduler.rs",
        ".chain(self.ahead_due()).min()",
        ".min()",
    ),
    mutant(
        "a card starts at once after one spell that was too much for the bridge",
        "bridge.rs",
        "const SHORT_FROM: f64 = 0.7;",
        "const SHORT_FROM: f64 = 0.4;",
    ),
    mutant(
        "that a bridge fell short is forgotten",
        "bridge.rs",
        "self.bridge_spells.short = short;",
        "let _ = short;",
    ),
    mutant(
        "spells that a card served count for the bridge",
        "bridge.rs",
        "if self.counts {",
        "if true {",
    ),
    mutant(
        "a bridge that fell short is still waited for",
        "cost.rs",
        "!(short && self.is_on_bridge(slot))",
        "!(false && self.is_on_bridge(slot))",
    ),
];
