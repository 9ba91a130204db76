//! Rules for the indices of rows. Exports of PyTorch contain `x[arange(batch), places]`: each row
//! is selected by its own index, so it does not depend on other rows.

use super::length::Length;
use super::site::{Label, Outcome, Site};
use super::value::{Fact, RowDependence};

impl Fact {
    /// The axis along which each element is the index of its own row.
    fn numbered(&self) -> Option<usize> {
        match self.content {
            RowDependence::Numbers { axis } => Some(axis),
            _ => None,
        }
    }

    /// The axis along which the first element of the last axis is the index of its own row.
    fn picks(&self) -> Option<usize> {
        let shape = self.shape.as_ref()?;
        match self.content {
            RowDependence::Picks { axis } => Some(axis),
            RowDependence::Numbers { axis } if axis + 1 < shape.len() && shape.last()?.is(1) => {
                Some(axis)
            }
            _ => None,
        }
    }

    fn numbers_along(shape: Vec<Length>, axis: usize) -> Fact {
        Fact { shape: Some(shape), content: RowDependence::Numbers { axis }, numbers: None }
    }
}

/// `Range` from 0 to the number of rows.
pub(super) fn range(length: Length) -> Option<Fact> {
    (length == Length::rows()).then(|| Fact::numbers_along(vec![length], 0))
}

/// The indices with axes of length 1 added or removed; `labels`: the previous positions of the
/// axes.
pub(super) fn labelled(fact: &Fact, labels: &[Label], shape: &[Length]) -> Option<Fact> {
    let axis = fact.numbered()?;
    let place = labels.iter().position(|label| *label == axis)?;
    Some(Fact::numbers_along(shape.to_vec(), place))
}

/// The indices in another shape, if all other axes have length 1.
pub(super) fn arranged(fact: &Fact, target: &[Length]) -> Option<Fact> {
    let axis = fact.numbered()?;
    let others = |shape: &[Length], axis: usize| {
        shape.iter().enumerate().all(|(at, length)| at == axis || length.is(1))
    };
    let place = target.iter().position(|length| *length == Length::rows())?;
    let single = others(fact.shape.as_ref()?, axis) && others(target, place);
    single.then(|| Fact::numbers_along(target.to_vec(), place))
}

/// The indices, repeated along other axes.
pub(super) fn expanded(fact: &Fact, target: &[Length]) -> Option<Fact> {
    let (axis, shape) = (fact.numbered()?, fact.shape.as_ref()?);
    let rank = shape.len().max(target.len());
    let place = axis + rank - shape.len();
    let length = |at: usize| {
        let own = (at + shape.len()).checked_sub(rank).and_then(|at| shape.get(at));
        let wanted = (at + target.len()).checked_sub(rank).and_then(|at| target.get(at));
        match (own, wanted) {
            (Some(own), Some(wanted)) if own.is(1) => Some(wanted.clone()),
            (Some(own), Some(wanted)) if wanted.is(1) || own == wanted => Some(own.clone()),
            (Some(_), Some(_)) | (None, None) => None,
            (own, wanted) => own.or(wanted).cloned(),
        }
    };
    let long = (0..rank).map(length).collect::<Option<Vec<_>>>()?;
    let along = long.get(place) == Some(&Length::rows());
    let once = long.iter().filter(|length| length.has_rows()).count() == 1;
    (along && once).then(|| Fact::numbers_along(long, place))
}

/// `Concat` of the index of each row with further indices that depend on the same row alone.
pub(super) fn joined(all: &[Fact], axis: usize) -> Option<Fact> {
    let (first, rest) = all.split_first()?;
    let (row, shape) = (first.numbered()?, first.shape.as_ref()?);
    let single = axis + 1 == shape.len() && row < axis && shape.get(axis)?.is(1);
    let mut depth = 1;
    for fact in rest {
        let own = fact.shape.as_ref().filter(|own| own.len() == shape.len())?;
        if !has_rows_along(fact, row) || own.get(row) != Some(&Length::rows()) {
            return None;
        }
        depth = i64::checked_add(depth, own.get(axis)?.number()?)?;
    }
    let mut shape = shape.clone();
    *shape.get_mut(axis)? = Length::fixed(depth);
    let content = RowDependence::Picks { axis: row };
    single.then_some(Fact { shape: Some(shape), content, numbers: None })
}

fn has_rows_along(fact: &Fact, row: usize) -> bool {
    matches!(&fact.content, RowDependence::Rows { axis, outer } if *axis == row && outer.is(1))
}

/// `Gather` of rows by their own indices; `None` for other indices.
pub(super) fn gather(data: &Fact, indices: &Fact, axis: usize) -> Option<Fact> {
    let row = indices.numbered().filter(|_| axis == 0 && data.is_stacked())?;
    picked(data, 1, indices.shape.as_ref()?, row)
}

/// `GatherND` by tuples that begin with the index of their own row; `None` for other tuples.
pub(super) fn gather_nd(data: &Fact, indices: &Fact) -> Option<Fact> {
    let row = indices.picks().filter(|_| data.is_stacked())?;
    let (depth, places) = indices.shape.as_ref()?.split_last()?;
    picked(data, usize::try_from(depth.number()?).ok()?, places, row)
}

fn picked(data: &Fact, depth: usize, places: &[Length], row: usize) -> Option<Fact> {
    let rest = data.shape.as_ref()?.get(depth..)?;
    (places.get(row)? == &Length::rows()).then_some(())?;
    Some(Fact::rows([places, rest].concat(), row, Length::one()))
}

/// `ScatterND` by tuples that begin with the index of their own row: each row changes only itself.
pub(super) fn scatter_nd(site: &mut Site<'_>) -> Outcome {
    let (data, indices, updates) = (site.fact(0)?, site.fact(1)?, site.fact(2)?);
    let row = indices.picks().filter(|_| data.is_stacked());
    let row = row.ok_or("it changes elements by indices that may be those of other rows")?;
    if !has_rows_along(updates, row) {
        return Err("its updates are not those of the same rows".into());
    }
    Ok(vec![data.clone()])
}
