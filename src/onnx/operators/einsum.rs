//! The operator `Einsum`: axes have names, and axes that the result lacks are summed over.

use super::{Call, Outputs, one};
use crate::host::HostTensor;
use crate::step::Reduce;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, matmul};
use graph::error::{OnnxError, Result};

/// Names of the axes that an ellipsis stands for.
const UNNAMED: [char; 16] =
    ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-', '+', '*', '/', '!', '?'];

pub(super) fn einsum(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let equation: String =
        call.text("equation")?.ok_or_else(|| OnnxError::invalid("equation is missing"))?.to_owned();
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    let tensors = call.tensors()?;
    if terms.len() != tensors.len() {
        return Err(OnnxError::invalid(format!(
            "the equation has {} terms, but the node has {} inputs",
            terms.len(),
            tensors.len()
        )));
    }
    let mut all = Vec::with_capacity(terms.len());
    for (term, x) in terms.iter().zip(&tensors) {
        let letters = letters(term, x.rank())?;
        all.push(diagonal(t, x, letters)?);
    }
    let output = match right {
        Some(right) => output(right, &all)?,
        None => implied(left, &all),
    };
    let mut all = all.into_iter();
    let mut result = all.next().ok_or_else(|| OnnxError::invalid("inputs are missing"))?;
    let rest: Vec<_> = all.collect();
    for (at, next) in rest.iter().enumerate() {
        let later = rest.iter().skip(at + 1).flat_map(|(_, letters)| letters).copied();
        let needed: Vec<char> = later.chain(output.iter().copied()).collect();
        result = product(t, &result, next, &needed)?;
    }
    let (x, letters) = result;
    let summed: Vec<usize> = letters
        .iter()
        .enumerate()
        .filter(|(_, letter)| !output.contains(letter))
        .map(|(at, _)| at)
        .collect();
    let x = t.reduce(Reduce::Sum, &x, &summed)?;
    let x = axes::squeeze(t, &x, &summed)?;
    let kept: Vec<char> = letters.into_iter().filter(|letter| output.contains(letter)).collect();
    let order = output.iter().map(|letter| {
        kept.iter()
            .position(|kept| kept == letter)
            .ok_or_else(|| OnnxError::invalid(format!("equation: '{letter}' is unknown")))
    });
    one(axes::permute(t, &x, &order.collect::<Result<Vec<_>, _>>()?)?)
}

/// A name for each axis.
fn letters(term: &str, rank: usize) -> Result<Vec<char>> {
    let wrong = || OnnxError::input(format!("equation: '{term}' does not fit {rank} axes"));
    let named = |part: &str| part.chars().all(|c| c.is_ascii_alphabetic());
    let letters: Vec<char> = match term.split_once("...") {
        None => term.chars().collect(),
        Some((before, behind)) => {
            let unnamed = rank.checked_sub(before.len() + behind.len()).ok_or_else(wrong)?;
            // The last axes are common to all terms, as in broadcasting.
            let skipped = UNNAMED.len().checked_sub(unnamed).ok_or_else(wrong)?;
            let unnamed = UNNAMED.iter().skip(skipped).copied();
            before.chars().chain(unnamed).chain(behind.chars()).collect()
        }
    };
    // Only letters may be names: no equation can name an axis of an ellipsis.
    let plain = term.split("...").all(named);
    if plain && letters.len() == rank { Ok(letters) } else { Err(wrong()) }
}

fn output(right: &str, all: &[(PlanTensor, Vec<char>)]) -> Result<Vec<char>> {
    let (before, behind) = right.split_once("...").unwrap_or((right, ""));
    let mut letters: Vec<char> = before.chars().collect();
    if right.contains("...") {
        letters.extend(unnamed(all));
    }
    letters.extend(behind.chars());
    let mut sorted = letters.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() == letters.len() {
        Ok(letters)
    } else {
        Err(OnnxError::invalid(format!("equation: '{right}' repeats a letter")))
    }
}

/// Axes of ellipses, in order.
fn unnamed(all: &[(PlanTensor, Vec<char>)]) -> Vec<char> {
    let used = |letter: &&char| all.iter().any(|(_, letters)| letters.contains(letter));
    UNNAMED.iter().filter(used).copied().collect()
}

