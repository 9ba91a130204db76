//! Decisions in words that an operator understands.

use super::snapshot::DecisionView;
use crate::schedule::{Decision, Fault, Reason};
use std::time::Duration;

/// What is shown and logged of a decision. `fault` is the adapter's last fault in words.
pub fn decision_view(
    seq: u64,
    decision: &Decision,
    adapter: String,
    fault: Option<&str>,
) -> DecisionView {
    DecisionView {
        seq,
        at_ms: u64::try_from(decision.at.0.as_millis()).unwrap_or(u64::MAX),
        adapter,
        change: decision.change.as_str().to_owned(),
        reason: decision.reason.as_str().to_owned(),
        text: text(&decision.reason, fault),
    }
}

fn text(reason: &Reason, fault: Option<&str>) -> String {
    match *reason {
        Reason::Backlog { rows, requests, target, wanted, on } => format!(
            "{} in {} outstanding, {target} wanted per adapter: {wanted} should be on, {on} are",
            count(rows, "row"),
            count(requests, "request")
        ),
        Reason::Min { min, on } => format!("at least {min} must be on, {on} are"),
        Reason::IdleSurplus { rows, wanted, on, lasted } => format!(
            "only {wanted} of the {on} that are on were wanted for {}; {} outstanding",
            seconds(lasted),
            count(rows, "row")
        ),
        Reason::Operator => "the operator said so".to_owned(),
        Reason::Fault { fault: kind, strikes, backoff } => format!(
            "{}, fault {strikes} in a row; tried again after {}",
            match fault {
                Some(detail) => format!("{} ({detail})", fault_text(kind)),
                None => fault_text(kind).to_owned(),
            },
            seconds(backoff)
        ),
        Reason::Fallback => "another adapter serves again".to_owned(),
        Reason::Shutdown => "the server is going down".to_owned(),
    }
}

fn fault_text(fault: Fault) -> &'static str {
    match fault {
        Fault::Crashed => "its worker ended unasked",
        Fault::Silent => "its worker gave no sign of life",
        Fault::StartStuck => "its start made no progress",
        Fault::RunStuck => "a batch took too long",
        Fault::Device => "its device failed",
        Fault::WrongAnswer => "its device computes wrong results",
        Fault::Protocol => "its worker broke the protocol",
        Fault::InUse => "another server uses it",
    }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
