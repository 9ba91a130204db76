//! Tokenizer of `com.microsoft`: splits each text into words.

use super::regex::Expression;
use crate::attribute_values;
use crate::host::HostTensor;
use crate::host::first;
use crate::operators::{Call, Outputs, Table, several};
use crate::trace::Tracer;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[("Tokenizer", tokenize)];

/// Words before and behind each text, if `mark` is set.
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];
/// Most bytes of words, including padding.
const BYTES_MAX: usize = 1 << 30;

/// The method for splitting texts.
#[derive(Debug)]
enum TokenizeMethod {
    Characters,
    /// The text between matches of each expression in turn.
    Between(Vec<Expression>),
    /// The matches.
    Matches(Expression),
}

#[derive(Debug)]
struct Tokenizer {
    way: TokenizeMethod,
    marks: bool,
    padding: String,
    /// The least number of characters of a word.
    least: usize,
}

impl Tokenizer {
    fn read(call: &Call<'_>) -> Result<Tokenizer> {
        let least =
            call.int("mincharnum")?.ok_or_else(|| OnnxError::invalid("mincharnum is missing"))?;
        let least = usize::try_from(least).ok().filter(|least| *least > 0);
        let least =
            least.ok_or_else(|| OnnxError::invalid("mincharnum must be greater than zero"))?;
        let way = match (call.texts("separators")?, call.text("tokenexp")?) {
            (Some(all), _) if all.iter().all(String::is_empty) && all.len() == 1 => {
                TokenizeMethod::Characters
            }
            (Some(all), _) if !all.is_empty() => TokenizeMethod::Between(
                all.iter().map(|text| Expression::new(text)).collect::<Result<_, _>>()?,
            ),
            (_, Some(".")) => TokenizeMethod::Characters,
            (_, Some(text)) if !text.is_empty() => TokenizeMethod::Matches(Expression::new(text)?),
            _ => return Err(OnnxError::invalid("separators and tokenexp are missing")),
        };
        if matches!(way, TokenizeMethod::Characters) && least > 1 {
            return Err(OnnxError::invalid(format!(
                "mincharnum: {least} is not possible, since each character is a word"
            )));
        }
        let marks = call.int_or("mark", 0)? != 0;
        let padding = call.text("pad_value")?.unwrap_or_default().to_owned();
        Ok(Tokenizer { way, marks, padding, least })
    }

    fn words(&self, text: &str) -> Vec<String> {
        match &self.way {
            TokenizeMethod::Characters => text.chars().map(String::from).collect(),
            TokenizeMethod::Matches(expression) => self.matches(expression, text),
            TokenizeMethod::Between(separators) => {
                let mut parts = vec![text];
                for separator in separators {
                    parts =
                        parts.into_iter().flat_map(|text| self.between(separator, text)).collect();
                }
                parts.into_iter().map(str::to_owned).collect()
            }
        }
    }

    fn is_long(&self, text: &str) -> bool {
        // Counts no further than necessary, since a text may be long.
        text.chars().take(self.least).count() == self.least
    }

    fn between<'t>(&self, separator: &Expression, text: &'t str) -> Vec<&'t str> {
        let (mut parts, mut begin) = (Vec::new(), 0);
        while let Some(found) = separator.find(text, begin) {
            parts.extend(text.get(begin..found.start));
            // An empty match at the same place would be found forever.
            begin = if found.is_empty() { behind(text, found.start) } else { found.end };
            if begin > text.len() {
                break;
            }
        }
        parts.extend(text.get(begin..));
        parts.retain(|part| self.is_long(part));
        parts
    }

    fn matches(&self, expression: &Expression, text: &str) -> Vec<String> {
        let (mut words, mut begin) = (Vec::new(), 0);
        while begin <= text.len() {
            let Some(found) = expression.find(text, begin) else { break };
            let word = text.get(found.clone()).unwrap_or_default();
            if self.is_long(word) {
                words.push(word.to_owned());
                begin = found.end;
            } else {
                // A longer match may begin inside the short one.
                begin = behind(text, found.start);
            }
        }
        words
    }

    /// Pads all texts to the same number of words. Returns the words and that number.
    fn fill(&self, texts: Vec<Vec<String>>) -> Result<(Vec<String>, usize)> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 {
            return Ok((Vec::new(), 0));
        }
        let width = longest + if self.marks { 2 } else { 0 };
        let word = size_of::<String>() + self.padding.len();
        let bytes = width.checked_mul(texts.len()).and_then(|count| count.checked_mul(word));
        if bytes.is_none_or(|bytes| bytes > BYTES_MAX) {
            return Err(OnnxError::limit(format!(
                "{width} words for each of {} texts exceed the limit",
                texts.len()
            )));
        }
        let mut words = Vec::with_capacity(width * texts.len());
        for own in texts {
            let end = words.len() + width;
            let [begin, behind] = MARKS.map(|mark| self.marks.then(|| mark.to_owned()));
            words.extend(begin.into_iter().chain(own).chain(behind));
            words.resize(end, self.padding.clone());
        }
        Ok((words, width))
    }
}

/// The offset after the character at an offset.
fn behind(text: &str, at: usize) -> usize {
    let length = text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
    at + length
}

fn tokenize(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    if x.elem != Elem::Text || !matches!(x.shape[..], [_] | [_, _]) {
        return Err(OnnxError::input(format!(
            "{}{:?} is not a vector or matrix of texts",
            x.elem, x.shape
        )));
    }
    let tokenizer = attribute_values::value(t, call, || Tokenizer::read(call))?;
    let shape = x.shape.clone();
    let run = move |inputs: &[HostTensor]| {
        let texts = first(inputs)?.to_text();
        let words = texts.iter().map(|text| tokenizer.words(text)).collect();
        let (words, width) = tokenizer.fill(words)?;
        let mut shape = shape.clone();
        shape.push(width);
        Ok(vec![HostTensor::text(shape, words)])
    };
    several(t.host_now(&[x], &run)?)
}
