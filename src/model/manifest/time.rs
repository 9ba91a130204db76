//! Times as `model.toml` writes them.

use crate::files::Detail;
use std::time::Duration;

/// Reads `"250us"`, `"2ms"` or `"1s"`.
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
