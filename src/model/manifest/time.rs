//! Durations in `model.toml`.

use crate::files::Detail;
use std::time::Duration;

/// Longest latency target.
const LATENCY_TARGET_MAX: Duration = Duration::from_secs(3600);

/// Parses `"250us"`, `"2ms"` or `"1s"`.
pub(super) fn parse_time(field: &str, text: &str, longest: Duration) -> Result<Duration, Detail> {
    let wrong = || {
        Detail::from(format!(
            "{field}: '{text}' is not a time such as \"250us\", \"2ms\" or \"1s\""
        ))
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let time = match unit.trim_start() {
        "us" | "µs" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err(wrong()),
    };
    if time > longest {
        return Err(format!("{field}: '{text}' is longer than {} s", longest.as_secs()).into());
    }
    Ok(time)
}

/// The latency target, which may be called `slo` too.
pub(super) fn check_latency_target(
    latency_target: Option<String>,
    slo: Option<String>,
) -> Result<Option<Duration>, Detail> {
    let (field, text) = match (latency_target, slo) {
        (None, None) => return Ok(None),
        (Some(text), None) => ("latency_target", text),
        (None, Some(text)) => ("slo", text),
        (Some(_), Some(_)) => {
            return Err("slo and latency_target are two names of one setting; leave slo out".into());
        }
    };
    let target = parse_time(field, &text, LATENCY_TARGET_MAX)?;
    if target.is_zero() {
        return Err(
            format!("{field}: must be greater than zero; omit it to use the default").into()
        );
    }
    Ok(Some(target))
}
