//! Operators on text, all on the host.

use super::math::places;
use super::{Call, Outputs, Table, several};
use crate::onnx::elem::Elem;
use crate::onnx::host::Host;
use crate::onnx::trace::Tracer;
use std::collections::HashMap;

/// Most bytes of words joined: each node could make them twice as long.
const TEXT_MAX: usize = 1 << 28;

pub(super) const TABLE: Table = &[
    ("StringConcat", concat),
    ("StringNormalizer", normalise),
    ("StringSplit", split),
    ("TfIdfVectorizer", tf_idf),
];

fn concat(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    let shape = crate::onnx::build::broadcast(&x.shape, &y.shape)?;
    t.fits(Elem::I64, &shape)?;
    let (xs, ys) = (places(&x.shape, &shape), places(&y.shape, &shape));
    let form = (Elem::Text, shape.clone());
    let run = move |inputs: &[Host]| {
        let [x, y] = inputs else { return Err("two inputs".to_owned()) };
        let (x, y) = (x.to_text(), y.to_text());
        let word = |all: &[String], at: usize| all.get(at).cloned().unwrap_or_default();
        let length = |all: &[String], at: usize| all.get(at).map_or(0, String::len);
        let lengths = xs.iter().zip(&ys).map(|(a, b)| length(x, *a) + length(y, *b));
        if lengths.sum::<usize>() > TEXT_MAX {
            return Err(format!("the words would take more than {TEXT_MAX} bytes"));
        }
        let joined = xs.iter().zip(&ys).map(|(a, b)| word(x, *a) + &word(y, *b));
        Ok(vec![Host::text(shape.clone(), joined.collect())])
    };
    several(t.host_op("string_concat", &[x, y], &[form], run)?)
}

fn split(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let delimiter = call.text("delimiter")?.unwrap_or_default().to_owned();
    let most = call.int("maxsplit")?.and_then(|most| usize::try_from(most).ok());
    let shape = x.shape.clone();
    let run = move |inputs: &[Host]| {
        let words = inputs.first().ok_or("no input")?.to_text();
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
        Ok(vec![Host::text(wide, filled.collect()), Host::ints(Elem::I64, shape.clone(), counts)])
    };
    several(t.host_now(&[x], &run)?)
}

