//! Ensembles of trees.

use super::forest::{Aggregate, Forest, Real};
use super::read_trees::{LeafAttributes, are_positive, bases, listed, placed};
use super::scores::{Transform, logistic, probit};
use super::{Labels, in_blocks, ints, table};
use crate::host::first;
use crate::native_tensor::NativeTensor;
use crate::operators::{Call, Outputs, Table, several};
use crate::trace::Tracer;
use crate::{attribute_values, cast};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use std::collections::HashSet;

pub(in crate::operators) const TABLE: Table = &[
    ("TreeEnsemble", |t, call| match call.tensor(0)?.elem {
        Elem::F64 => regress::<f64>(t, call, TreeRegressor::placed),
        _ => regress::<f32>(t, call, TreeRegressor::placed),
    }),
    ("TreeEnsembleClassifier", |t, call| match call.tensor(0)?.elem {
        Elem::F64 => classify::<f64>(t, call),
        _ => classify::<f32>(t, call),
    }),
    ("TreeEnsembleRegressor", |t, call| match call.tensor(0)?.elem {
        Elem::F64 => regress::<f64>(t, call, TreeRegressor::listed),
        _ => regress::<f32>(t, call, TreeRegressor::listed),
    }),
];

/// Sums of a forest's weights, by target.
#[derive(Debug)]
struct TreeRegressor<V> {
    forest: Forest<V>,
    targets: usize,
    aggregate: Aggregate,
    transform: Transform,
    bases: Vec<V>,
    /// The answer has the type of the input, instead of 32-bit floats.
    keeps_type: bool,
}

fn targets(call: &Call<'_>) -> Result<usize> {
    let targets = call.int_or("n_targets", 0)?;
    let targets = usize::try_from(targets).ok().filter(|targets| *targets > 0);
    targets.ok_or_else(|| OnnxError::invalid("n_targets must be greater than zero"))
}

impl<V: Real> TreeRegressor<V> {
    /// Reads versions 1 to 3.
    fn listed(call: &Call<'_>) -> Result<TreeRegressor<V>> {
        let aggregate = match call.text("aggregate_function")?.unwrap_or("SUM") {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "aggregate_function: '{other}' is not supported"
                )));
            }
        };
        let names = LeafAttributes {
            ids: "target_ids",
            nodes: "target_nodeids",
            trees: "target_treeids",
            weights: "target_weights",
        };
        let (targets, bases) = (targets(call)?, bases::<V>(call)?);
        if !bases.is_empty() && bases.len() != targets {
            return Err(OnnxError::invalid(format!(
                "{} base values do not fit {targets} targets",
                bases.len()
            )));
        }
        let transform = Transform::named(call.text("post_transform")?)?;
        let forest = listed(call, &names, targets)?;
        Ok(TreeRegressor { forest, targets, aggregate, transform, bases, keeps_type: false })
    }

    /// Reads version 5.
    fn placed(call: &Call<'_>) -> Result<TreeRegressor<V>> {
        let aggregate = match call.int_or("aggregate_function", 1)? {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "aggregate_function: {other} is not supported"
                )));
            }
        };
        // ONNX's text has 1 and 2 in the other order; ONNX Runtime 1.32 computes it like this.
        let transform = match call.int_or("post_transform", 0)? {
            0 => Transform::None,
            1 => Transform::Logistic,
            2 => Transform::Softmax,
            3 => Transform::SoftmaxZero,
            4 => Transform::Probit,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "post_transform: {other} is not supported"
                )));
            }
        };
        let targets = targets(call)?;
        let forest = placed(call, targets)?;
        let bases = Vec::new();
        Ok(TreeRegressor { forest, targets, aggregate, transform, bases, keeps_type: true })
    }

    /// The answer of a row.
    fn row(&self, scores: &[Option<V>], all: &mut Vec<V>) {
        let base = |at: usize| self.bases.get(at).copied().unwrap_or(V::ZERO);
        if let [score] = scores {
            let score = score.unwrap_or(V::ZERO) + base(0);
            all.push(match self.transform {
                Transform::Probit => V::of(f64::from(probit(score.single()))),
                _ => score,
            });
            return;
        }
        // A target for which no leaf has a weight is zero, whatever its base value.
        let with_base =
            |(at, score): (usize, &Option<V>)| score.map_or(V::ZERO, |score| score + base(at));
        let scores = scores.iter().enumerate().map(with_base);
        if self.transform == Transform::None {
            return all.extend(scores);
        }
        let mut singles: Vec<f32> = scores.map(V::single).collect();
        self.transform.row(&mut singles);
        all.extend(singles.into_iter().map(|score| V::of(f64::from(score))));
    }
}

