//! The rule for names of models and of files in a repository, which appear in paths, URLs, labels
//! of metrics and log lines.

use types::escape::reorders;

/// Longest name, in bytes: with `.onnx` it fits the limit of file systems (255).
const NAME_BYTES_MAX: usize = 200;

/// The rule for names, as the text of an error.
pub(crate) const RULE: &str = "names have 1 to 200 bytes, do not begin with '.' or '-' and contain no control characters, '/', '\\' or ':'";

/// Returns true if a model or a file may have this name: letters of any script, digits, spaces and
/// punctuation. Excluded are hidden files, options of commands, parts of paths (`:` follows a drive
/// on Windows) and characters that change the display of the text around them.
pub fn is_safe_name(name: &str) -> bool {
    let blank_end = name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && !blank_end
        && !name.contains(['/', '\\', ':', char::REPLACEMENT_CHARACTER])
        && !name.chars().any(|c| c.is_control() || reorders(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_use_any_script() {
        for good in [
            "digits",
            "7",
            "resnet-50_v1.5",
            "yolov8n (1)",
            "模型",
            "мо\u{438}\u{306}",
            "50%",
            "a'b\"c",
            "می\u{200c}خواهم",
        ] {
            assert!(is_safe_name(good), "{good}");
        }
        assert!(is_safe_name(&"ä".repeat(100)));
        assert!(!is_safe_name(&"ä".repeat(101)), "its length is counted in bytes");
    }

    #[test]
    fn names_cannot_be_paths_or_change_how_text_is_shown() {
        let long = "a".repeat(201);
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "a\\b",
            "C:x",
            "a\0",
            "a\nb",
            "\u{1b}[31m",
            " a",
            "a ",
            "a\u{202e}b",
            "a\u{2028}b",
            "a\u{200b}b",
            "a\u{fffd}",
            &long,
        ] {
            assert!(!is_safe_name(bad), "{bad:?}");
        }
    }
}