/// Parts between delimiters, or between runs of spaces if there is none.
fn cut(word: &str, delimiter: &str, most: Option<usize>) -> Vec<String> {
    let limit = most.map_or(usize::MAX, |most| most.saturating_add(1));
    if !delimiter.is_empty() {
        return match word.is_empty() {
            true => vec![String::new()],
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
        return Err(format!("shape {:?} is no line of words", x.shape));
    }
    let case = call.text("case_change_action")?.unwrap_or("NONE").to_owned();
    let strict = call.int_or("is_case_sensitive", 0)? != 0;
    let stopped = call.texts("stopwords")?.unwrap_or_default();
    let two = x.rank() == 2;
    let run = move |inputs: &[Host]| {
        let same = |a: &str, b: &str| {
            if strict { a == b } else { a.to_lowercase() == b.to_lowercase() }
        };
        let words = inputs.first().ok_or("no input")?.to_text().iter();
        let kept = words.filter(|word| !stopped.iter().any(|stop| same(word, stop)));
        let mut kept: Vec<String> = kept
            .map(|word| match case.as_str() {
                "LOWER" => word.to_lowercase(),
                "UPPER" => word.to_uppercase(),
                _ => word.clone(),
            })
            .collect();
        if kept.is_empty() {
            kept.push(String::new());
        }
        let shape = if two { vec![1, kept.len()] } else { vec![kept.len()] };
        Ok(vec![Host::text(shape, kept)])
    };
    several(t.host_now(&[x], &run)?)
}

/// Counts of n-grams, with gaps between their elements (ONNX operator TfIdfVectorizer).
fn tf_idf(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let length = |name: &str| -> Result<usize, String> {
        let value = call.int(name)?.ok_or_else(|| format!("{name} is missing"))?;
        usize::try_from(value).map_err(|_| format!("{name} {value}"))
    };
    let (least, most) = (length("min_gram_length")?, length("max_gram_length")?);
    let skips = length("max_skip_count")?;
    let pool = grams(call, most)?;
    let columns = call.ints("ngram_indexes")?.ok_or("ngram_indexes are missing")?.to_vec();
    let width = columns
        .iter()
        .max()
        .map_or(0, |most| usize::try_from(*most).unwrap_or(0).saturating_add(1));
    let weights = call.floats("weights")?.map(<[f32]>::to_vec);
    let mode = call.text("mode")?.unwrap_or("TF").to_owned();
    let row = x.shape.last().copied().unwrap_or(0);
    // Nothing longer than a row is in one.
    let (most, skips) = (most.min(row), skips.min(row));
    let mut shape = x.shape.clone();
    shape.pop();
    let rows: usize = shape.iter().product();
    shape.push(width);
    let form = (Elem::F32, shape.clone());
    let run = move |inputs: &[Host]| {
        let words = tokens(inputs.first().ok_or("no input")?);
        let mut counts = vec![0.0f64; rows * width];
        for (at, words) in words.chunks(row.max(1)).take(rows).enumerate() {
            for n in least.max(1)..=most {
                let gaps = if n == 1 { 0 } else { skips };
                for gap in 0..=gaps {
                    let reach = (n - 1) * (gap + 1) + 1;
                    for start in 0..(words.len() + 1).saturating_sub(reach) {
                        let gram: Vec<String> =
                            words.iter().skip(start).step_by(gap + 1).take(n).cloned().collect();
                        let column = pool.get(&gram).and_then(|number| columns.get(*number));
                        let column = column.and_then(|column| usize::try_from(*column).ok());
                        if let Some(cell) = column.and_then(|c| counts.get_mut(at * width + c)) {
                            *cell += 1.0;
                        }
                    }
                }
            }
        }
        weigh(&mut counts, width, &mode, &columns, weights.as_deref());
        Ok(vec![Host::floats(Elem::F32, shape.clone(), counts)])
    };
    several(t.host_op("tf_idf", &[x], &[form], run)?)
}

/// Numbers and words alike as words.
fn tokens(host: &Host) -> Vec<String> {
    match host.elem {
        Elem::Text => host.to_text().to_vec(),
        _ => host.to_i64().iter().map(ToString::to_string).collect(),
    }
}

/// The n-grams that are counted, with their numbers.
fn grams(call: &Call<'_>, most: usize) -> Result<HashMap<Vec<String>, usize>, String> {
    let pool: Vec<String> = match (call.texts("pool_strings")?, call.ints("pool_int64s")?) {
        (Some(words), _) => words,
        (None, Some(numbers)) => numbers.iter().map(ToString::to_string).collect(),
        (None, None) => return Err("there is no pool".to_owned()),
    };
    let starts = call.ints("ngram_counts")?.ok_or("ngram_counts are missing")?;
    let mut all = HashMap::new();
    for (at, start) in starts.iter().enumerate().take(most) {
        let begin = usize::try_from(*start).unwrap_or(usize::MAX);
        let end = starts.get(at + 1).and_then(|end| usize::try_from(*end).ok());
        let part = pool.get(begin..end.unwrap_or(pool.len())).ok_or("ngram_counts are wrong")?;
        for gram in part.chunks_exact(at + 1) {
            let number = all.len();
            all.insert(gram.to_vec(), number);
        }
    }
    Ok(all)
}

fn weigh(counts: &mut [f64], width: usize, mode: &str, columns: &[i64], weights: Option<&[f32]>) {
    let weight = |column: usize| {
        let number = columns.iter().position(|own| usize::try_from(*own) == Ok(column));
        let weight = number.and_then(|number| weights.and_then(|weights| weights.get(number)));
        weight.map_or(1.0, |weight| f64::from(*weight))
    };
    for (at, count) in counts.iter_mut().enumerate() {
        let weight = weight(at % width.max(1));
        *count = match mode {
            "IDF" => {
                if *count > 0.0 {
                    weight
                } else {
                    0.0
                }
            }
            "TFIDF" => *count * weight,
            _ => *count,
        };
    }
}
