//! Escapes for text of files and clients that is shown in a terminal, a table or a log line.
//!
//! Such text could move the cursor, change colours, forge a line or reorder the text around it.

use std::borrow::Cow;

/// `text` on one line: control characters, line breaks and characters that reorder or hide others
/// are written as escapes such as `\n` and `\u{1b}`. All other characters stay as they are.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful)
}

/// Like [`line()`], for text of several lines: its line feeds are kept.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_harmful(c))
}

fn escaped(text: &str, is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || reorders(c)
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `true` for line separators, controls of writing direction and blanks without a width, which
/// could make a log or a page show another name. Joiners (U+200C, U+200D) are allowed, since some
/// scripts need them.
pub fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Characters without a shape: joiners, direction marks, variation selectors, tags.
pub fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_characters_become_escapes() {
        for (text, shown) in [
            ("con\u{1b}[31mred", "con\\u{1b}[31mred"),
            ("a\nINFO forged", "a\\nINFO forged"),
            ("a\r\tb\0", "a\\r\\tb\\0"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("exe\u{202e}gnp", "exe\\u{202e}gnp"),
            ("a\u{2028}b\u{2066}c", "a\\u{2028}b\\u{2066}c"),
            ("tag\u{e0041}", "tag\\u{e0041}"),
            ("\u{7f}", "\\u{7f}"),
        ] {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn text_of_any_script_stays_as_it_is() {
        for text in [
            "",
            "yolov8n (1)",
            "模型 \"a\\b\"",
            "هذا نص",
            "می\u{200c}خواهم",
            "👩\u{200d}🔬",
            "e\u{301}",
        ] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(lines("a\nb\u{1b}\r\n"), "a\nb\\u{1b}\\r\n");
        assert_eq!(lines("a\nb\n"), "a\nb\n");
    }
}
