//! One decision with its text for every reason, for the tests of the page.

use super::decision::{DecisionNames, decision_view};
use schedule::{AdapterId, Change, Decision, Fault, ModelId, Reason, Time};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The decisions that `tests/dashboard/words.test.mjs` shows on the page.
const KEPT: &str = include_str!("../../tests/dashboard/reasons.json");
const SOURCE: &str = include_str!("../schedule/decision.rs");

const MODEL: ModelId = ModelId(0);
const START_MJ: u64 = 65_600;

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn latency(drain: Option<Duration>, waited: Duration, ready_in: Duration) -> Reason {
    Reason::LatencyTarget { model: MODEL, rows: 14, drain, waited, target: ms(100), ready_in }
}

fn on() -> Vec<(Change, Reason)> {
    let expected =
        |announced| Reason::Expected { model: MODEL, from: at(2), until: at(9), announced };
    let saved = Reason::Cheaper { saved_mj: 70_000, start_mj: START_MJ, lasted: ms(3000) };
    let starts = [
        Reason::Backlog { rows: 9, requests: 3, target: 2, wanted: 4, on: 1 },
        latency(Some(ms(820)), ms(0), ms(1900)),
        latency(None, ms(0), ms(1900)),
        Reason::Min { min: 1, on: 0 },
        saved,
        Reason::Demand { rows: 1 },
        Reason::Bridge,
        expected(true),
        expected(false),
        Reason::Operator,
    ];
    let warm = latency(Some(ms(820)), ms(40), ms(0));
    starts
        .map(|reason| (Change::Start, reason))
        .into_iter()
        .chain([(Change::Resume, warm)])
        .collect()
}

fn off() -> Vec<(Change, Reason)> {
    let idle = |late_mj| Reason::BreakEven { unneeded: ms(41_000), start_mj: START_MJ, late_mj };
    let drains = [
        Reason::IdleSurplus { rows: 1, wanted: 1, on: 2, lasted: ms(10_000) },
        idle(0),
        idle(750_000),
        Reason::NotExpected { until: at(580) },
        Reason::DidNotCome,
        Reason::Served,
        Reason::Fallback,
        Reason::Shutdown,
    ];
    let faults = [
        Fault::Crashed,
        Fault::HeartbeatTimeout,
        Fault::StartStuck,
        Fault::RunStuck,
        Fault::Device,
        Fault::Memory,
        Fault::WrongAnswer,
        Fault::Protocol,
        Fault::InUse,
    ];
    let fault = |fault| Reason::Fault { fault, consecutive_faults: 2, backoff: ms(4000) };
    let quarantines =
        faults.map(fault).into_iter().chain([Reason::OutOfMemory, Reason::Environment]);
    let drains = drains.map(|reason| (Change::Drain, reason));
    drains.into_iter().chain(quarantines.map(|reason| (Change::Quarantine, reason))).collect()
}

fn models() -> Vec<(Change, Reason)> {
    vec![
        (Change::Load(MODEL), Reason::Ahead),
        (Change::Unload(MODEL), Reason::NotBridged),
        (Change::Unload(MODEL), Reason::Memory { needed: 900 << 20, free: 100 << 20 }),
        (Change::Unload(MODEL), Reason::MemoryBudget { held: 900 << 20, budget: 100 << 20 }),
        (Change::Unload(MODEL), Reason::Withdrawn),
    ]
}

fn view((change, reason): (Change, Reason)) -> Value {
    let decision = Decision { at: Time::default(), adapter: AdapterId(0), change, reason };
    let model = |_: ModelId| "digits".to_owned();
    let names = DecisionNames { adapter: String::new(), fault: None, model: &model };
    let view = decision_view(0, &decision, names);
    json!({ "change": view.change.as_str(), "model": view.model, "reason": view.reason.as_str(), "text": view.text })
}

/// The names in `Reason::as_str`.
fn names_in_source() -> BTreeSet<&'static str> {
    let arms = SOURCE.lines().filter(|line| line.trim_start().starts_with("Reason::"));
    let names = arms.filter_map(|line| line.split_once("=> \"")?.1.split('"').next());
    names.collect()
}

#[test]
fn every_reason_is_among_those_that_the_page_is_tested_with() {
    let all: Vec<Value> = [on(), off(), models()].concat().into_iter().map(view).collect();
    let names: BTreeSet<_> = all.iter().filter_map(|it| it["reason"].as_str()).collect();
    assert_eq!(names, names_in_source());
    assert!(names.len() > 20, "{names:?}");
    let kept: Vec<Value> = serde_json::from_str(KEPT).unwrap();
    let now = serde_json::to_string_pretty(&all).unwrap();
    assert!(kept == all, "put this into tests/dashboard/reasons.json:\n{now}");
}
