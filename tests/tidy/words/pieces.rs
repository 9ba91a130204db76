//! A file cut into what is written for readers: lines of comments, strings, identifiers, lines of
//! Markdown.

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    /// Number of its first line, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Comment,
    String,
    Name,
    Markdown,
}

/// The syntax of a file, by its ending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// Rust, JavaScript, WGSL, CSS: `//` and `/* */`; strings in double quotes, in JavaScript in
    /// single quotes and backticks too.
    Slashes {
        quotes: &'static [char],
    },
    /// Shell, Python, TOML: `#`.
    Hashes,
    Markdown,
    /// The strings of JSON; the text between the tags of HTML.
    Text,
}

pub(super) fn syntax(name: &str) -> Option<Syntax> {
    let ending = name.rsplit('.').next()?;
    match ending {
        "rs" | "wgsl" => Some(Syntax::Slashes { quotes: &['"'] }),
        "js" | "mjs" | "css" => Some(Syntax::Slashes { quotes: &['"', '\'', '`'] }),
        "sh" | "py" | "toml" => Some(Syntax::Hashes),
        "md" => Some(Syntax::Markdown),
        "html" | "json" => Some(Syntax::Text),
        _ => None,
    }
}

pub(super) fn pieces(syntax: Syntax, text: &str) -> Vec<Piece> {
    match syntax {
        Syntax::Slashes { quotes } => Lexer::new(text, quotes).run(),
        Syntax::Hashes => hashes(text),
        Syntax::Markdown => markdown(text),
        Syntax::Text => plain(text),
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

fn hashes(text: &str) -> Vec<Piece> {
    let comment = |(line, text): (usize, &str)| {
        let text = text.trim_start().strip_prefix('#')?.trim();
        let is_text = !text.is_empty() && !text.starts_with('!');
        is_text.then(|| Piece { kind: Kind::Comment, line, text: text.to_owned() })
    };
    numbered(text).filter_map(comment).collect()
}

/// Lines outside blocks of code.
fn markdown(text: &str) -> Vec<Piece> {
    let mut is_code = false;
    let mut all = Vec::new();
    for (line, text) in numbered(text) {
        let is_fence = text.trim_start().starts_with("```");
        is_code ^= is_fence;
        if !is_fence && !is_code && !text.starts_with("|--") && !text.trim().is_empty() {
            all.push(Piece { kind: Kind::Markdown, line, text: text.to_owned() });
        }
    }
    all
}

fn plain(text: &str) -> Vec<Piece> {
    let mut all = Vec::new();
    for (line, text) in numbered(text) {
        let parts = text.split(['"', '<', '>']);
        let sentences = parts.filter(|part| part.trim().contains(' '));
        all.extend(sentences.map(|text| Piece { kind: Kind::String, line, text: text.to_owned() }));
    }
    all
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    quotes: &'static [char],
    found: Vec<Piece>,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, quotes: &'static [char]) -> Lexer<'a> {
        Lexer { rest: text, line: 1, quotes, found: Vec::new() }
    }

    fn run(mut self) -> Vec<Piece> {
        while let Some(first) = self.rest.chars().next() {
            match first {
                '/' if self.rest.starts_with("//") => self.line_comment(),
                '/' if self.rest.starts_with("/*") => self.block_comment(),
                'r' if self.raw_hashes().is_some() => self.raw_string(),
                '\'' if !self.quotes.contains(&'\'') => self.character(),
                quote if self.quotes.contains(&quote) => self.string(quote),
                letter if letter.is_alphabetic() || letter == '_' => self.name(),
                other => {
                    self.skip(other.len_utf8());
                }
            }
        }
        self.found
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
        let (text, rest) = self.rest.split_at(bytes);
        self.line += text.matches('\n').count();
        self.rest = rest;
        text
    }

    fn push(&mut self, kind: Kind, line: usize, text: &str) {
        if !text.trim().is_empty() {
            self.found.push(Piece { kind, line, text: text.trim().to_owned() });
        }
    }

    fn line_comment(&mut self) {
        let (line, end) = (self.line, self.rest.find('\n').unwrap_or(self.rest.len()));
        let text = self.skip(end).trim_start_matches(['/', '!']);
        self.push(Kind::Comment, line, text);
    }

    fn block_comment(&mut self) {
        let (line, end) = (self.line, self.rest.find("*/").map_or(self.rest.len(), |at| at + 2));
        let text = self.skip(end);
        for (at, text) in text.lines().enumerate() {
            self.push(Kind::Comment, line + at, text.trim_matches([' ', '*', '/']));
        }
    }

    /// Number of `#` of the raw string that begins here, after an optional `b`.
    fn raw_hashes(&self) -> Option<usize> {
        let rest = self.rest.strip_prefix('r')?;
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        rest[hashes..].starts_with('"').then_some(hashes)
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or(0);
        let line = self.line;
        self.skip(hashes + 2);
        let close = format!("\"{}", "#".repeat(hashes));
        let end = self.rest.find(&close).unwrap_or(self.rest.len());
        let text = self.skip(end);
        self.push(Kind::String, line, text);
        self.skip(close.len().min(self.rest.len()));
    }

    fn string(&mut self, quote: char) {
        let line = self.line;
        self.skip(1);
        let (mut end, mut is_escaped) = (self.rest.len(), false);
        for (at, c) in self.rest.char_indices() {
            if c == quote && !is_escaped {
                end = at;
                break;
            }
            is_escaped = c == '\\' && !is_escaped;
        }
        let text = self.skip(end);
        let joined = text.split("\\\n").map(str::trim_start).collect::<Vec<_>>().join("");
        if joined.trim().contains(' ') {
            self.push(Kind::String, line, &joined.replace("\\n", " "));
        }
        self.skip(1.min(self.rest.len()));
    }

    /// A character or a lifetime.
    fn character(&mut self) {
        let mut chars = self.rest.char_indices().skip(1);
        let (first, second) = (chars.next(), chars.next());
        let bytes = match (first, second) {
            (Some((_, '\\')), Some((at, c))) => {
                let from = at + c.len_utf8();
                self.rest[from..].find('\'').map_or(1, |end| from + end + 1)
            }
            (_, Some((at, '\''))) => at + 1,
            _ => 1,
        };
        self.skip(bytes);
    }

    fn name(&mut self) {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let line = self.line;
        let text = self.skip(end);
        self.push(Kind::Name, line, text);
    }
}

#[test]
fn files_are_cut_into_what_is_read() {
    let rust = "/// Doc `x`.\nfn a<'b>(c: &'b str) { // why\n    d('\"', '\\'', r#\"e \"f\"\"#, \"g \\\"h\\\n  i\") }";
    let found = pieces(Syntax::Slashes { quotes: &['"'] }, rust);
    let of = |kind| -> Vec<_> {
        found.iter().filter(|it| it.kind == kind).map(|it| (it.line, it.text.as_str())).collect()
    };
    assert_eq!(of(Kind::Comment), [(1, "Doc `x`."), (2, "why")]);
    assert_eq!(of(Kind::String), [(3, "e \"f\""), (3, "g \\\"hi")]);
    assert!(of(Kind::Name).contains(&(2, "a")) && of(Kind::Name).contains(&(3, "d")));
    let text = "# Head\n```\nnobody\n```\n|--|\nLast";
    let lines: Vec<_> =
        pieces(Syntax::Markdown, text).into_iter().map(|it| (it.line, it.text)).collect();
    assert_eq!(lines, [(1, "# Head".to_owned()), (6, "Last".to_owned())]);
    assert_eq!(hashes("#!/bin/sh\n# Why\nx # y").len(), 1);
    assert_eq!(plain("{\"a\": \"b c\"}\n<p>d e</p>").len(), 2);
}
