//! One node during the walk: facts about its inputs, its attributes, and the general rule for the
//! passage of rows through an operator.

use super::length::{Length, Symbol};
use super::value::{Fact, Number, RowDependence};
use crate::graph::{Attribute, Node};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The reason why rows may depend on each other behind a node: the end of a proof, not an error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Obstacle(Cow<'static, str>);

impl From<&'static str> for Obstacle {
    fn from(reason: &'static str) -> Obstacle {
        Obstacle(reason.into())
    }
}

impl From<String> for Obstacle {
    fn from(reason: String) -> Obstacle {
        Obstacle(reason.into())
    }
}

/// Facts about the outputs, or the reason why rows may not be independent behind the node.
pub(super) type Outcome = Result<Vec<Fact>, Obstacle>;

/// The name of an axis within one node. An axis of an input and an axis of an output with the same
/// label are the same: an element of the output depends only on elements of the inputs with the
/// same index along it.
pub(super) type Label = usize;

/// First label that [`Site::fresh`] returns; rules use smaller numbers of their own.
const FRESH: Label = 1000;

/// A node with facts about its inputs.
pub(super) struct Site<'a> {
    pub(super) node: &'a Node,
    pub(super) inputs: Vec<Option<Fact>>,
    /// Attributes of the function that encloses the node.
    pub(super) outer: &'a HashMap<String, Attribute>,
    /// The number of open lengths so far in the whole walk.
    pub(super) symbols: &'a mut u32,
    labels: Label,
    lengths: BTreeMap<Label, Length>,
}

/// The labels of the axes of one operand.
pub(super) type Operand = (Fact, Vec<Label>);

