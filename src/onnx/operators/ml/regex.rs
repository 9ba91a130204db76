//! Regular expressions with the syntax and the longest matches of RE2, which ONNX Runtime uses.

use graph::error::{OnnxError, Result};
use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input, MatchKind};
use std::iter::Peekable;
use std::ops::Range;
use std::str::Chars;

/// Most bytes of a compiled expression.
const SIZE_MAX: usize = 10 << 20;

/// An expression that finds the longest of the leftmost matches.
#[derive(Debug)]
pub(super) struct Expression {
    /// Finds the beginning of the leftmost match.
    first: Regex,
    /// Finds all matches from there; the last is the longest.
    all: Regex,
}

/// An expression that must match a whole text.
#[derive(Debug)]
pub(in crate::operators) struct Whole(Regex);

impl Whole {
    /// # Errors
    /// If the expression is invalid.
    pub(in crate::operators) fn new(text: &str) -> Result<Whole> {
        // Compiled without the surrounding group first, since its bracket could complete an invalid
        // expression.
        compiled(text, &translated(text), MatchKind::LeftmostFirst)?;
        let framed = format!(r"\A(?:{})\z", translated(text));
        Ok(Whole(compiled(text, &framed, MatchKind::LeftmostFirst)?))
    }

    pub(in crate::operators) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn compiled(text: &str, pattern: &str, kind: MatchKind) -> Result<Regex> {
    let config = Regex::config().match_kind(kind).nfa_size_limit(Some(SIZE_MAX));
    Regex::builder().configure(config).build(pattern).map_err(|error| {
        let cause = error.syntax_error().map(ToString::to_string);
        let cause = cause.unwrap_or_else(|| error.to_string());
        OnnxError::invalid(format!("expression '{text}': {cause}"))
    })
}

impl Expression {
    /// # Errors
    /// If the expression is invalid.
    pub(super) fn new(text: &str) -> Result<Expression> {
        let pattern = translated(text);
        let build = |kind: MatchKind| compiled(text, &pattern, kind);
        Ok(Expression { first: build(MatchKind::LeftmostFirst)?, all: build(MatchKind::All)? })
    }

    /// The next match from a byte offset on.
    pub(super) fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let start = self.first.find(Input::new(text).range(from..))?.start();
        let longest = Input::new(text).range(start..).anchored(Anchored::Yes);
        Some(self.all.find(longest)?.range())
    }
}

/// The expression with the meaning of RE2: `\w`, `\d`, `\s` and `\b` match ASCII only, and inside
/// brackets only ranges, classes and escapes are special.
fn translated(text: &str) -> String {
    let (mut to, mut from) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = from.next() {
        match c {
            '\\' => escape(&mut from, &mut to, false),
            '[' => brackets(&mut from, &mut to),
            _ => to.push(c),
        }
    }
    to
}

fn escape(from: &mut Peekable<Chars<'_>>, to: &mut String, inside: bool) {
    let Some(c) = from.next() else { return to.push('\\') };
    match c {
        'w' if inside => to.push_str("0-9A-Za-z_"),
        'd' if inside => to.push_str("0-9"),
        // RE2's `\s` does not contain the vertical tab.
        's' if inside => to.push_str(r"\t\n\x0c\r\x20"),
        'w' => to.push_str("[0-9A-Za-z_]"),
        'd' => to.push_str("[0-9]"),
        's' => to.push_str(r"[\t\n\x0c\r\x20]"),
        'W' => to.push_str("[^0-9A-Za-z_]"),
        'D' => to.push_str("[^0-9]"),
        'S' => to.push_str(r"[^\t\n\x0c\r\x20]"),
        'b' if !inside => to.push_str(r"(?-u:\b)"),
        'Q' if !inside => quoted(from, to),
        c => to.extend(['\\', c]),
    }
}

/// `\Q...\E`: literal text.
fn quoted(from: &mut Peekable<Chars<'_>>, to: &mut String) {
    while let Some(c) = from.next() {
        if c == '\\' && from.peek() == Some(&'E') {
            from.next();
            return;
        }
        literal(c, to);
    }
}

fn literal(c: char, to: &mut String) {
    if c.is_ascii_punctuation() {
        to.push('\\');
    }
    to.push(c);
}

fn brackets(from: &mut Peekable<Chars<'_>>, to: &mut String) {
    to.push('[');
    if from.next_if_eq(&'^').is_some() {
        to.push('^');
    }
    // A closing bracket in the first place is one of the characters.
    if from.next_if_eq(&']').is_some() {
        to.push_str(r"\]");
    }
    while let Some(c) = from.next() {
        match c {
            ']' => return to.push(']'),
            '\\' => escape(from, to, true),
            '[' if from.peek() == Some(&':') => {
                to.push('[');
                for c in from.by_ref() {
                    to.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            // `&&` and `~~` are operations on sets here, and literal in RE2.
            '[' | '&' | '~' => literal(c, to),
            _ => to.push(c),
        }
    }
}
