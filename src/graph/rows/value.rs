//! Facts about a tensor during the walk over a graph: its shape, its rows, its small integers.

use super::length::Length;

/// The dependence of a tensor's elements on rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RowDependence {
    /// On neither the inputs' elements nor the number of rows.
    Shared,
    /// On the number of rows, but not on the inputs' elements.
    Count,
    /// Axis `axis` has the length `rows`, and every element is the index of its row along it.
    Numbers { axis: usize },
    /// Like `Numbers`, for the first element along the last axis only; the others depend on the
    /// same row of the inputs alone.
    Picks { axis: usize },
    /// Axis `axis` has the length `outer * rows * inner`, and the elements of a row depend on that
    /// row of the inputs alone.
    Rows { axis: usize, outer: Length },
    /// On several rows at once, with the first node that causes this, and the reason.
    Mixed(String),
}

/// An integer of a small tensor, such as a shape.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Known(Length),
    /// Unknown, but the same for every number of rows.
    Shared,
    /// Unknown, and different for another number of rows.
    Count,
}

impl Number {
    pub(super) fn fixed(value: i64) -> Number {
        Number::Known(Length::fixed(value))
    }

    /// Returns true if it changes with the number of rows.
    pub(super) fn counts_rows(&self) -> bool {
        match self {
            Number::Known(length) => length.has_rows(),
            Number::Shared => false,
            Number::Count => true,
        }
    }
}

/// Facts about one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    /// `None` where the number of axes is not known.
    pub(super) shape: Option<Vec<Length>>,
    pub(super) content: RowDependence,
    /// Its elements in row-major order, for small integer tensors.
    pub(super) numbers: Option<Vec<Number>>,
}

impl Fact {
    pub(super) fn shared(shape: Option<Vec<Length>>) -> Fact {
        Fact { shape, content: RowDependence::Shared, numbers: None }
    }

    pub(super) fn mixed(reason: impl Into<String>) -> Fact {
        Fact { shape: None, content: RowDependence::Mixed(reason.into()), numbers: None }
    }

    /// Rows along an axis, which the shape must have.
    pub(super) fn rows(shape: Vec<Length>, axis: usize, outer: Length) -> Fact {
        Fact { shape: Some(shape), content: RowDependence::Rows { axis, outer }, numbers: None }
    }

    /// A small integer tensor of known numbers.
    pub(super) fn numbers(shape: Vec<Length>, numbers: Vec<Number>) -> Fact {
        let content = match numbers.iter().any(Number::counts_rows) {
            true => RowDependence::Count,
            false => RowDependence::Shared,
        };
        Fact { shape: Some(shape), content, numbers: Some(numbers) }
    }

    pub(super) fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.content == RowDependence::Shared
    }

    /// The axis of the rows.
    pub(super) fn row_axis(&self) -> Option<usize> {
        match &self.content {
            RowDependence::Rows { axis, .. } => Some(*axis),
            _ => None,
        }
    }

    /// Returns true if its first axis holds the rows and nothing else.
    pub(super) fn is_stacked(&self) -> bool {
        let first = self.shape.as_ref().and_then(|shape| shape.first());
        matches!(&self.content, RowDependence::Rows { axis: 0, outer } if outer.is(1))
            && first == Some(&Length::rows())
    }

    /// Returns true if its elements depend on the number of rows or on the indices of rows.
    pub(super) fn counts(&self) -> bool {
        matches!(
            self.content,
            RowDependence::Count | RowDependence::Numbers { .. } | RowDependence::Picks { .. }
        )
    }

    /// The same elements in another arrangement of unknown lengths.
    pub(super) fn with_shape(&self, shape: Option<Vec<Length>>) -> Fact {
        let content = if self.counts() { RowDependence::Count } else { self.content.clone() };
        Fact { shape, content, numbers: None }
    }

    /// The numbers, if all are known and free of symbols.
    pub(super) fn constants(&self) -> Option<Vec<i64>> {
        let number = |number: &Number| match number {
            Number::Known(length) => length.number(),
            _ => None,
        };
        self.numbers.as_ref()?.iter().map(number).collect()
    }
}
