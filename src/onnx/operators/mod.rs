//! The operators of ONNX, written with the building blocks of a plan. One file per family; the
//! table in each lists its operators.

mod activation;
mod attention;
mod conv;
mod create;
mod detect;
mod einsum;
mod elementwise;
mod index;
mod linear_attention;
mod loss;
mod math;
mod microsoft;
mod ml;
mod normalise;
mod pad;
mod pool;
mod quantise;
mod random;
mod recurrent;
mod recurrent_weights;
mod reduce;
mod resize;
mod resize_bytes;
mod resize_rule;
mod roi;
mod sample;
mod sequence;
mod shape;
mod signal;
mod text;
mod tf_idf;
mod training;
mod window;

use super::trace::{PlanTensor, Tracer, Value};
use graph::error::{OnnxError, Result};
use graph::raw::FileTensor;
use graph::{Attribute, Node};
use std::collections::HashMap;
use std::sync::Arc;

/// The outputs of an operator.
pub(crate) type Outputs = Result<Vec<Value>>;

/// The function of an operator: it computes outputs from inputs.
pub(crate) type Operator = fn(&mut Tracer<'_>, &Call<'_>) -> Outputs;

/// The operators of a file, by name.
pub(crate) type Table = &'static [(&'static str, Operator)];

/// All operators, by domain.
const TABLES: &[(&str, Table)] = &[
    ("", activation::TABLE),
    ("", attention::TABLE),
    ("", conv::TABLE),
    ("", create::TABLE),
    ("", detect::TABLE),
    ("", elementwise::TABLE),
    ("", index::TABLE),
    ("", linear_attention::TABLE),
    ("", loss::TABLE),
    ("", math::TABLE),
    ("", microsoft::STANDARD),
    ("", normalise::TABLE),
    ("", pad::TABLE),
    ("", pool::TABLE),
    ("", quantise::TABLE),
    ("", random::TABLE),
    ("", recurrent::TABLE),
    ("", reduce::TABLE),
    ("", resize::TABLE),
    ("", sample::TABLE),
    ("", sequence::TABLE),
    ("", roi::TABLE),
    ("", shape::TABLE),
    ("", signal::TABLE),
    ("", text::TABLE),
    ("", tf_idf::TABLE),
    ("ai.onnx.ml", ml::encode::TABLE),
    ("ai.onnx.ml", ml::features::TABLE),
    ("ai.onnx.ml", ml::linear::TABLE),
    ("ai.onnx.ml", ml::svm::TABLE),
    ("ai.onnx.ml", ml::trees::TABLE),
    ("ai.onnx.preview.training", training::TABLE),
    ("com.microsoft", ml::tokenizer::TABLE),
];

/// Finds an operator.
pub(crate) fn find(domain: &str, name: &str) -> Option<Operator> {
    of_domain(domain).find(|(known, _)| *known == name).map(|(_, operator)| *operator)
}

fn of_domain(domain: &str) -> impl Iterator<Item = &'static (&'static str, Operator)> {
    let tables = TABLES.iter().filter(move |(of, _)| *of == domain).map(|(_, table)| *table);
    let more = microsoft::TABLES.iter().filter(move |_| domain == "com.microsoft");
    tables.chain(more.copied()).flatten()
}

/// A node with its inputs.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    /// `None` for optional inputs that are omitted.
    pub(crate) inputs: Vec<Option<Value>>,
    /// Attributes of the function that encloses the node.
    pub(crate) outer: &'a HashMap<String, Attribute>,
}

/// One output.
pub(crate) fn one(t: PlanTensor) -> Outputs {
    Ok(vec![Value::Tensor(t)])
}

/// Several outputs.
pub(crate) fn several(all: impl IntoIterator<Item = PlanTensor>) -> Outputs {
    Ok(all.into_iter().map(Value::Tensor).collect())
}

