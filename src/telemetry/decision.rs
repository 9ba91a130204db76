//! Decisions in words that an operator understands.

use super::snapshot::DecisionView;
use schedule::{Change, Decision, Fault, ModelId, Reason, Time};
use std::time::Duration;

/// A shorter wait is not worth a word.
const MENTIONED: Duration = Duration::from_millis(1);

/// Names for what a decision only knows by number.
pub struct DecisionNames<'a> {
    pub adapter: String,
    /// The adapter's last fault in words.
    pub fault: Option<&'a str>,
    /// The name of a model.
    pub model: &'a dyn Fn(ModelId) -> String,
}

/// What is shown and logged of a decision.
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
            "{} in {} outstanding, {target} wanted per adapter: {wanted} should be on, {on} are",
            count(rows, "row"),
            count(requests, "request")
        ),
        Reason::LatencyTarget { model, rows, drain, waited, target, ready_in } => {
            let waiting = format!("{} of {} waiting", count(rows, "row"), (names.model)(model));
            latency_text(&waiting, (drain, waited), target, ready_in)
        }
        Reason::Min { min, on } => format!("at least {min} must be on, {on} are"),
        Reason::IdleSurplus { rows, wanted, on, lasted } => format!(
            "only {wanted} of the {on} that are on were wanted for {}; {} outstanding",
            time(lasted),
            count(rows, "row")
        ),
        Reason::BreakEven { unneeded, start_mj, late_mj } => {
            break_even_text(unneeded, start_mj, late_mj)
        }
        Reason::Bridge => "serves while other adapters start; idle, it takes no energy".to_owned(),
        Reason::NotBridged => {
            "it takes longer here than its target; loaded only to be measured".to_owned()
        }
        Reason::Expected { model, from, until, announced } => format!(
            "{}, and is expected {} to {} after this",
            expected_text(&(names.model)(model), true, announced),
            time(from.since(at)),
            time(until.since(at))
        ),
        Reason::NotExpected { until } => {
            format!("idle, and no client is expected for the next {}", time(until.since(at)))
        }
        Reason::DidNotCome => "the client that was expected did not come".to_owned(),
        Reason::Served => {
            "idle, and the clients that announce their requests were served".to_owned()
        }
        Reason::Cheaper { saved_mj, start_mj, lasted } => format!(
            "what others served in the last {} would have taken {:.0} J less here; turning it on \
             takes {:.0} J",
            time(lasted),
            saved_mj as f64 / 1000.0,
            start_mj as f64 / 1000.0
        ),
        Reason::Demand { rows } => format!("{} waiting for it", count(rows, "row")),
        Reason::Ahead => "nothing else to do: loaded ahead of requests".to_owned(),
        Reason::Memory { needed, free } => {
            format!("another model needs {}, {} are free", bytes(needed), bytes(free))
        }
        Reason::Room { held, room } => format!(
            "other programs need the memory: models hold {}, {} are left for them",
            bytes(held),
            bytes(room)
        ),
        Reason::Withdrawn => "it is no longer served".to_owned(),
        Reason::Operator => "the operator said so".to_owned(),
        Reason::Fault { fault, strikes, backoff } => fault_text(fault, names, strikes, backoff),
        Reason::OutOfMemory => {
            let what = names.fault.unwrap_or("its worker was killed");
            format!("{what}; the adapter is not at fault")
        }
        Reason::Environment => {
            let what = names.fault.unwrap_or("the worker process cannot be started");
            format!("{what}; the adapter is not at fault")
        }
        Reason::Fallback => "another adapter serves again".to_owned(),
        Reason::Shutdown => "the server is going down".to_owned(),
    }
}

/// The reason why requests for a model are expected, of one client or of all together.
pub fn expected_text(model: &str, is_one: bool, announced: bool) -> String {
    match (is_one, announced) {
        (true, true) => format!("a client of {model} announced its request"),
        (true, false) => format!("a client of {model} comes regularly"),
        (false, _) => format!("requests for {model} come regularly"),
    }
}

fn break_even_text(unneeded: Duration, start_mj: u64, late_mj: u64) -> String {
    let (unneeded, start) = (time(unneeded), joules(start_mj));
    match late_mj {
        0 => format!("idle for {unneeded}, which took as much energy as a start ({start})"),
        _ => format!(
            "idle for {unneeded}: a start costs {start}, and the requests that it makes late are \
             worth {}",
            joules(late_mj)
        ),
    }
}

fn joules(millijoules: u64) -> String {
    format!("{:.0} J", millijoules as f64 * 1e-3)
}

fn latency_text(
    waiting: &str,
    (drain, waited): (Option<Duration>, Duration),
    target: Duration,
    ready_in: Duration,
) -> String {
    let would = match drain {
        // What waited for a start may be late although it will soon be done.
        Some(drain) if waited >= MENTIONED => {
            format!("for at least {} would take {} more on what is on", time(waited), time(drain))
        }
        Some(drain) => format!("would take {} on what is on", time(drain)),
        None => "and nothing is on that serves it".to_owned(),
    };
    let ready = if ready_in.is_zero() {
        "it is warm still".to_owned()
    } else {
        format!("ready in about {}", time(ready_in))
    };
    format!("{waiting} {would}, the target is {}; {ready}", time(target))
}