/// Computes the scores of all rows, block by block, and applies a function to those of each block.
fn each_block<V: Real, R: Send>(
    x: &NativeTensor,
    (rows, columns): (usize, usize),
    forest: &Forest<V>,
    (targets, aggregate): (usize, Aggregate),
    make: impl Fn(Vec<Option<V>>) -> Result<R> + Send + Sync,
) -> Result<Vec<R>> {
    let x = V::all_of(x)?;
    in_blocks(rows, |block| {
        let own = x.get(block.start * columns..block.end * columns).unwrap_or_default();
        make(forest.scores(own, (block.len(), columns), targets, aggregate))
    })
}

fn check_columns<V>(forest: &Forest<V>, columns: usize) -> Result<()> {
    if forest.columns <= columns {
        return Ok(());
    }
    Err(OnnxError::input(format!(
        "rows have {columns} columns, but the trees have {}",
        forest.columns
    )))
}

fn regress<V: Real>(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    read: fn(&Call<'_>) -> Result<TreeRegressor<V>>,
) -> Outputs {
    let x = call.tensor(0)?;
    let (rows, columns) = table(x)?;
    let model = attribute_values::value(t, call, || read(call))?;
    check_columns(&model.forest, columns)?;
    let shape = vec![rows, model.targets];
    let elem = if model.keeps_type { x.elem } else { Elem::F32 };
    t.fits(elem, &shape)?;
    let keeps_type = model.keeps_type && elem == Elem::F64;
    let run = move |inputs: &[NativeTensor]| {
        let x = first(inputs)?;
        let aims = (model.targets, model.aggregate);
        let parts = each_block(x, (rows, columns), &model.forest, aims, |scores| {
            let mut all = Vec::with_capacity(scores.len());
            scores.chunks_exact(model.targets).for_each(|row| model.row(row, &mut all));
            Ok(all)
        })?;
        let (all, shape) = (parts.concat(), vec![rows, model.targets]);
        Ok(vec![match keeps_type {
            true => V::cells(shape, all),
            false => NativeTensor::singles(shape, all.into_iter().map(V::single).collect()),
        }])
    };
    let wide = if keeps_type { Elem::F64 } else { Elem::F32 };
    let scores = super::only(t.native_op("trees", &[x], &[(wide, shape)], run)?)?;
    several([cast::cast(t, &scores, elem)?])
}

/// A forest that classifies rows.
#[derive(Debug)]
struct TreeClassifier<V> {
    forest: Forest<V>,
    labels: Labels,
    transform: Transform,
    bases: Vec<V>,
    /// Two classes, and weights for one of them.
    binary: bool,
    all_positive: bool,
}

/// A class, or the number 0 or 1 that ONNX Runtime returns instead.
#[derive(Clone, Copy, Debug)]
enum TreeClass {
    Label(usize),
    Number(usize),
}

/// The conversion of the scores of two classes: two are made from one, or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    No,
    /// 1 - score, and the score.
    Rest,
    /// The score with both signs.
    Signs,
}

impl<V: Real> TreeClassifier<V> {
    fn read(call: &Call<'_>) -> Result<TreeClassifier<V>> {
        let labels = Labels::read(call, "classlabels_strings", "classlabels_int64s")?;
        let names = LeafAttributes {
            ids: "class_ids",
            nodes: "class_nodeids",
            trees: "class_treeids",
            weights: "class_weights",
        };
        let classes: HashSet<&i64> = ints(call, "class_ids")?.iter().collect();
        let bases = bases::<V>(call)?;
        let fits = if labels.len() > 2 { bases.len() == labels.len() } else { bases.len() <= 2 };
        if !bases.is_empty() && !fits {
            return Err(OnnxError::invalid(format!(
                "{} base values do not fit {} classes",
                bases.len(),
                labels.len()
            )));
        }
        Ok(TreeClassifier {
            forest: listed(call, &names, labels.len())?,
            transform: Transform::named(call.text("post_transform")?)?,
            binary: labels.len() == 2 && classes.len() == 1,
            all_positive: are_positive::<V>(call, "class_weights")?,
            labels,
            bases,
        })
    }

    /// The class of a row; its scores are appended to the others.
    fn row(&self, scores: &[Option<V>], all: &mut Vec<f32>) -> Result<TreeClass> {
        let end = all.len() + scores.len();
        let class = match scores {
            [one] => self.alone(one.unwrap_or(V::ZERO), all),
            [one, other] => self.of_two([*one, *other], all),
            _ => self.of_many(scores, all)?,
        };
        // A single score that is transformed by PROBIT has no second one.
        all.resize(end, 0.0);
        Ok(class)
    }

