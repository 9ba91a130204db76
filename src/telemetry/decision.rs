//! Texts of decisions for operators.

use super::snapshot::DecisionView;
use schedule::{Change, Decision, Fault, ModelId, Reason, Time};
use std::time::Duration;

/// A shorter wait is not mentioned.
const MENTIONED: Duration = Duration::from_millis(1);

/// Names in place of the numbers in a decision.
pub struct DecisionNames<'a> {
    pub adapter: String,
    /// The adapter's last fault as text.
    pub fault: Option<&'a str>,
    /// The name of a model.
    pub model: &'a dyn Fn(ModelId) -> String,
}

/// Returns the representation of a decision in the snapshot and the log.
pub fn decision_view(seq: u64, decision: &Decision, names: DecisionNames<'_>) -> DecisionView {
    let model = match decision.change {
        Change::Load(model) | Change::Unload(model) => Some((names.model)(model)),
        Change::Start | Change::Drain | Change::Resume | Change::Quarantine => None,
    };
    DecisionView {
        seq,
        at_ms: u64::try_from(decision.at.0.as_millis()).unwrap_or(u64::MAX),
        text: text(&decision.reason, decision.at, &names),
        adapter: names.adapter,
        change: decision.change,
        model,
        reason: decision.reason,
    }
}

fn text(reason: &Reason, at: Time, names: &DecisionNames<'_>) -> String {
    match *reason {
        Reason::Backlog { rows, requests, target, wanted, on } => format!(
            "{} in {} outstanding, target {target} per adapter: {} needed, {on} on",
            count(rows, "row"),
            count(requests, "request"),
            count(wanted as u64, "adapter")
        ),
        Reason::LatencyTarget { model, rows, drain, waited, target, ready_in } => {
            let queued = format!("{} of {}", count(rows, "row"), (names.model)(model));
            latency_text(&queued, (drain, waited), target, ready_in)
        }
        Reason::Min { min, on } => format!("minimum: {}, {on} on", count(min as u64, "adapter")),
        Reason::IdleSurplus { rows, wanted, on, lasted } => format!(
            "only {wanted} of {on} active adapters needed for {}; {} outstanding",
            time(lasted),
            count(rows, "row")
        ),
        Reason::BreakEven { unneeded, start_mj, late_mj } => {
            break_even_text(unneeded, start_mj, late_mj)
        }
        Reason::Bridge => "serves while other adapters start; uses no energy while idle".to_owned(),
        Reason::NotBridged => {
            "slower than its latency target on this adapter; loaded only to be measured".to_owned()
        }
        Reason::Expected { model, from, until, announced } => format!(
            "{}; expected {} to {} after this decision",
            expected_text(&(names.model)(model), true, announced),
            time(from.since(at)),
            time(until.since(at))
        ),
        Reason::NotExpected { until } => {
            format!("idle, and no client is expected for the next {}", time(until.since(at)))
        }
        Reason::DidNotCome => "the expected client sent no request".to_owned(),
        Reason::Served => "idle; the clients that announced their requests were served".to_owned(),
        Reason::Cheaper { saved_mj, start_mj, lasted } => format!(
            "saves energy: {} less for the work of other adapters in the last {}; a start costs {}",
            joules(saved_mj),
            time(lasted),
            joules(start_mj)
        ),
        Reason::Demand { rows } => format!("{} waiting for the model", count(rows, "row")),
        Reason::Ahead => "loaded ahead of requests while the adapter is idle".to_owned(),
        Reason::Memory { needed, free } => {
            format!("another model needs {}; {} are free", bytes(needed), bytes(free))
        }
        Reason::MemoryBudget { held, budget } => format!(
            "other programs need the memory: models use {}, their budget is {}",
            bytes(held),
            bytes(budget)
        ),
        Reason::Withdrawn => "the model is not served any more".to_owned(),
        Reason::Operator => "requested by the operator".to_owned(),
        Reason::Fault { fault, consecutive_faults: n, backoff } => {
            fault_text(fault, names, n, backoff)
        }
        Reason::OutOfMemory => {
            let cause = names.fault.unwrap_or("worker was killed");
            format!("{cause}; not a fault of the adapter")
        }
        Reason::Environment => {
            let cause = names.fault.unwrap_or("worker process failed to start");
            format!("{cause}; not a fault of the adapter")
        }
        Reason::Fallback => "another adapter serves again".to_owned(),
        Reason::Shutdown => "the server is shutting down".to_owned(),
    }
}

/// Returns the reason why requests for a model are expected, from one client or from all together.
pub fn expected_text(model: &str, is_one: bool, announced: bool) -> String {
    match (is_one, announced) {
        (true, true) => format!("a client of {model} announced its request"),
        (true, false) => format!("a client of {model} sends requests regularly"),
        (false, _) => format!("requests for {model} arrive regularly"),
    }
}

fn break_even_text(unneeded: Duration, start_mj: u64, late_mj: u64) -> String {
    let (unneeded, start) = (time(unneeded), joules(start_mj));
    match late_mj {
        0 => format!("idle for {unneeded}, which cost as much energy as a start ({start})"),
        _ => format!(
            "idle for {unneeded}; a start costs {start} plus a penalty of {} for late requests",
            joules(late_mj)
        ),
    }
}

fn joules(millijoules: u64) -> String {
    format!("{:.0} J", millijoules as f64 * 1e-3)
}