impl Call<'_> {
    /// A required tensor.
    ///
    /// # Errors
    /// If it is missing.
    pub(crate) fn tensor(&self, at: usize) -> Result<&PlanTensor> {
        match self.inputs.get(at) {
            Some(Some(Value::Tensor(t))) => Ok(t),
            Some(Some(_)) => Err(OnnxError::invalid(format!("input {at} is not a tensor"))),
            _ => Err(OnnxError::invalid(format!("input {at} is missing"))),
        }
    }

    /// An optional tensor.
    ///
    /// # Errors
    /// If the input is not a tensor.
    pub(crate) fn optional(&self, at: usize) -> Result<Option<&PlanTensor>> {
        match self.inputs.get(at) {
            Some(Some(Value::Tensor(t))) => Ok(Some(t)),
            Some(Some(_)) => Err(OnnxError::invalid(format!("input {at} is not a tensor"))),
            _ => Ok(None),
        }
    }

    /// All tensors, for operators that take any number.
    ///
    /// # Errors
    /// If one is missing or not a tensor.
    pub(crate) fn tensors(&self) -> Result<Vec<PlanTensor>> {
        (0..self.inputs.len()).map(|at| self.tensor(at).cloned()).collect()
    }

    /// The number of outputs of the node; trailing ones may be omitted.
    pub(crate) fn outputs(&self) -> usize {
        self.node.outputs.iter().rposition(|name| !name.is_empty()).map_or(0, |at| at + 1)
    }

    pub(crate) fn opset(&self) -> i64 {
        self.node.opset
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute> {
        match self.node.attributes.get(name) {
            Some(Attribute::Ref(outer)) => self.outer.get(outer),
            other => other,
        }
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(OnnxError::invalid(format!("attribute {name} is not an integer"))),
        }
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn float(&self, name: &str) -> Result<Option<f64>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(f64::from(*value))),
            Some(_) => Err(OnnxError::invalid(format!("attribute {name} is not a float"))),
        }
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn float_or(&self, name: &str, default: f64) -> Result<f64> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// # Errors
    /// If the attribute has another type or is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Text(bytes)) => {
                let text = std::str::from_utf8(bytes);
                text.map(Some)
                    .map_err(|_| OnnxError::invalid(format!("attribute {name} is not UTF-8")))
            }
            Some(_) => Err(OnnxError::invalid(format!("attribute {name} is not text"))),
        }
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => {
                Err(OnnxError::invalid(format!("attribute {name} is not a list of integers")))
            }
        }
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn floats(&self, name: &str) -> Result<Option<&[f32]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(OnnxError::invalid(format!("attribute {name} is not a list of floats"))),
        }
    }

    /// # Errors
    /// If the attribute has another type or is not UTF-8.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Texts(values)) => {
                let text = |bytes: &bytes::Bytes| {
                    String::from_utf8(bytes.to_vec())
                        .map_err(|_| OnnxError::invalid(format!("attribute {name} is not UTF-8")))
                };
                values.iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(OnnxError::invalid(format!("attribute {name} is not a list of texts"))),
        }
    }

    /// # Errors
    /// If the attribute has another type.
    pub(crate) fn raw(&self, name: &str) -> Result<Option<&Arc<FileTensor>>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Tensor(raw)) => Ok(Some(raw)),
            Some(_) => Err(OnnxError::invalid(format!("attribute {name} is not a tensor"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control;
    use graph::operators::OPERATORS;
    use std::collections::BTreeSet;

    /// The crate that reads files lists the operators by name; the serving process has only this
    /// list.
    #[test]
    fn listed_operators_are_those_of_the_tables() {
        for (domain, listed) in OPERATORS {
            let control = control::NAMES.iter().copied().filter(|_| domain.is_empty());
            let tables: BTreeSet<_> =
                of_domain(domain).map(|(name, _)| *name).chain(control).collect();
            let listed: BTreeSet<_> = listed.iter().copied().collect();
            assert_eq!(listed, tables, "domain '{domain}'");
        }
        let domains: BTreeSet<_> = OPERATORS.iter().map(|(domain, _)| *domain).collect();
        assert!(TABLES.iter().all(|(domain, _)| domains.contains(domain)));
    }
}
