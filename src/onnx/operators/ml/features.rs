//! Operators on columns of matrices: scaling, imputation, selection and joining, all on the device.

use super::{floats, ints, table};
use crate::axes::Cut;
use crate::host::HostTensor;
use crate::operators::{Call, Outputs, Table, one, several};
use crate::step::{Compare, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, cast, indices};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("ArrayFeatureExtractor", extract),
    ("Binarizer", |t, call| {
        let x = call.tensor(0)?;
        let limit = t.number(x.elem, call.float_or("threshold", 0.0)?)?;
        let above = t.compare(Compare::Greater, x, &limit)?;
        one(cast::cast(t, &above, x.elem)?)
    }),
    ("CastMap", |t, call| {
        // A map is given as the row of its values.
        let to = match call.text("cast_to")?.unwrap_or("TO_FLOAT") {
            "TO_FLOAT" => Elem::F32,
            "TO_INT64" => Elem::I64,
            "TO_STRING" => Elem::Text,
            other => {
                return Err(OnnxError::unsupported(format!("cast_to: '{other}' is not supported")));
            }
        };
        one(cast::cast(t, call.tensor(0)?, to)?)
    }),
    ("DictVectorizer", |_, call| {
        let x = call.tensor(0)?;
        let keys = match call.texts("string_vocabulary")? {
            Some(words) => words.len(),
            None => ints(call, "int64_vocabulary")?.len(),
        };
        match x.shape.last() {
            Some(columns) if *columns == keys => one(x.clone()),
            _ => Err(OnnxError::input(format!(
                "shape {:?} does not fit a vocabulary of {keys} keys",
                x.shape
            ))),
        }
    }),
    ("FeatureVectorizer", vectorise),
    ("Imputer", impute),
    ("Normalizer", normalise),
    ("Scaler", scale),
    ("ZipMap", |_, call| {
        let x = call.tensor(0)?;
        let classes = super::Labels::read(call, "classlabels_strings", "classlabels_int64s")?.len();
        match x.shape[..] {
            [columns] | [_, columns] if columns == classes => one(x.clone()),
            _ => {
                Err(OnnxError::input(format!("shape {:?} does not fit {classes} classes", x.shape)))
            }
        }
    }),
];

fn extract(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, index) = (call.tensor(0)?, call.tensor(1)?);
    let index = cast::cast(t, index, Elem::I64)?;
    let index = t.reshape(&index, &[index.len()])?;
    let last =
        x.rank().checked_sub(1).ok_or_else(|| OnnxError::input("a scalar has no features"))?;
    let index = indices::places_of(t, &index, x.shape.get(last).copied().unwrap_or(0))?;
    let picked = indices::select(t, x, last, &index)?;
    one(if x.rank() == 1 { axes::unsqueeze(t, &picked, 0)? } else { picked })
}

/// One row of numbers, which broadcasts over a matrix.
fn row(t: &Tracer<'_>, elem: Elem, values: &[f32]) -> Result<PlanTensor> {
    let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    t.constant(HostTensor::floats(elem, vec![values.len()], values))
}

fn scale(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (_, columns) = table(x)?;
    let (offset, scale) = (floats(call, "offset")?, floats(call, "scale")?);
    if scale.len() != offset.len() || scale.len() != 1 && scale.len() != columns {
        let (offsets, scales) = (offset.len(), scale.len());
        return Err(OnnxError::input(format!(
            "{offsets} offsets and {scales} scales do not fit {columns} columns"
        )));
    }
    let elem = if x.elem == Elem::F64 { Elem::F64 } else { Elem::F32 };
    let (offset, scale) = (row(t, elem, offset)?, row(t, elem, scale)?);
    let x = cast::cast(t, x, elem)?;
    let moved = t.sub(&x, &offset)?;
    let scaled = t.mul(&moved, &scale)?;
    one(cast::cast(t, &scaled, Elem::F32)?)
}

