//! Text for a terminal: foreign text is made harmless, and all text is measured in columns, not in
//! bytes or characters.

use ratatui::text::Span;
use types::escape;

/// The sign of an unknown value; never a zero.
pub(crate) const UNKNOWN: &str = "—";
/// Maximum length of received text, in characters; a longer one is cut.
const LENGTH_MAX: usize = 2000;
/// Maximum number of combining marks on one character; more would overlap its neighbours.
const MARKS_MAX: usize = 2;

/// Returns `text` without anything that could move the cursor, change a colour, reverse the
/// direction of writing or have another width than it appears to have.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    let mut marks = MARKS_MAX;
    for c in text.chars().take(LENGTH_MAX) {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            cleaned.push(if c.is_whitespace() { ' ' } else { '\u{fffd}' });
            marks = 0;
        } else if width(c.encode_utf8(&mut [0; 4])) > 0 {
            cleaned.push(c);
            marks = 0;
        } else if !escape::is_format(c) && marks < MARKS_MAX {
            cleaned.push(c);
            marks += 1;
        }
    }
    cleaned
}

/// Returns the number of columns of `text`.
pub(crate) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// Returns `text` in at most `columns`, with an ellipsis where it is cut.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for grapheme in Span::raw(text).styled_graphemes(ratatui::style::Style::new()) {
        used += width(grapheme.symbol);
        if used > columns {
            break;
        }
        kept.push_str(grapheme.symbol);
    }
    let kept = kept.trim_end();
    if columns == 0 { String::new() } else { format!("{kept}…") }
}

/// Returns `text` in exactly `columns`, flush left.
pub(crate) fn left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let room = columns.saturating_sub(width(&text));
    format!("{text}{}", " ".repeat(room))
}

/// Returns `text` in exactly `columns`, flush right.
pub(crate) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let room = columns.saturating_sub(width(&text));
    format!("{}{text}", " ".repeat(room))
}

/// Returns `text` in lines of at most `columns`, broken between words if possible.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words(text) {
        let joined = if line.is_empty() { word.clone() } else { format!("{line} {word}") };
        if width(&joined) <= columns || line.is_empty() {
            line = joined;
        } else {
            lines.push(std::mem::replace(&mut line, word));
        }
    }
    lines.push(line);
    lines.into_iter().map(|line| cut(&line, columns)).collect()
}

