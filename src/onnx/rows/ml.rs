//! Rules for classical machine learning (domain `ai.onnx.ml`): a row is a row of a matrix.

use super::axes;
use super::length::Length;
use super::products;
use super::site::{Outcome, Site};

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
        "ArrayFeatureExtractor" | "FeatureVectorizer" => columns(site, false),
        "ZipMap" => matrix(site).and_then(|()| super::arrange::identity(site)),
        "LinearRegressor" | "SVMRegressor" | "TreeEnsemble" | "TreeEnsembleRegressor" => {
            columns(site, false)
        }
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => columns(site, true),
        _ => return None,
    })
}

/// A single line of numbers is one row, not many.
fn matrix(site: &Site<'_>) -> Result<(), String> {
    match site.rank(0)? {
        0 | 1 => Err("it takes a line of numbers as one row".into()),
        _ => Ok(()),
    }
}

fn one_hot(site: &mut Site<'_>) -> Outcome {
    let (fact, mut labels) = site.plain(0)?;
    let plain = labels.clone();
    labels.push(site.fresh_open());
    site.pass(&[(fact, plain)], &[labels], false)
}

/// A matrix of features in, one of results out, with the labels of the classes in front where the
/// operator classifies.
fn columns(site: &mut Site<'_>, classifies: bool) -> Outcome {
    matrix(site)?;
    let scores = Some(vec![site.open()]);
    let labels: Option<Vec<Length>> = Some(Vec::new());
    let shapes = if classifies { vec![labels, scores] } else { vec![scores] };
    products::by_first_axis(site, &shapes)
}