fn latency_text(
    queued: &str,
    (drain, waited): (Option<Duration>, Duration),
    target: Duration,
    ready_in: Duration,
) -> String {
    let served = match drain {
        // Rows that waited for a start may be late although they are served soon.
        Some(drain) if waited >= MENTIONED => {
            format!("had waited at least {} and needed {} more", time(waited), time(drain))
        }
        Some(drain) => format!("needed {} on the active adapters", time(drain)),
        None => "had no active adapter".to_owned(),
    };
    let ready = if ready_in.is_zero() {
        "already warm".to_owned()
    } else {
        format!("ready in about {}", time(ready_in))
    };
    format!("{queued} {served}; target {}; {ready}", time(target))
}

fn fault_text(fault: Fault, names: &DecisionNames<'_>, faults: u32, backoff: Duration) -> String {
    let cause = match names.fault {
        Some(detail) => format!("{} ({detail})", fault_label(fault)),
        None => fault_label(fault).to_owned(),
    };
    format!("{cause}; consecutive faults: {faults}; next try in {}", time(backoff))
}

fn fault_label(fault: Fault) -> &'static str {
    match fault {
        Fault::Crashed => "worker ended unexpectedly",
        Fault::HeartbeatTimeout => "worker heartbeat timed out",
        Fault::StartStuck => "start timed out",
        Fault::RunStuck => "batch timed out",
        Fault::Device => "device failed",
        Fault::Memory => "out of memory",
        Fault::WrongAnswer => "device computed wrong results",
        Fault::Protocol => "worker violated the protocol",
        Fault::InUse => "in use by another server",
    }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Milliseconds below one second, seconds above.
fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

fn bytes(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{bytes} bytes") } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schedule::AdapterId;

    fn model_and_text(change: Change, reason: Reason) -> (Option<String>, String) {
        let decision = Decision { at: Time::default(), adapter: AdapterId(0), change, reason };
        let model = |_: ModelId| "digits".to_owned();
        let names = DecisionNames { adapter: "pci-1".to_owned(), fault: None, model: &model };
        let view = decision_view(1, &decision, names);
        (view.model, view.text)
    }

    #[test]
    fn text_of_a_start_contains_rows_and_estimated_time() {
        let ms = Duration::from_millis;
        let (model, drain, target) = (ModelId(0), Some(ms(820)), ms(100));
        let (waited, ready_in) = (Duration::ZERO, ms(1900));
        let reason = Reason::LatencyTarget { model, rows: 14, drain, waited, target, ready_in };
        let expected = "14 rows of digits needed 820 ms on the active adapters; target 100 ms; \
                        ready in about 1.9 s";
        assert_eq!(model_and_text(Change::Start, reason), (None, expected.to_owned()));
    }

    #[test]
    fn text_of_a_start_contains_the_time_that_rows_waited() {
        let ms = Duration::from_millis;
        let (model, drain, target) = (ModelId(0), Some(ms(2)), ms(100));
        let (waited, ready_in) = (ms(99), Duration::ZERO);
        let reason = Reason::LatencyTarget { model, rows: 8, drain, waited, target, ready_in };
        let expected = "8 rows of digits had waited at least 99 ms and needed 2 ms more; target 100 ms; \
                        already warm";
        assert_eq!(model_and_text(Change::Start, reason).1, expected);
    }

    #[test]
    fn text_of_a_stop_contains_the_costs_of_a_start() {
        let unneeded = Duration::from_secs(41);
        let text_of = |late_mj| {
            model_and_text(Change::Drain, Reason::BreakEven { unneeded, start_mj: 65_600, late_mj })
                .1
        };
        assert_eq!(text_of(0), "idle for 41.0 s, which cost as much energy as a start (66 J)");
        let late = "idle for 41.0 s; a start costs 66 J plus a penalty of 750 J for late requests";
        assert_eq!(text_of(750_000), late);
    }

    #[test]
    fn text_of_a_start_ahead_contains_the_expected_client() {
        let at = |seconds| Time(Duration::from_secs(seconds));
        for (announced, why) in
            [(true, "announced its request"), (false, "sends requests regularly")]
        {
            let (model, from, until) = (ModelId(0), at(2), at(9));
            let reason = Reason::Expected { model, from, until, announced };
            let expected =
                format!("a client of digits {why}; expected 2.0 s to 9.0 s after this decision");
            assert_eq!(model_and_text(Change::Start, reason).1, expected);
        }
        let reason = Reason::NotExpected { until: at(580) };
        let expected = "idle, and no client is expected for the next 580.0 s";
        assert_eq!(model_and_text(Change::Drain, reason).1, expected);
    }

    #[test]
    fn text_of_a_replacement_contains_the_saved_energy() {
        let lasted = Duration::from_secs(3);
        let reason = Reason::Cheaper { saved_mj: 52_400, start_mj: 49_000, lasted };
        let expected = "saves energy: 52 J less for the work of other adapters in the last 3.0 s; \
                        a start costs 49 J";
        assert_eq!(model_and_text(Change::Start, reason).1, expected);
    }

    #[test]
    fn text_of_a_load_ahead_does_not_mention_requests_that_wait() {
        let (_, text) = model_and_text(Change::Load(ModelId(0)), Reason::Ahead);
        assert_eq!(text, "loaded ahead of requests while the adapter is idle");
    }

    #[test]
    fn text_of_a_load_contains_the_model() {
        let (model, text) = model_and_text(Change::Load(ModelId(0)), Reason::Demand { rows: 1 });
        assert_eq!((model.as_deref(), &text[..]), (Some("digits"), "1 row waiting for the model"));
    }
}
