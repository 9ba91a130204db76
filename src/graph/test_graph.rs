//! Pieces of graphs for tests.

use crate::FileSource;
use crate::error::{OnnxError, Result};
use crate::proto::{
    AttributeProto, DimensionProto, DimensionValue, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, TypeValue, ValueInfoProto,
};

pub fn none(_: &str) -> Result<FileSource> {
    Err(OnnxError::invalid("no such file"))
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (input, output) = (all(inputs), all(outputs));
    NodeProto { op_type: Some(op.into()), input, output, ..Default::default() }
}

pub fn value(name: &str) -> ValueInfoProto {
    let tensor = TensorTypeProto { elem_type: Some(1), shape: None };
    let kind = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    ValueInfoProto { name: Some(name.into()), kind }
}

pub fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), kind: Some(kind), ..Default::default() }
}

pub fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto { i: Some(value as i64), ..attribute(name, 2) }
}

pub fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|value| *value as i64).collect();
    AttributeProto { ints, ..attribute(name, 7) }
}

pub fn tensor_of(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: shape.iter().map(|length| *length as i64).collect(),
        data_type: Some(1),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn port(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim =
        |length: &usize| DimensionProto { value: Some(DimensionValue::Value(*length as i64)) };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
    let tensor = TensorTypeProto { elem_type: Some(1), shape };
    let kind = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    ValueInfoProto { name: Some(name.into()), kind }
}
