//! Pieces of graphs for tests.

use super::proto::{NodeProto, TensorTypeProto, TypeProto, TypeValue, ValueInfoProto};
use super::source::Source;

pub(crate) fn none(_: &str) -> Result<Source, String> {
    Err("no such file".into())
}

pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (input, output) = (all(inputs), all(outputs));
    NodeProto { op_type: Some(op.into()), input, output, ..Default::default() }
}

pub(crate) fn value(name: &str) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: Some(1), shape: None };
    let kind = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    ValueInfoProto { name: Some(name.into()), kind }
}