/// Splits text into words, with a number and its unit as one word.
fn words(text: &str) -> Vec<String> {
    let units = ["ms", "s", "min", "h", "bytes", "KiB", "MiB", "GiB", "W"];
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_unit = units.contains(&word.trim_end_matches([',', ';', '.', ')']));
        let is_number = |last: &&mut String| last.ends_with(|c: char| c.is_ascii_digit());
        match words.last_mut().filter(|last| is_unit && is_number(last)) {
            Some(number) => *number = format!("{number} {word}"),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// Returns the value formatted by `show`, or `—`.
pub(crate) fn known(value: Option<f64>, show: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// Formats a duration with a precision that is readable at a glance.
pub(crate) fn span(ms: f64) -> String {
    let seconds = ms / 1000.0;
    match seconds {
        s if s < 0.001 => format!("{ms:.2} ms"),
        s if s < 1.0 => format!("{ms:.0} ms"),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => {
            let minutes = (s / 60.0).floor();
            format!("{:.0} h {:.0} min", (minutes / 60.0).floor(), minutes % 60.0)
        }
        s => format!("{:.0} days", s / 86400.0),
    }
}

/// Formats an age or a longer duration in whole seconds, so that it changes at most once a second.
pub(crate) fn age(ms: f64) -> String {
    span((ms.max(0.0) / 1000.0).floor().max(if ms < 1000.0 { 0.0 } else { 1.0 }) * 1000.0)
        .replace("0.00 ms", "0 s")
        .replace(".0 s", " s")
}

/// Formats two latencies in one unit: `4.0/7.0 ms`.
pub(crate) fn pair(low: Option<f64>, high: Option<f64>) -> String {
    let (Some(low), Some(high)) = (low, high) else { return UNKNOWN.to_owned() };
    if low.max(high) >= 10_000.0 {
        format!("{}/{} s", figure(low / 1000.0), figure(high / 1000.0))
    } else {
        format!("{}/{} ms", figure(low), figure(high))
    }
}

/// Formats a number with few digits: 0.21, 4.0, 820, 12k.
pub(crate) fn figure(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v.abs() < 1.0 => format!("{v:.2}"),
        v if v.abs() < 99.95 => format!("{v:.1}"),
        v if v.abs() < 10_000.0 => format!("{v:.0}"),
        v if v.abs() < 1e6 => format!("{:.0}k", v / 1e3),
        v if v.abs() < 1e9 => format!("{:.0}M", v / 1e6),
        v => format!("{v:.0e}"),
    }
}

/// Formats a count, shortened if it is large.
pub(crate) fn count(value: f64) -> String {
    if value.abs() < 10_000.0 { format!("{value:.0}") } else { figure(value) }
}

/// Formats a count with its noun: `1 row`, `2 rows`.
pub(crate) fn counted(value: f64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1.0 { "" } else { "s" })
}

/// Formats a share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// Formats bytes in the unit that fits.
pub(crate) fn bytes(bytes: f64) -> String {
    let (value, unit) = scaled(bytes);
    format!("{} {unit}iB", figure_short(value)).replace(" iB", " B")
}

/// Formats used and available bytes in few columns: `1.2/9.6 GiB`.
pub(crate) fn used(used: Option<f64>, of: Option<f64>) -> String {
    match (used, of) {
        (Some(used), Some(of)) => {
            let (_, unit) = scaled(of);
            let divisor = if scaled(of).0 > 0.0 { of / scaled(of).0 } else { 1.0 };
            let total = figure_short(of / divisor);
            format!("{}/{total} {unit}iB", figure_short(used / divisor)).replace(" iB", " B")
        }
        (Some(used), None) => bytes(used),
        (None, Some(of)) => format!("{UNKNOWN}/{}", bytes(of)),
        (None, None) => UNKNOWN.to_owned(),
    }
}

fn figure_short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 0.05 => "0.0".to_owned(),
        v if v < 9.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

fn scaled(bytes: f64) -> (f64, &'static str) {
    let units = ["", "K", "M", "G", "T", "P"];
    let mut value = bytes;
    let mut shown = "";
    for unit in units {
        shown = unit;
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
    }
    (value, shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_removed() {
        assert_eq!(clean("a\x1b[31mb\u{9b}2J\x07\r\nc"), "a\u{fffd}[31mb\u{fffd}2J\u{fffd}  c");
        assert_eq!(clean("a\u{202e}b\u{200b}c\u{feff}d\u{2028}e\u{fe0f}"), "abcd e");
        assert_eq!(clean("e\u{301}\u{301}\u{301}\u{301}x"), "e\u{301}\u{301}x");
        assert_eq!(clean("\u{301}x"), "x");
        assert_eq!(clean(&"x".repeat(5000)).len(), LENGTH_MAX);
        assert_eq!(clean("NVIDIA® 显卡 é"), "NVIDIA® 显卡 é");
    }

    #[test]
    fn text_is_fitted_by_columns() {
        assert_eq!(left("abc", 5), "abc  ");
        assert_eq!(right("abc", 5), "  abc");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcdef", 0), "");
        assert_eq!(width(&left("显卡显卡", 6)), 6);
        assert_eq!(left("显卡显卡", 6), "显卡… ");
        assert_eq!(wrap("14 rows of digits waiting", 10), ["14 rows of", "digits", "waiting"]);
        assert_eq!(wrap("averylongword x", 6), ["avery…", "x"]);
        assert_eq!(wrap("ready in 4.2 s; x", 10), ["ready in", "4.2 s; x"]);
        assert_eq!(wrap("", 6), [""]);
    }

    #[test]
    fn times_are_readable() {
        let spans = [0.25, 12.0, 1900.0, 45_000.0, 300_000.0, 8_040_000.0, 900_000_000.0];
        let words = ["0.25 ms", "12 ms", "1.9 s", "45 s", "5 min", "2 h 14 min", "10 days"];
        assert_eq!(spans.map(span), words);
        let ages = [-5.0, 20.0, 999.0, 1000.0, 5700.0, 12_400.0];
        assert_eq!(ages.map(age), ["0 s", "0 s", "0 s", "1 s", "5 s", "12 s"]);
        assert_eq!(pair(Some(4.0), Some(7.0)), "4.0/7.0 ms");
        assert_eq!(pair(Some(1200.0), Some(12_000.0)), "1.2/12.0 s");
        assert_eq!(pair(Some(1.0), None), "—");
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(12_884_901_888.0), "12 GiB");
        assert_eq!(used(Some(1_288_490_188.0), Some(10_307_921_510.0)), "1.2/9.6 GiB");
        assert_eq!(used(Some(1234.0), Some(10_307_921_510.0)), "0.0/9.6 GiB");
        assert_eq!(used(None, None), "—");
        assert_eq!(
            [0.0, 0.21, 30.0, 820.0, 36_000.0].map(figure),
            ["0", "0.21", "30.0", "820", "36k"]
        );
        assert_eq!((counted(1.0, "row"), counted(2.0, "row")), ("1 row".into(), "2 rows".into()));
    }
}