impl<'a> Site<'a> {
    pub(super) fn new(
        node: &'a Node,
        inputs: Vec<Option<Fact>>,
        outer: &'a HashMap<String, Attribute>,
        symbols: &'a mut u32,
    ) -> Site<'a> {
        Site { node, inputs, outer, symbols, labels: FRESH, lengths: BTreeMap::new() }
    }

    /// The fact about a required input.
    pub(super) fn fact(&self, at: usize) -> Result<&Fact, Obstacle> {
        self.optional(at).ok_or_else(|| Obstacle::from(format!("input {at} is missing")))
    }

    pub(super) fn optional(&self, at: usize) -> Option<&Fact> {
        self.inputs.get(at).and_then(Option::as_ref)
    }

    pub(super) fn shape(&self, at: usize) -> Result<&[Length], Obstacle> {
        let shape = self.fact(at)?.shape.as_deref();
        shape
            .ok_or_else(|| Obstacle::from(format!("the number of axes of input {at} is not known")))
    }

    pub(super) fn rank(&self, at: usize) -> Result<usize, Obstacle> {
        Ok(self.shape(at)?.len())
    }

    /// The integers of an input that are the same for every request.
    pub(super) fn constants(&self, at: usize) -> Option<Vec<i64>> {
        self.optional(at)?.constants()
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        match self.node.attributes.get(name) {
            Some(Attribute::Ref(outer)) => self.outer.get(outer),
            other => other,
        }
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name) {
            Some(Attribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.attribute(name) {
            Some(Attribute::Text(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Axes from an attribute or, in newer operator sets, from an input.
    pub(super) fn axes(&self, at: usize) -> Result<Option<Vec<i64>>, Obstacle> {
        if let Some(axes) = self.ints("axes") {
            return Ok(Some(axes.to_vec()));
        }
        match self.optional(at) {
            None => Ok(None),
            Some(fact) => {
                fact.constants().map(Some).ok_or_else(|| Obstacle::from("axes are computed"))
            }
        }
    }

    /// An axis of an input; negative numbers count from the end.
    pub(super) fn axis(&self, at: usize, axis: i64) -> Result<usize, Obstacle> {
        wrap(axis, self.rank(at)?)
    }

    /// A length that is fixed by a request only.
    pub(super) fn open(&mut self) -> Length {
        *self.symbols += 1;
        Length::symbol(Symbol::Open(*self.symbols))
    }

    /// A new label, for an axis of the given length.
    pub(super) fn fresh(&mut self, length: Length) -> Label {
        self.labels += 1;
        self.lengths.insert(self.labels, length);
        self.labels
    }

    /// A new label, for an axis of unknown length.
    pub(super) fn fresh_open(&mut self) -> Label {
        let length = self.open();
        self.fresh(length)
    }

    /// The operand with the labels 0, 1, 2, ... for its axes.
    pub(super) fn plain(&self, at: usize) -> Result<Operand, Obstacle> {
        Ok((self.fact(at)?.clone(), (0..self.rank(at)?).collect()))
    }

    /// An operand with labels that no other operand shares, such as weights.
    pub(super) fn apart(&mut self, at: usize) -> Result<Option<Operand>, Obstacle> {
        let Some(fact) = self.optional(at).cloned() else { return Ok(None) };
        let Some(rank) = fact.rank() else {
            // The axes of an input that is the same for all rows have no effect.
            let shape = Some(Vec::new());
            return match fact.is_shared() {
                true => Ok(Some((Fact { shape, ..fact }, Vec::new()))),
                false => Err(format!("the number of axes of input {at} is not known").into()),
            };
        };
        let labels = (0..rank).map(|_| self.fresh_open()).collect();
        Ok(Some((fact, labels)))
    }

    /// The outputs of an operator with labelled axes; rows pass if the label of their axis is in
    /// the output. `broadcasts`: an axis of length 1 fits any length.
    pub(super) fn pass(
        &self,
        operands: &[Operand],
        outputs: &[Vec<Label>],
        broadcasts: bool,
    ) -> Outcome {
        let row = row_of(operands, broadcasts)?;
        let count = operands.iter().any(|(fact, _)| fact.counts());
        if count && row.is_some() {
            return Err("it uses the number of rows".into());
        }
        let output = |labels: &Vec<Label>| {
            let lengths = labels.iter().map(|label| self.length(operands, *label));
            let shape: Vec<Length> = lengths.collect();
            let content = match &row {
                None if count => RowDependence::Count,
                None => RowDependence::Shared,
                Some((label, outer)) => {
                    let axis = labels.iter().position(|own| own == label);
                    let axis = axis.ok_or("it works across rows")?;
                    RowDependence::Rows { axis, outer: outer.clone() }
                }
            };
            Ok(Fact { shape: Some(shape), content, numbers: None })
        };
        outputs.iter().map(output).collect()
    }

    fn length(&self, operands: &[Operand], label: Label) -> Length {
        if let Some(length) = self.lengths.get(&label) {
            return length.clone();
        }
        let all = operands.iter().filter_map(|(fact, labels)| {
            let axis = labels.iter().position(|own| *own == label)?;
            fact.shape.as_ref()?.get(axis).cloned()
        });
        let all: Vec<Length> = all.collect();
        let known = all.iter().find(|length| length.has_rows());
        let known = known.or_else(|| all.iter().find(|l| l.number().is_some_and(|n| n != 1)));
        let known = known.or_else(|| all.iter().find(|length| !length.is(1)));
        known.or(all.first()).cloned().unwrap_or_else(Length::one)
    }
}

/// The label of the rows, and the length outside of them on their axis; `None` if no operand has
/// rows.
fn row_of(operands: &[Operand], broadcasts: bool) -> Result<Option<(Label, Length)>, Obstacle> {
    let mut row: Option<(Label, Length, Length)> = None;
    for (fact, labels) in operands {
        let (RowDependence::Rows { axis, outer }, Some(shape)) = (&fact.content, &fact.shape)
        else {
            continue;
        };
        let (Some(label), Some(length)) = (labels.get(*axis), shape.get(*axis)) else {
            return Err("the axis of its rows is not known".into());
        };
        if labels.iter().filter(|other| *other == label).count() > 1 {
            return Err("rows are along two axes of an input".into());
        }
        let own = (*label, outer.clone(), length.clone());
        if row.get_or_insert_with(|| own.clone()) != &own {
            return Err("rows are along different axes of its inputs".into());
        }
    }
    let Some((label, outer, _)) = row else { return Ok(None) };
    for (fact, labels) in operands.iter().filter(|(fact, _)| fact.row_axis().is_none()) {
        let axis = labels.iter().position(|own| *own == label);
        let length = axis.and_then(|axis| fact.shape.as_ref()?.get(axis));
        if length.is_some_and(|length| !(broadcasts && length.is(1))) {
            return Err("rows are combined with an axis of a fixed length".into());
        }
    }
    Ok(Some((label, outer)))
}

/// An axis; negative numbers count from the end.
pub(super) fn wrap(axis: i64, rank: usize) -> Result<usize, Obstacle> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let own = if axis < 0 { axis.saturating_add(signed) } else { axis };
    let own = usize::try_from(own).ok().filter(|own| *own < rank);
    own.ok_or_else(|| Obstacle::from(format!("axis {axis} is out of range for {rank} axes")))
}

/// The numbers of a fact as lengths of axes, open ones where they are unknown.
pub(super) fn lengths(site: &mut Site<'_>, numbers: &[Number]) -> Result<Vec<Length>, Obstacle> {
    let mut all = Vec::with_capacity(numbers.len());
    for number in numbers {
        all.push(match number {
            Number::Known(length) => length.clone(),
            Number::Shared => site.open(),
            Number::Count => return Err("a length depends on the number of rows".into()),
        });
    }
    Ok(all)
}