fn impute(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (_, columns) = table(x)?;
    let float = x.elem.is_float();
    let values: Vec<f64> = if float {
        floats(call, "imputed_value_floats")?.iter().map(|value| f64::from(*value)).collect()
    } else {
        Vec::new()
    };
    let whole = if float { &[] } else { ints(call, "imputed_value_int64s")? };
    let count = values.len() + whole.len();
    if count == 0 {
        return Err(OnnxError::invalid(format!("imputed values for type {} are missing", x.elem)));
    }
    // With any other number of values, the first one applies to all columns.
    let count = if count == columns { count } else { 1 };
    let values = if float {
        HostTensor::floats(x.elem, vec![count], values.into_iter().take(count).collect())
    } else {
        HostTensor::ints(x.elem, vec![count], whole.iter().copied().take(count).collect())
    };
    let replaced = call.float_or("replaced_value_float", 0.0)?;
    let missing = if float && replaced.is_nan() {
        t.unary(Unary::IsNan, x)?
    } else {
        let replaced = match float {
            true => HostTensor::floats(x.elem, vec![], vec![replaced]),
            false => {
                HostTensor::ints(x.elem, vec![], vec![call.int_or("replaced_value_int64", 0)?])
            }
        };
        let replaced = t.constant(replaced)?;
        t.compare(Compare::Equal, x, &replaced)?
    };
    let values = t.constant(values)?;
    one(t.choose(&missing, &values, x)?)
}

/// Divides rows by their maximum, their sum (L1) or their length (L2); rows of zeros are unchanged.
fn normalise(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = cast::cast(t, call.tensor(0)?, Elem::F32)?;
    table(&x)?;
    let axes = [x.rank() - 1];
    let (numbers, total) = match call.text("norm")?.unwrap_or("MAX") {
        "MAX" => {
            // NaN is not the maximum.
            let none = t.unary(Unary::IsNan, &x)?;
            let least = t.number(Elem::F32, f64::from(f32::MIN))?;
            let numbers = t.choose(&none, &least, &x)?;
            (x.clone(), t.reduce(Reduce::Max, &numbers, &axes)?)
        }
        "L1" => {
            let sizes = t.unary(Unary::Abs, &x)?;
            (x.clone(), t.reduce(Reduce::Sum, &sizes, &axes)?)
        }
        "L2" => {
            let squares = t.mul(&x, &x)?;
            (squares.clone(), t.reduce(Reduce::Sum, &squares, &axes)?)
        }
        other => return Err(OnnxError::unsupported(format!("norm: '{other}' is not supported"))),
    };
    let zero = t.number(Elem::F32, 0.0)?;
    let empty = t.compare(Compare::Equal, &total, &zero)?;
    let share = t.div(&numbers, &total)?;
    let share = match call.text("norm")? {
        Some("L2") => {
            // The root of the share of squares, with the sign of the element (as in ONNX Runtime).
            let (root, below) = (t.unary(Unary::Sqrt, &share)?, build::compare_zero(t, &x)?);
            let negative = t.unary(Unary::Neg, &root)?;
            t.choose(&below, &negative, &root)?
        }
        _ => share,
    };
    one(t.choose(&empty, &x, &share)?)
}

/// Matrices side by side, each cut or padded with zeros to its own width.
fn vectorise(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (inputs, widths) = (call.tensors()?, ints(call, "inputdimensions")?);
    if inputs.len() != widths.len() {
        return Err(OnnxError::invalid(format!(
            "the numbers of inputs ({}) and inputdimensions ({}) differ",
            inputs.len(),
            widths.len()
        )));
    }
    let mut parts = Vec::with_capacity(inputs.len());
    for (x, width) in inputs.iter().zip(widths) {
        let width = usize::try_from(*width)
            .map_err(|_| OnnxError::invalid(format!("inputdimensions: {width} is not valid")))?;
        let rows = if x.rank() < 2 { 1 } else { x.shape.first().copied().unwrap_or(0) };
        let columns = x.len().checked_div(rows).unwrap_or(0);
        let x = cast::cast(t, x, Elem::F32)?;
        let x = t.reshape(&x, &[rows, columns])?;
        let x = axes::narrow(t, &x, 1, Cut::range(0, columns.min(width)))?;
        parts.push(axes::pad(t, &x, &[(0, 0), (0, width.saturating_sub(columns))], 0.0)?);
    }
    several([axes::cat(t, &parts, 1)?])
}