/// The output without an arrow: the unnamed axes, then the letters that occur once, in alphabetical
/// order.
fn implied(left: &str, all: &[(PlanTensor, Vec<char>)]) -> Vec<char> {
    let mut once: Vec<char> =
        left.chars().filter(|c| c.is_ascii_alphabetic() && left.matches(*c).count() == 1).collect();
    once.sort_unstable();
    unnamed(all).into_iter().chain(once).collect()
}

/// A letter that occurs twice in one term selects the diagonal.
fn diagonal(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    letters: Vec<char>,
) -> Result<(PlanTensor, Vec<char>)> {
    let (mut x, mut letters) = (x.clone(), letters);
    while let Some((first, second)) = repeated(&letters) {
        let length = x.shape.get(first).copied().unwrap_or(0);
        if x.shape.get(second) != Some(&length) {
            return Err(OnnxError::input(format!("shape {:?} has no diagonal", x.shape)));
        }
        let mut shape = vec![1; x.rank()];
        for at in [first, second] {
            if let Some(place) = shape.get_mut(at) {
                *place = length;
            }
        }
        let eye = (0..length * length).map(|at| if at % (length + 1) == 0 { 1.0 } else { 0.0 });
        let eye = t.constant(HostTensor::numbers(x.elem, shape, eye.collect()))?;
        let masked = t.mul(&x, &eye)?;
        let summed = t.reduce(Reduce::Sum, &masked, &[second])?;
        x = axes::squeeze(t, &summed, &[second])?;
        letters.remove(second);
    }
    Ok((x, letters))
}

fn repeated(letters: &[char]) -> Option<(usize, usize)> {
    let later = |(at, letter): (usize, &char)| {
        let second = letters.iter().skip(at + 1).position(|other| other == letter)?;
        Some((at, at + 1 + second))
    };
    letters.iter().enumerate().find_map(later)
}

/// Two terms as one product of matrices; axes that no later term needs are summed over.
fn product(
    t: &mut Tracer<'_>,
    (x, xs): &(PlanTensor, Vec<char>),
    (y, ys): &(PlanTensor, Vec<char>),
    needed: &[char],
) -> Result<(PlanTensor, Vec<char>)> {
    let batch: Vec<char> =
        xs.iter().filter(|c| ys.contains(c) && needed.contains(c)).copied().collect();
    let summed: Vec<char> =
        xs.iter().filter(|c| ys.contains(c) && !needed.contains(c)).copied().collect();
    let rows: Vec<char> = xs.iter().filter(|c| !ys.contains(c)).copied().collect();
    let columns: Vec<char> = ys.iter().filter(|c| !xs.contains(c)).copied().collect();
    let length = |letter: &char| {
        let of = |x: &PlanTensor, letters: &[char]| {
            let at = letters.iter().position(|other| other == letter)?;
            x.shape.get(at).copied()
        };
        match (of(x, xs), of(y, ys)) {
            // An axis of length 1 broadcasts to that of the other term (as in ONNX Runtime).
            (None | Some(1), other) => other.unwrap_or(1),
            (Some(length), _) => length,
        }
    };
    let lengths = |letters: &[char]| letters.iter().map(length).collect::<Vec<_>>();
    let sizes = |letters: &[char]| lengths(letters).iter().product::<usize>();
    let full = |t: &mut Tracer<'_>, x: &PlanTensor, from: &[char], groups: [&[char]; 3]| {
        let wanted: Vec<char> = groups.concat();
        let order = wanted.iter().filter_map(|c| from.iter().position(|other| other == c));
        let x = axes::permute(t, x, &order.collect::<Vec<_>>())?;
        let x = axes::expand(t, &x, &lengths(&wanted))?;
        t.reshape(&x, &[sizes(groups[0]), sizes(groups[1]), sizes(groups[2])])
    };
    let a = full(t, x, xs, [&batch, &rows, &summed])?;
    let b = full(t, y, ys, [&batch, &summed, &columns])?;
    let product = matmul::matmul(t, &a, &b)?;
    let letters = [batch, rows, columns].concat();
    Ok((t.reshape(&product, &lengths(&letters))?, letters))
}
