//! Counts of n-grams (ONNX operator TfIdfVectorizer).

use super::{Call, Outputs, Table, several};
use crate::attribute_values;
use crate::host::first;
use crate::native_tensor::NativeTensor;
use crate::trace::Tracer;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use rayon::prelude::*;
use std::collections::HashMap;

pub(super) const TABLE: Table = &[("TfIdfVectorizer", vectorise)];

/// The number of a word that is in no n-gram.
const UNKNOWN: u32 = u32::MAX;

/// The numbers of the words of the pool.
#[derive(Debug)]
enum Words {
    Text(HashMap<String, u32>),
    Integers(HashMap<i64, u32>),
}

impl Words {
    /// The words of a tensor as their numbers.
    fn find(&self, cells: &NativeTensor) -> Result<Vec<u32>> {
        Ok(match self {
            Words::Text(known) => {
                let find = |word: &String| known.get(word).copied().unwrap_or(UNKNOWN);
                cells.to_words().iter().map(find).collect()
            }
            Words::Integers(known) => {
                let find = |word: &i64| known.get(word).copied().unwrap_or(UNKNOWN);
                cells.to_integers()?.iter().map(find).collect()
            }
        })
    }
}

fn number<K: std::hash::Hash + Eq>(
    pool: impl Iterator<Item = K>,
) -> Result<(HashMap<K, u32>, Vec<u32>)> {
    let (mut known, mut numbers) = (HashMap::new(), Vec::new());
    for word in pool {
        let next = u32::try_from(known.len()).ok().filter(|next| *next < UNKNOWN);
        numbers.push(
            *known.entry(word).or_insert(
                next.ok_or_else(|| OnnxError::unsupported("the pool has too many words"))?,
            ),
        );
    }
    Ok((known, numbers))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TfIdfMode {
    Counts,
    /// The weight of each n-gram that occurs.
    Weights,
    Both,
}

#[derive(Debug)]
struct Vectoriser {
    words: Words,
    /// The columns of the n-grams that are counted.
    grams: HashMap<Vec<u32>, usize>,
    width: usize,
    lengths: (usize, usize),
    skips: usize,
    mode: TfIdfMode,
    /// The weights of the columns.
    weights: Vec<f32>,
}

fn length(call: &Call<'_>, name: &str) -> Result<usize> {
    let value = call.int(name)?.ok_or_else(|| OnnxError::invalid(format!("{name} is missing")))?;
    usize::try_from(value).map_err(|_| OnnxError::invalid(format!("{name}: {value} is negative")))
}

impl Vectoriser {
    fn read(call: &Call<'_>) -> Result<Vectoriser> {
        let (words, pool) = match (call.texts("pool_strings")?, call.ints("pool_int64s")?) {
            (Some(words), _) => {
                let (known, pool) = number(words.into_iter())?;
                (Words::Text(known), pool)
            }
            (None, Some(numbers)) => {
                let (known, pool) = number(numbers.iter().copied())?;
                (Words::Integers(known), pool)
            }
            (None, None) => return Err(OnnxError::invalid("the pool is missing")),
        };
        let mode = match call.text("mode")?.unwrap_or("TF") {
            "TF" => TfIdfMode::Counts,
            "IDF" => TfIdfMode::Weights,
            "TFIDF" => TfIdfMode::Both,
            other => {
                return Err(OnnxError::unsupported(format!("mode: '{other}' is not supported")));
            }
        };
        let columns = call
            .ints("ngram_indexes")?
            .ok_or_else(|| OnnxError::invalid("ngram_indexes are missing"))?;
        let columns = columns.iter().map(|column| {
            usize::try_from(*column)
                .map_err(|_| OnnxError::invalid(format!("ngram_indexes: {column} is negative")))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let width = columns.iter().max().map_or(0, |most| most.saturating_add(1));
        let lengths = (length(call, "min_gram_length")?.max(1), length(call, "max_gram_length")?);
        let grams = grams(call, &pool, &columns, lengths)?;
        let skips = length(call, "max_skip_count")?;
        let weights = call.floats("weights")?.unwrap_or_default();
        let weights = by_column(&columns, weights, width)?;
        Ok(Vectoriser { words, grams, width, lengths, skips, mode, weights })
    }

    /// Counts the n-grams of one row.
    fn count(&self, row: &[u32], counts: &mut [f32]) {
        let mut gram = Vec::new();
        // N-grams longer than the row cannot occur in it.
        for n in self.lengths.0..=self.lengths.1.min(row.len()) {
            // A single word has no gaps, and would be counted once for each of their lengths.
            let gaps = if n == 1 { 0 } else { self.skips.min(row.len()) };
            for step in 1..=gaps + 1 {
                let reach = (n - 1).saturating_mul(step) + 1;
                for start in 0..(row.len() + 1).saturating_sub(reach) {
                    gram.clear();
                    gram.extend(row.iter().skip(start).step_by(step).take(n));
                    let column = self.grams.get(&gram);
                    if let Some(cell) = column.and_then(|column| counts.get_mut(*column)) {
                        *cell += 1.0;
                    }
                }
            }
        }
    }

    fn weigh(&self, counts: &mut [f32]) {
        let weights = self.weights.iter().chain(std::iter::repeat(&1.0));
        for (count, weight) in counts.iter_mut().zip(weights) {
            *count = match self.mode {
                TfIdfMode::Counts => *count,
                TfIdfMode::Weights if *count > 0.0 => *weight,
                TfIdfMode::Weights => 0.0,
                TfIdfMode::Both => *count * weight,
            };
        }
    }
}

/// The weights of columns from those of n-grams; empty if the node has none.
fn by_column(columns: &[usize], weights: &[f32], width: usize) -> Result<Vec<f32>> {
    if weights.is_empty() {
        return Ok(Vec::new());
    }
    if weights.len() != columns.len() {
        return Err(OnnxError::invalid(format!(
            "{} weights do not fit {} n-grams",
            weights.len(),
            columns.len()
        )));
    }
    // A column number that is too large for memory is rejected here.
    if width > MOST_COLUMNS {
        return Err(OnnxError::unsupported(format!(
            "the result has {width} columns; the maximum is {MOST_COLUMNS}"
        )));
    }
    let mut all = vec![1.0; width];
    for (column, weight) in columns.iter().zip(weights) {
        if let Some(place) = all.get_mut(*column) {
            *place = *weight;
        }
    }
    Ok(all)
}

/// Most columns of the result.
const MOST_COLUMNS: usize = 1 << 28;

/// The n-grams of the counted lengths, with their columns.
fn grams(
    call: &Call<'_>,
    pool: &[u32],
    columns: &[usize],
    (least, most): (usize, usize),
) -> Result<HashMap<Vec<u32>, usize>> {
    let starts =
        call.ints("ngram_counts")?.ok_or_else(|| OnnxError::invalid("ngram_counts are missing"))?;
    // Each entry is the place in the pool at which the n-grams of one length begin.
    let (mut all, mut number) = (HashMap::new(), 0);
    for (at, start) in starts.iter().enumerate() {
        let begin = usize::try_from(*start).unwrap_or(usize::MAX);
        let end = starts.get(at + 1).and_then(|end| usize::try_from(*end).ok());
        let part = pool
            .get(begin..end.unwrap_or(pool.len()))
            .ok_or_else(|| OnnxError::invalid("ngram_counts are out of order or range"))?;
        for gram in part.chunks_exact(at + 1) {
            if let Some(column) = columns.get(number).filter(|_| (least..=most).contains(&(at + 1)))
            {
                all.insert(gram.to_vec(), *column);
            }
            // Columns are numbered over the n-grams of all lengths, also of those that are not
            // counted.
            number += 1;
        }
    }
    Ok(all)
}

fn vectorise(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let own = attribute_values::value(t, call, || Vectoriser::read(call))?;
    if matches!(own.words, Words::Text(_)) != (x.elem == Elem::Text) {
        return Err(OnnxError::invalid(format!(
            "an input of type {} does not fit the pool",
            x.elem
        )));
    }
    let mut shape = x.shape.clone();
    let columns = shape.pop().unwrap_or(0);
    let rows: usize = shape.iter().product();
    shape.push(own.width);
    let form = (Elem::F32, shape.clone());
    let run = move |inputs: &[NativeTensor]| {
        let words = own.words.find(first(inputs)?)?;
        let mut all = vec![0.0f32; rows * own.width];
        // Each row is counted separately, also an empty one.
        all.par_chunks_mut(own.width.max(1)).enumerate().for_each(|(at, counts)| {
            let row = words.get(at * columns..(at + 1) * columns).unwrap_or_default();
            own.count(row, counts);
            own.weigh(counts);
        });
        Ok(vec![NativeTensor::singles(shape.clone(), all)])
    };
    several(t.native_op("tf_idf", &[x], &[form], run)?)
}
