//! A reader of Protobuf's text format without a schema: fields are not validated. The existing
//! crates need the whole schema and reject unknown fields.

use crate::files::Detail;
use std::iter::Peekable;
use std::str::CharIndices;

/// Most levels of nested messages; an invalid file could exhaust the stack.
const DEPTH_MAX: usize = 32;
/// Most bytes of a field's name; the longest of Triton has 37.
const NAME_MAX: usize = 128;

/// A syntax error and its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub(super) struct SyntaxError {
    line: usize,
    wrong: Syntax,
}

/// The kinds of syntax errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Syntax {
    #[error("messages are nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("a message does not end")]
    MessageEnd,
    #[error("a field cannot begin with {0:?}")]
    FieldBegin(char),
    #[error("a field is missing")]
    NoField,
    #[error("a field's name is longer than {NAME_MAX} bytes")]
    LongName,
    #[error("{0}: a list does not end")]
    ListEnd(String),
    #[error("{0}: has no value")]
    NoValue(String),
    #[error("a value is missing")]
    ValueMissing,
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("text does not end in its line")]
    LineEnd,
    #[error("text does not end")]
    TextEnd,
    #[error("\\{0} is not an escape sequence")]
    Escape(char),
    #[error("an escape exceeds the value of a byte")]
    EscapeSize,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    /// A number, `true`, or a name of an enumeration.
    Word(String),
    Text(String),
    Message(Message),
}

/// Fields in their order. A repeated field has several entries, even if it is written as a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message(pub(super) Vec<(String, FieldValue)>);

impl Message {
    /// Parses a whole file. The caller limits its length.
    ///
    /// # Errors
    /// The line and the syntax error there.
    pub(super) fn parse(text: &str) -> Result<Message, SyntaxError> {
        let mut reader = PbtxtReader { text, chars: text.char_indices().peekable() };
        let message = reader.fields(None, 0).map_err(|wrong| {
            let at = reader.chars.peek().map_or(text.len(), |(at, _)| *at);
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            SyntaxError { line, wrong }
        })?;
        Ok(message)
    }

    /// The values of all fields of this name.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl DoubleEndedIterator<Item = &'a FieldValue> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value)
    }

    /// The message in the last field of this name, which overrides the others.
    pub(super) fn message(&self, name: &str) -> Result<Option<&Message>, Detail> {
        match self.all(name).last() {
            None => Ok(None),
            Some(FieldValue::Message(message)) => Ok(Some(message)),
            Some(_) => Err(format!("{name}: is not a message; write {name} {{ ... }}").into()),
        }
    }

    /// The text in the last field of this name.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Detail> {
        match self.all(name).last() {
            None => Ok(None),
            Some(FieldValue::Text(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name}: is not text in quotation marks").into()),
        }
    }

    /// The integer in the last field of this name.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Detail> {
        self.all(name).last().map(|value| value.integer(name)).transpose()
    }
}

impl FieldValue {
    /// Reads an integer; `name` appears in the error.
    pub(super) fn integer(&self, name: &str) -> Result<i64, Detail> {
        let number = match self {
            FieldValue::Word(word) => word.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("{name}: is not an integer").into())
    }
}

