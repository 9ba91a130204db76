//! Rules for classical machine learning (domain `ai.onnx.ml`): a row is a row of a matrix.

use super::axes;
use super::length::Length;
use super::products;
use super::site::{Obstacle, Outcome, Site};
use super::value::Fact;

pub(super) fn apply(site: &mut Site<'_>, op: &str) -> Option<Outcome> {
    Some(match op {
        "Binarizer" | "CastMap" | "CategoryMapper" | "DictVectorizer" | "LabelEncoder" => {
            axes::elementwise(site)
        }
        "Imputer" | "Normalizer" | "Scaler" => matrix(site).and_then(|()| {
            let axes = [site.rank(0)?.saturating_sub(1)];
            axes::across(site, &axes, 1)
        }),
        "OneHotEncoder" => one_hot(site),
        "ArrayFeatureExtractor" => extract(site),
        "FeatureVectorizer" => vectorizer(site),
        "ZipMap" => matrix(site).and_then(|()| super::arrange::identity(site)),
        "LinearRegressor" | "SVMRegressor" | "TreeEnsemble" | "TreeEnsembleRegressor" => {
            columns(site, false)
        }
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => columns(site, true),
        _ => return None,
    })
}

/// Rejects tensors with one axis, which these operators treat as a single row.
fn matrix(site: &Site<'_>) -> Result<(), Obstacle> {
    match site.rank(0)? {
        0 | 1 => Err("it treats a vector as one row".into()),
        _ => Ok(()),
    }
}

fn one_hot(site: &mut Site<'_>) -> Outcome {
    let (fact, mut labels) = site.plain(0)?;
    let plain = labels.clone();
    labels.push(site.fresh_open());
    site.pass(&[(fact, plain)], &[labels], false)
}

/// A matrix of features in, a matrix of results out; a classifier has the labels of the classes as
/// its first output.
fn columns(site: &mut Site<'_>, classifies: bool) -> Outcome {
    matrix(site)?;
    let scores = Some(vec![site.open()]);
    let labels: Option<Vec<Length>> = Some(Vec::new());
    let shapes = if classifies { vec![labels, scores] } else { vec![scores] };
    products::by_first_axis(site, &shapes)
}

/// `FeatureVectorizer`: matrices side by side; a vector counts as one row.
fn vectorizer(site: &mut Site<'_>) -> Outcome {
    let is_table =
        |fact: &Fact| fact.row_axis() == Some(0) && fact.rank().is_some_and(|rank| rank >= 2);
    let mut inputs = site.inputs.iter().flatten();
    if inputs.clone().all(Fact::is_shared) || inputs.all(is_table) {
        return columns(site, false);
    }
    Err("an input is not a matrix with the same rows".into())
}

/// `ArrayFeatureExtractor`: elements of the last axis at a vector of indices. Exporters use it to
/// pick the class with the largest score of each row: a vector of classes becomes `[1, rows]`.
fn extract(site: &mut Site<'_>) -> Outcome {
    let (data, labels) = site.plain(0)?;
    let (indices, shape) = (site.fact(1)?.clone(), site.shape(1)?.to_vec());
    let long: Vec<usize> =
        shape.iter().enumerate().filter(|(_, length)| !length.is(1)).map(|(at, _)| at).collect();
    if long.len() > 1 && !indices.is_shared() {
        return Err("its indices have several axes".into());
    }
    let picked = if long.len() > 1 { site.fresh_open() } else { labels.len() };
    let line = long.first().copied().unwrap_or(0);
    let own = shape.into_iter().enumerate().map(|(at, length)| match at {
        at if at == line && long.len() < 2 => picked,
        _ => site.fresh(length),
    });
    let own = own.collect();
    let mut output: Vec<_> = labels.iter().rev().skip(1).rev().copied().collect();
    output.push(picked);
    if labels.len() == 1 {
        output.insert(0, site.fresh(Length::one()));
    }
    site.pass(&[(data, labels), (indices, own)], &[output], false)
}