    fn of_many(&self, scores: &[Option<V>], all: &mut Vec<f32>) -> Result<TreeClass> {
        let begin = all.len();
        let mut best: Option<(usize, V)> = None;
        for (class, score) in scores.iter().enumerate() {
            let score = match (score, self.bases.get(class)) {
                (Some(score), Some(base)) => Some(*score + *base),
                (score, base) => score.or(base.copied()),
            };
            all.push(score.map_or(0.0, V::single));
            if let Some(score) = score
                && best.is_none_or(|(_, most)| score > most)
            {
                best = Some((class, score));
            }
        }
        self.transform.row(all.get_mut(begin..).unwrap_or_default());
        let (class, _) =
            best.ok_or_else(|| OnnxError::invalid("a row does not reach a leaf with a weight"))?;
        Ok(TreeClass::Label(class))
    }

    /// With base values, ONNX Runtime deviates from the standard; this follows ONNX Runtime.
    fn of_two(&self, scores: [Option<V>; 2], all: &mut Vec<f32>) -> TreeClass {
        let [one, other] = scores;
        let base = |at: usize| self.bases.get(at).copied().unwrap_or(V::ZERO);
        let (scores, second) = match self.bases.len() {
            2 if other.is_some() => {
                let sum = base(1) + one.unwrap_or(V::ZERO);
                ([one.map(|_| -sum), Some(sum)], Second::No)
            }
            2 => ([one.map(|one| one + base(0)), None], Second::No),
            1 => ([one.map(|one| one + base(0)), other], Second::No),
            _ => ([one, other], Second::Signs),
        };
        let decides = scores[1].or(scores[0]).unwrap_or(V::ZERO);
        let (class, own) = self.decide(decides);
        let second = own.unwrap_or(second);
        if scores[1].is_none() && self.bases.len() < 2 {
            self.second(scores[0].unwrap_or(V::ZERO).single(), second, all);
        } else {
            let mut pair = scores.map(|score| score.map_or(0.0, V::single));
            self.transform.row(&mut pair);
            all.extend(pair);
        }
        class
    }

    /// The single score of a single class.
    fn alone(&self, score: V, all: &mut Vec<f32>) -> TreeClass {
        let base = self.bases.last().copied().unwrap_or(V::ZERO);
        let score = score + base;
        let (class, _) = self.decide(score);
        self.second(score.single(), Second::No, all);
        class
    }

    /// The class by the score of the second one, and the conversion of the scores.
    fn decide(&self, score: V) -> (TreeClass, Option<Second>) {
        if !self.binary {
            return (TreeClass::Number(usize::from(score > V::ZERO)), None);
        }
        let (limit, second) = match self.all_positive {
            true => (V::of(0.5), Second::Rest),
            false => (V::ZERO, Second::Signs),
        };
        (TreeClass::Label(usize::from(score > limit)), Some(second))
    }

    /// Appends two scores made from one.
    fn second(&self, score: f32, second: Second, all: &mut Vec<f32>) {
        all.extend(match (self.transform, second) {
            (Transform::Probit, _) => vec![probit(score)],
            (_, Second::No) => vec![score],
            (Transform::Logistic, _) => vec![logistic(-score), logistic(score)],
            (_, Second::Rest) => vec![1.0 - score, score],
            (_, Second::Signs) => vec![-score, score],
        });
    }

    /// The labels of classes.
    fn pick(&self, classes: Vec<TreeClass>) -> NativeTensor {
        let number = |class: &TreeClass| match class {
            TreeClass::Label(at) | TreeClass::Number(at) => *at,
        };
        let literal = classes.iter().any(|class| matches!(class, TreeClass::Number(_)));
        let numbers: Vec<usize> = classes.iter().map(number).collect();
        match (&self.labels, literal) {
            (Labels::Numbers(_), true) => Labels::Numbers(Vec::new()).pick(&numbers),
            _ => self.labels.pick(&numbers),
        }
    }
}

fn classify<V: Real>(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (rows, columns) = table(x)?;
    let model = attribute_values::value(t, call, || TreeClassifier::<V>::read(call))?;
    check_columns(&model.forest, columns)?;
    let width = model.labels.len();
    let forms = [(model.labels.elem(), vec![rows]), (Elem::F32, vec![rows, width])];
    let run = move |inputs: &[NativeTensor]| {
        let x = first(inputs)?;
        let aims = (width, Aggregate::Sum);
        let parts = each_block(x, (rows, columns), &model.forest, aims, |scores| {
            let mut all = Vec::with_capacity(scores.len());
            let classes = scores.chunks_exact(width).map(|row| model.row(row, &mut all));
            let classes = classes.collect::<Result<Vec<_>, _>>()?;
            Ok((classes, all))
        })?;
        let (classes, all): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let classes = model.pick(classes.concat());
        Ok(vec![classes, NativeTensor::singles(vec![rows, width], all.concat())])
    };
    several(t.native_op("trees", &[x], &forms, run)?)
}