struct PbtxtReader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> PbtxtReader<'a> {
    /// Reads fields up to the bracket that ends the message, or to the end of the file.
    fn fields(&mut self, end: Option<char>, depth: usize) -> Result<Message, Syntax> {
        if depth > DEPTH_MAX {
            return Err(Syntax::Depth);
        }
        let mut fields = Vec::new();
        loop {
            let next = self.next_sign();
            if next == end {
                self.chars.next();
                return Ok(Message(fields));
            }
            match next {
                None => return Err(Syntax::MessageEnd),
                Some(',' | ';') => {
                    self.chars.next();
                }
                Some(_) => self.field(&mut fields, depth)?,
            }
        }
    }

    fn field(
        &mut self,
        fields: &mut Vec<(String, FieldValue)>,
        depth: usize,
    ) -> Result<(), Syntax> {
        let name = self.word();
        if name.is_empty() {
            return Err(match self.next_sign() {
                Some(sign) => Syntax::FieldBegin(sign),
                None => Syntax::NoField,
            });
        }
        // Each element of a list has a copy of the name, so its length is limited.
        if name.len() > NAME_MAX {
            return Err(Syntax::LongName);
        }
        let colon = self.take(':');
        match self.next_sign() {
            Some('[') => {
                self.chars.next();
                while !self.take(']') {
                    let value = self.value(depth)?;
                    fields.push((name.to_owned(), value));
                    if !self.take(',') && self.next_sign() != Some(']') {
                        return Err(Syntax::ListEnd(name.to_owned()));
                    }
                }
            }
            Some('{' | '<') => fields.push((name.to_owned(), self.value(depth)?)),
            Some(_) if colon => fields.push((name.to_owned(), self.value(depth)?)),
            _ => return Err(Syntax::NoValue(name.to_owned())),
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<FieldValue, Syntax> {
        match self.next_sign() {
            Some('{') => self.message('}', depth),
            Some('<') => self.message('>', depth),
            Some('"' | '\'') => {
                let mut text = Vec::new();
                // Adjacent strings form one text.
                while let Some(mark @ ('"' | '\'')) = self.next_sign() {
                    self.chars.next();
                    self.piece(mark, &mut text)?;
                }
                String::from_utf8(text).map(FieldValue::Text).map_err(|_| Syntax::NotUtf8)
            }
            _ => {
                let minus = if self.take('-') { "-" } else { "" };
                match self.word() {
                    "" => Err(Syntax::ValueMissing),
                    word => Ok(FieldValue::Word(format!("{minus}{word}"))),
                }
            }
        }
    }

    fn message(&mut self, end: char, depth: usize) -> Result<FieldValue, Syntax> {
        self.chars.next();
        self.fields(Some(end), depth + 1).map(FieldValue::Message)
    }

    /// Adds the text before the closing mark.
    fn piece(&mut self, mark: char, text: &mut Vec<u8>) -> Result<(), Syntax> {
        while let Some((_, sign)) = self.chars.next() {
            match sign {
                '\n' => break,
                sign if sign == mark => return Ok(()),
                '\\' => self.escaped(text)?,
                sign => text.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Err(Syntax::LineEnd)
    }

    fn escaped(&mut self, text: &mut Vec<u8>) -> Result<(), Syntax> {
        let (_, sign) = self.chars.next().ok_or(Syntax::TextEnd)?;
        let byte = match sign {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            '\\' | '"' | '\'' | '?' => sign as u8,
            'x' => self.digits(0, 2, 16)?,
            '0'..='7' => self.digits(sign.to_digit(8).unwrap_or(0), 2, 8)?,
            other => return Err(Syntax::Escape(other)),
        };
        text.push(byte);
        Ok(())
    }

    /// Reads further digits of a byte, `most` at most.
    fn digits(&mut self, first: u32, most: usize, radix: u32) -> Result<u8, Syntax> {
        let mut value = first;
        for _ in 0..most {
            let Some(digit) = self.chars.peek().and_then(|(_, c)| c.to_digit(radix)) else { break };
            self.chars.next();
            value = value * radix + digit;
        }
        u8::try_from(value).map_err(|_| Syntax::EscapeSize)
    }

    /// Reads a name or number, which may be empty.
    fn word(&mut self) -> &'a str {
        self.next_sign();
        let begin = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '/');
        // A minus sign inside a number is only valid in front of its exponent.
        let (mut first, mut before) = (None, '\0');
        let minus = |first: Option<char>, before: char| {
            first.is_some_and(|first: char| first.is_ascii_digit() || first == '.')
                && matches!(before, 'e' | 'E')
        };
        while let Some((_, c)) =
            self.chars.next_if(|(_, c)| part(*c) || (*c == '-' && minus(first, before)))
        {
            first = first.or(Some(c));
            before = c;
        }
        let end = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        self.text.get(begin..end).unwrap_or_default()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.next_sign() == Some(wanted);
        if found {
            self.chars.next();
        }
        found
    }

    /// The next character that is neither a blank nor in a comment, which is not consumed.
    fn next_sign(&mut self) -> Option<char> {
        loop {
            match self.chars.peek()?.1 {
                '#' => while self.chars.next_if(|(_, c)| *c != '\n').is_some() {},
                blank if blank.is_whitespace() || blank == '\u{feff}' => {
                    self.chars.next();
                }
                sign => return Some(sign),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> FieldValue {
        FieldValue::Word(text.to_owned())
    }

    #[test]
    fn every_form_of_a_field_is_read() {
        let text = "# a comment\nname: \"a\" 'b' # behind\nsize: -8; dims: [ 1, -1 ]\n\
                    group [ { kind: KIND_CPU }, { count: 2 } ]\nempty {} old < x: 1.5e-3 >, list: []";
        let parsed = Message::parse(text).unwrap();
        assert_eq!(parsed.text("name"), Ok(Some("ab")));
        assert_eq!(parsed.integer("size"), Ok(Some(-8)));
        assert_eq!(parsed.all("dims").cloned().collect::<Vec<_>>(), [word("1"), word("-1")]);
        let groups: Vec<_> = parsed.all("group").collect();
        let kind = Message(vec![("kind".into(), word("KIND_CPU"))]);
        assert!(groups.len() == 2 && *groups[0] == FieldValue::Message(kind), "{groups:?}");
        assert_eq!(parsed.message("empty"), Ok(Some(&Message::default())));
        let old = Message(vec![("x".into(), word("1.5e-3"))]);
        assert_eq!(parsed.message("old"), Ok(Some(&old)));
        assert_eq!(parsed.all("list").count(), 0);
        assert_eq!(Message::parse(""), Ok(Message::default()));
    }

    #[test]
    fn long_name_is_rejected() {
        let name = "a".repeat(NAME_MAX);
        assert!(Message::parse(&format!("{name}: [1, 1]")).is_ok());
        let error = Message::parse(&format!("{name}a: [1, 1]")).unwrap_err().to_string();
        assert!(error.contains("longer than 128 bytes"), "{error}");
    }

    #[test]
    fn text_may_hold_escapes() {
        let text = |text: &str| {
            Message::parse(&format!("x: {text}")).map(|m| m.text("x").unwrap().unwrap().to_owned())
        };
        assert_eq!(text(r#""a\n\"\x41\101\\""#).unwrap(), "a\n\"AA\\");
        assert_eq!(text(r#""\346\250\241型""#).unwrap(), "模型");
        assert_eq!(text(r#""\377""#).unwrap_err().to_string(), "line 1: text is not UTF-8");
        assert_eq!(
            text(r#""\400""#).unwrap_err().to_string(),
            "line 1: an escape exceeds the value of a byte"
        );
        assert!(text("\"a\nb\"").unwrap_err().to_string().contains("does not end in its line"));
        assert!(text("\"a").unwrap_err().to_string().contains("does not end"));
    }

    #[test]
    fn errors_name_their_line() {
        let error = |text: &str| Message::parse(text).unwrap_err().to_string();
        assert_eq!(error("a: 1\nb {"), "line 2: a message does not end");
        assert_eq!(error("a: 1\n\nb"), "line 3: b: has no value");
        assert_eq!(error("a:"), "line 1: a: has no value");
        assert_eq!(error("}"), "line 1: a field cannot begin with '}'");
        assert_eq!(error("a: [1 2]"), "line 1: a: a list does not end");
        assert!(error(&"a{".repeat(100_000)).contains("deeper than 32"));
        let message = Message::parse("a: 1 b: \"x\" c {}").unwrap();
        assert!(message.message("a").is_err() && message.text("c").is_err());
        assert!(message.integer("b").is_err() && message.integer("c").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_rejected(text in "[a-z:{}\\[\\]<>\"'\\\\#,;0-9 \n-]{0,200}") {
            let _ = Message::parse(&text);
        }
    }
}
