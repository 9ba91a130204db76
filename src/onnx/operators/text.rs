//! Operators on text, all of them on the host.

use super::math::places;
use super::ml::regex::Whole;
use super::{Call, Outputs, Table, several};
use crate::host::HostTensor;
use crate::host::first;
use crate::trace::Tracer;
use graph::elem::Elem;
use graph::error::OnnxError;
use std::collections::HashSet;

/// Most bytes of joined words: each node could double their length.
const TEXT_MAX: usize = 1 << 28;

pub(super) const TABLE: Table = &[
    ("RegexFullMatch", full_match),
    ("StringConcat", concat),
    ("StringNormalizer", normalise),
    ("StringSplit", split),
];

/// True for each text that an expression with the syntax of RE2 matches as a whole.
fn full_match(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let whole =
        Whole::new(call.text("pattern")?.ok_or_else(|| OnnxError::invalid("pattern is missing"))?)?;
    let shape = x.shape.clone();
    let run = move |inputs: &[HostTensor]| {
        let words = first(inputs)?.to_text();
        Ok(vec![HostTensor::bools(shape.clone(), words.iter().map(|word| whole.is_match(word)))])
    };
    several(t.host_op("regex_full_match", &[x], &[(Elem::Bool, x.shape.clone())], run)?)
}

fn concat(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    let shape = crate::axes::broadcast(&x.shape, &y.shape)?;
    t.fits(Elem::I64, &shape)?;
    let (xs, ys) = (places(&x.shape, &shape), places(&y.shape, &shape));
    let form = (Elem::Text, shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let [x, y] = inputs else { return Err(OnnxError::internal("expected two inputs")) };
        let (x, y) = (x.to_text(), y.to_text());
        let word = |all: &[String], at: usize| all.get(at).cloned().unwrap_or_default();
        let length = |all: &[String], at: usize| all.get(at).map_or(0, String::len);
        let lengths = xs.iter().zip(&ys).map(|(a, b)| length(x, *a) + length(y, *b));
        if lengths.sum::<usize>() > TEXT_MAX {
            return Err(OnnxError::limit(format!("the joined words exceed {TEXT_MAX} bytes")));
        }
        let joined = xs.iter().zip(&ys).map(|(a, b)| word(x, *a) + &word(y, *b));
        Ok(vec![HostTensor::text(shape.clone(), joined.collect())])
    };
    several(t.host_op("string_concat", &[x, y], &[form], run)?)
}

fn split(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let delimiter = call.text("delimiter")?.unwrap_or_default().to_owned();
    let most = call.int("maxsplit")?.and_then(|most| usize::try_from(most).ok());
    let shape = x.shape.clone();
    let run = move |inputs: &[HostTensor]| {
        let words = first(inputs)?.to_text();
        let parts: Vec<Vec<String>> =
            words.iter().map(|word| cut(word, &delimiter, most)).collect();
        let width = parts.iter().map(Vec::len).max().unwrap_or(0);
        let counts = parts.iter().map(|parts| parts.len() as i64).collect();
        let filled = parts.into_iter().flat_map(|mut parts| {
            parts.resize(width, String::new());
            parts
        });
        let mut wide = shape.clone();
        wide.push(width);
        Ok(vec![
            HostTensor::text(wide, filled.collect()),
            HostTensor::ints(Elem::I64, shape.clone(), counts),
        ])
    };
    several(t.host_now(&[x], &run)?)
}

/// Parts between delimiters, or between runs of spaces without a delimiter.
fn cut(word: &str, delimiter: &str, most: Option<usize>) -> Vec<String> {
    // `maxsplit` counts the cuts, `splitn` the parts.
    let limit = most.map_or(usize::MAX, |most| most.saturating_add(1));
    if !delimiter.is_empty() {
        return match word.is_empty() {
            // `splitn` would return one empty part.
            true => Vec::new(),
            false => word.splitn(limit, delimiter).map(str::to_owned).collect(),
        };
    }
    let mut parts = Vec::new();
    let mut rest = word.trim();
    while !rest.is_empty() {
        let Some(at) = rest.find(char::is_whitespace).filter(|_| parts.len() + 1 < limit) else {
            parts.push(rest.to_owned());
            break;
        };
        let (part, behind) = rest.split_at(at);
        parts.push(part.to_owned());
        rest = behind.trim_start();
    }
    parts
}

fn normalise(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    if !matches!(x.shape[..], [_] | [1, _]) {
        return Err(OnnxError::input(format!("shape {:?} is not a vector of words", x.shape)));
    }
    let case = call.text("case_change_action")?.unwrap_or("NONE").to_owned();
    let strict = call.int_or("is_case_sensitive", 0)? != 0;
    // Words are compared in the case that they get, or in lower case if they are unchanged.
    let upper = case == "UPPER";
    let comparable = move |word: &str| {
        if strict { word.to_owned() } else { in_case(word, upper) }
    };
    let stopped = call.texts("stopwords")?.unwrap_or_default();
    let stopped: HashSet<String> = stopped.iter().map(|word| comparable(word)).collect();
    let two = x.rank() == 2;
    let run = move |inputs: &[HostTensor]| {
        let words = first(inputs)?.to_text().iter();
        let kept = words.filter(|word| stopped.is_empty() || !stopped.contains(&comparable(word)));
        let mut kept: Vec<String> = kept
            .map(|word| match case.as_str() {
                "LOWER" | "UPPER" => in_case(word, upper),
                _ => word.clone(),
            })
            .collect();
        // ONNX: if all words are removed, the result is one empty word.
        if kept.is_empty() {
            kept.push(String::new());
        }
        let shape = if two { vec![1, kept.len()] } else { vec![kept.len()] };
        Ok(vec![HostTensor::text(shape, kept)])
    };
    several(t.host_now(&[x], &run)?)
}

/// A word in upper or lower case, character by character, like C's `towupper` and `towlower`: a
/// character never becomes two, and its context has no effect.
fn in_case(word: &str, upper: bool) -> String {
    let one = |c: char| {
        let mut cased = c.to_uppercase();
        match (cased.next(), cased.next()) {
            (Some(cased), None) => cased,
            _ => c,
        }
    };
    match upper {
        true => word.chars().map(one).collect(),
        false => word.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect(),
    }
}