fn fault_text(fault: Fault, names: &DecisionNames<'_>, strikes: u32, backoff: Duration) -> String {
    let what = match names.fault {
        Some(detail) => format!("{} ({detail})", fault_words(fault)),
        None => fault_words(fault).to_owned(),
    };
    format!("{what}, fault {strikes} in a row; tried again after {}", time(backoff))
}

fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::Crashed => "its worker ended unasked",
        Fault::Silent => "its worker gave no sign of life",
        Fault::StartStuck => "its start made no progress",
        Fault::RunStuck => "a batch took too long",
        Fault::Device => "its device failed",
        Fault::Memory => "its memory was full",
        Fault::WrongAnswer => "its device computes wrong results",
        Fault::Protocol => "its worker broke the protocol",
        Fault::InUse => "another server uses it",
    }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Milliseconds below a second, seconds above.
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

    fn words(change: Change, reason: Reason) -> (Option<String>, String) {
        let decision = Decision { at: Time::default(), adapter: AdapterId(0), change, reason };
        let model = |_: ModelId| "digits".to_owned();
        let names = DecisionNames { adapter: "pci-1".to_owned(), fault: None, model: &model };
        let view = decision_view(1, &decision, names);
        (view.model, view.text)
    }

    #[test]
    fn a_start_says_what_waits_and_how_long_it_would() {
        let ms = Duration::from_millis;
        let (model, drain, target) = (ModelId(0), Some(ms(820)), ms(100));
        let (waited, ready_in) = (Duration::ZERO, ms(1900));
        let reason = Reason::LatencyTarget { model, rows: 14, drain, waited, target, ready_in };
        let expected = "14 rows of digits waiting would take 820 ms on what is on, the target is \
                        100 ms; ready in about 1.9 s";
        assert_eq!(words(Change::Start, reason), (None, expected.to_owned()));
    }

    #[test]
    fn rows_that_waited_long_explain_themselves() {
        let ms = Duration::from_millis;
        let (model, drain, target) = (ModelId(0), Some(ms(2)), ms(100));
        let (waited, ready_in) = (ms(99), Duration::ZERO);
        let reason = Reason::LatencyTarget { model, rows: 8, drain, waited, target, ready_in };
        let expected = "8 rows of digits waiting for at least 99 ms would take 2 ms more on what \
                        is on, the target is 100 ms; it is warm still";
        assert_eq!(words(Change::Start, reason).1, expected);
    }

    #[test]
    fn who_goes_says_how_its_wait_came_about() {
        let unneeded = Duration::from_secs(41);
        let said = |late_mj| {
            words(Change::Drain, Reason::BreakEven { unneeded, start_mj: 65_600, late_mj }).1
        };
        assert_eq!(said(0), "idle for 41.0 s, which took as much energy as a start (66 J)");
        let late = "idle for 41.0 s: a start costs 66 J, and the requests that it makes late are \
                    worth 750 J";
        assert_eq!(said(750_000), late);
    }

    #[test]
    fn a_start_ahead_says_who_is_expected() {
        let at = |seconds| Time(Duration::from_secs(seconds));
        for (announced, why) in [(true, "announced its request"), (false, "comes regularly")] {
            let (model, from, until) = (ModelId(0), at(2), at(9));
            let reason = Reason::Expected { model, from, until, announced };
            let expected =
                format!("a client of digits {why}, and is expected 2.0 s to 9.0 s after this");
            assert_eq!(words(Change::Start, reason).1, expected);
        }
        let reason = Reason::NotExpected { until: at(580) };
        let expected = "idle, and no client is expected for the next 580.0 s";
        assert_eq!(words(Change::Drain, reason).1, expected);
    }

    #[test]
    fn who_takes_over_says_what_it_saves() {
        let lasted = Duration::from_secs(3);
        let reason = Reason::Cheaper { saved_mj: 52_400, start_mj: 49_000, lasted };
        let expected = "what others served in the last 3.0 s would have taken 52 J less here; \
                        turning it on takes 49 J";
        assert_eq!(words(Change::Start, reason).1, expected);
    }

    #[test]
    fn a_load_ahead_of_requests_is_not_said_to_be_asked_for() {
        let (_, text) = words(Change::Load(ModelId(0)), Reason::Ahead);
        assert_eq!(text, "nothing else to do: loaded ahead of requests");
    }

    #[test]
    fn loads_name_their_model() {
        let (model, text) = words(Change::Load(ModelId(0)), Reason::Demand { rows: 1 });
        assert_eq!((model.as_deref(), &text[..]), (Some("digits"), "1 row waiting for it"));
    }
}
