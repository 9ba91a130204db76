//! Classical machine learning (`ai.onnx.ml`, and Tokenizer of `com.microsoft`), with the results of
//! ONNX Runtime. One file per family.

pub(super) mod encode;
pub(super) mod features;
mod forest;
pub(super) mod linear;
mod read_trees;
pub(super) mod regex;
mod scores;
pub(super) mod svm;
#[cfg(test)]
mod tests;
pub(super) mod tokenizer;
pub(super) mod trees;

use super::Call;
use crate::native_tensor::NativeTensor;
use crate::trace::PlanTensor;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use rayon::prelude::*;
use std::ops::Range;

/// Rows that are processed together, so that a part of the model stays in the first-level cache.
const BLOCK: usize = 256;

/// Rows and columns of a matrix; a vector is one row.
///
/// # Errors
/// If it has more than two axes.
fn table(x: &PlanTensor) -> Result<(usize, usize)> {
    match x.shape[..] {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => Err(OnnxError::input(format!(
            "shape {:?} is not a matrix of rows and columns",
            x.shape
        ))),
    }
}

/// Processes blocks of rows, in parallel if there are several. Returns the results in order.
fn in_blocks<R: Send>(
    rows: usize,
    run: impl Fn(Range<usize>) -> Result<R> + Send + Sync,
) -> Result<Vec<R>> {
    if rows <= BLOCK {
        return Ok(vec![run(0..rows)?]);
    }
    let block = |at: usize| run(at * BLOCK..rows.min((at + 1) * BLOCK));
    (0..rows.div_ceil(BLOCK)).into_par_iter().map(block).collect()
}

/// Names of classes.
#[derive(Debug)]
enum Labels {
    Words(Vec<String>),
    Numbers(Vec<i64>),
}

impl Labels {
    /// # Errors
    /// If neither or both of the attributes are given.
    fn read(call: &Call<'_>, words: &str, numbers: &str) -> Result<Labels> {
        let words = call.texts(words)?.filter(|words| !words.is_empty());
        let numbers = call.ints(numbers)?.filter(|numbers| !numbers.is_empty());
        match (words, numbers) {
            (Some(_), Some(_)) => Err(OnnxError::invalid("class labels of both types are given")),
            (Some(words), None) => Ok(Labels::Words(words)),
            (None, Some(numbers)) => Ok(Labels::Numbers(numbers.to_vec())),
            (None, None) => Err(OnnxError::invalid("class labels are missing")),
        }
    }

    fn len(&self) -> usize {
        match self {
            Labels::Words(words) => words.len(),
            Labels::Numbers(numbers) => numbers.len(),
        }
    }

    fn elem(&self) -> Elem {
        match self {
            Labels::Words(_) => Elem::Text,
            Labels::Numbers(_) => Elem::I64,
        }
    }

    /// The labels of classes by number; a number out of range is its own label.
    fn pick(&self, classes: &[usize]) -> NativeTensor {
        let shape = vec![classes.len()];
        match self {
            Labels::Words(words) => {
                let word =
                    |class: &usize| words.get(*class).cloned().unwrap_or_else(|| class.to_string());
                NativeTensor::words(shape, classes.iter().map(word).collect())
            }
            Labels::Numbers(numbers) => {
                let own = |class: usize| i64::try_from(class).unwrap_or(i64::MAX);
                let number =
                    |class: &usize| numbers.get(*class).copied().unwrap_or_else(|| own(*class));
                NativeTensor::integers(shape, classes.iter().map(number).collect())
            }
        }
    }
}

/// An attribute that is a list of floats; empty if it is omitted.
fn floats<'c>(call: &'c Call<'_>, name: &str) -> Result<&'c [f32]> {
    Ok(call.floats(name)?.unwrap_or_default())
}

/// An attribute that is a list of integers; empty if it is omitted.
fn ints<'c>(call: &'c Call<'_>, name: &str) -> Result<&'c [i64]> {
    Ok(call.ints(name)?.unwrap_or_default())
}

/// The only result of a function of the host.
fn only(results: Vec<PlanTensor>) -> Result<PlanTensor> {
    results.into_iter().next().ok_or_else(|| OnnxError::internal("a result is missing"))
}
