//! Constants, ranges and conversions.

use super::{Call, Outputs, Table, one};
use crate::host::HostTensor;
use crate::host::first;
use crate::tiny_floats::Round;
use crate::trace::Tracer;
use crate::{axes, build, cast, literals};
use graph::Attribute;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use graph::raw::FileTensor;
use graph::sparse;

pub(super) const TABLE: Table = &[
    ("BitCast", bit_cast),
    ("Cast", cast),
    ("CastLike", cast_like),
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("EyeLike", eye_like),
    ("Identity", |_, call| {
        let value = call.inputs.first().cloned().flatten();
        Ok(vec![value.ok_or_else(|| OnnxError::invalid("input 0 is missing"))?])
    }),
    ("OneHot", one_hot),
    ("Range", range),
];

fn constant(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    if let Some(raw) = call.raw("value")? {
        return one(t.of_file(raw)?);
    }
    if let Some(Attribute::Sparse(sparse)) = call.attribute("sparse_value") {
        let (values, indices, shape) = sparse.as_ref();
        // Checked before the allocation: a few sparse elements may state any shape.
        t.fits(values.elem, shape)?;
        let dense = sparse::dense(values, indices, shape)?;
        return one(t.constant(HostTensor::from_raw(&dense))?);
    }
    let host = if let Some(value) = call.int("value_int")? {
        HostTensor::ints(Elem::I64, vec![], vec![value])
    } else if let Some(values) = call.ints("value_ints")? {
        HostTensor::ints(Elem::I64, vec![values.len()], values.to_vec())
    } else if let Some(value) = call.float("value_float")? {
        HostTensor::floats(Elem::F32, vec![], vec![value])
    } else if let Some(values) = call.floats("value_floats")? {
        let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        HostTensor::floats(Elem::F32, vec![values.len()], values)
    } else if let Some(word) = call.text("value_string")? {
        HostTensor::text(vec![], vec![word.to_owned()])
    } else if let Some(words) = call.texts("value_strings")? {
        HostTensor::text(vec![words.len()], words)
    } else {
        return Err(OnnxError::invalid("attribute value is missing"));
    };
    one(t.constant(host)?)
}

fn constant_of_shape(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let shape = literals::lengths(t, call.tensor(0)?)?;
    let value = match call.raw("value")? {
        Some(raw) => t.of_file(raw)?,
        None => t.number(Elem::F32, 0.0)?,
    };
    if shape.contains(&0) {
        return one(t.constant(HostTensor::numbers(value.elem, shape, vec![]))?);
    }
    let scalar = t.reshape(&value, &[])?;
    one(axes::expand(t, &scalar, &shape)?)
}

/// The type that an attribute states.
fn named_type(call: &Call<'_>, name: &str) -> Result<Option<Elem>> {
    let number = call.int(name)?;
    let elem = number.map(|number| Elem::from_onnx(i32::try_from(number).unwrap_or(-1)));
    elem.transpose()
}

fn cast(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    // Before opset 6 the type was a name.
    let to = match call.attribute("to") {
        Some(Attribute::Text(word)) => {
            let word = String::from_utf8_lossy(word).to_lowercase();
            Some(
                Elem::named(&word)
                    .ok_or_else(|| OnnxError::invalid(format!("'{word}' is not a type")))?,
            )
        }
        _ => named_type(call, "to")?,
    };
    cast_to(t, call, to.ok_or_else(|| OnnxError::invalid("attribute to is missing"))?)
}

fn cast_like(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let to = call.tensor(1)?.elem;
    cast_to(t, call, to)
}

fn cast_to(t: &mut Tracer<'_>, call: &Call<'_>, to: Elem) -> Outputs {
    let saturate = call.int_or("saturate", 1)? != 0;
    let how = match call.text("round_mode")? {
        // The default of ONNX; the attribute applies to float8e8m0 only.
        None | Some("up") => Round::Up,
        Some("down") => Round::Down,
        Some("nearest") => Round::Nearest,
        Some(other) => {
            return Err(OnnxError::unsupported(format!("round_mode '{other}' is not supported")));
        }
    };
    one(cast::cast_as(t, call.tensor(0)?, to, saturate, how)?)
}

/// Reinterprets the bits as another type of the same width.
fn bit_cast(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let to =
        named_type(call, "to")?.ok_or_else(|| OnnxError::invalid("attribute to is missing"))?;
    let x = call.tensor(0)?;
    // `to_raw` gives each element narrower than a byte a byte of its own.
    if x.elem.bits() != to.bits() || to.bits() < 8 {
        return Err(OnnxError::invalid(format!("{} and {to} differ in width", x.elem)));
    }
    let shape = x.shape.clone();
    let run = move |inputs: &[HostTensor]| {
        let host = first(inputs)?;
        let raw = FileTensor { elem: to, ..host.to_raw() };
        Ok(vec![HostTensor::from_raw(&raw)])
    };
    let made = t.host_op("bit_cast", &[x], &[(to, shape)], run)?;
    super::several(made)
}

fn eye_like(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let elem = named_type(call, "dtype")?.unwrap_or(x.elem);
    let [rows, columns] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} is not a matrix", x.shape)));
    };
    let k = call.int_or("k", 0)?;
    let mut values = vec![0.0; rows * columns];
    for row in 0..rows {
        // The attribute k may be any 64-bit integer.
        let column = i64::try_from(row).ok().and_then(|row| row.checked_add(k));
        let column = column.and_then(|column| usize::try_from(column).ok());
        if let Some(column) = column.filter(|column| *column < columns)
            && let Some(value) = values.get_mut(row * columns + column)
        {
            *value = 1.0;
        }
    }
    one(t.constant(HostTensor::numbers(elem, vec![rows, columns], values))?)
}

fn range(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let elem = call.tensor(0)?.elem;
    let ends = [call.tensor(0)?, call.tensor(1)?, call.tensor(2)?];
    if elem.is_int() {
        let mut numbers = Vec::new();
        for end in ends {
            numbers.extend(literals::ints(t, end)?.first().copied());
        }
        let [start, limit, delta] = numbers[..] else {
            return Err(OnnxError::input("expected three numbers"));
        };
        // As floats, since the difference of two 64-bit integers may overflow.
        let count = count(limit as f64 - start as f64, delta as f64)?;
        t.fits(elem, &[count])?;
        let at = |at: usize| start.wrapping_add(delta.wrapping_mul(at as i64));
        return one(t.constant(HostTensor::ints(
            elem,
            vec![count],
            (0..count).map(at).collect(),
        ))?);
    }
    let mut numbers = Vec::new();
    for end in ends {
        numbers.extend(literals::floats(t, end)?.first().copied());
    }
    let [start, limit, delta] = numbers[..] else {
        return Err(OnnxError::input("expected three numbers"));
    };
    let count = count(limit - start, delta)?;
    t.fits(elem, &[count])?;
    // Multiplied instead of summed, so that rounding errors do not add up.
    let values = (0..count).map(|at| start + delta * at as f64).collect();
    one(t.constant(HostTensor::floats(elem, vec![count], values))?)
}

/// The number of elements of a range.
fn count(length: f64, delta: f64) -> Result<usize> {
    const MOST: f64 = 1e8;
    let count = (length / delta).ceil();
    if delta == 0.0 || !count.is_finite() || count > MOST {
        return Err(OnnxError::input(format!(
            "a range of length {length} in steps of {delta} is not possible"
        )));
    }
    Ok(count.max(0.0) as usize)
}

fn one_hot(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (indices, values) = (call.tensor(0)?, call.tensor(2)?);
    // The depth may have any numeric type.
    let depth = literals::floats(t, call.tensor(1)?)?.first().copied().unwrap_or(0.0);
    if !(1.0..=1e8).contains(&depth) {
        return Err(OnnxError::input(format!("a depth of {depth} is not possible")));
    }
    let depth = depth as i64;
    let axis = crate::axes::axis(call.int_or("axis", -1)?, indices.rank() + 1)?;
    let indices = cast::cast(t, indices, Elem::I64)?;
    let length = t.number(Elem::I64, depth as f64)?;
    // Negative indices count from the end; indices out of range match nothing.
    let below = build::compare_zero(t, &indices)?;
    let shifted = t.add(&indices, &length)?;
    let indices = t.choose(&below, &shifted, &indices)?;
    let indices = axes::unsqueeze(t, &indices, axis)?;
    let mut shape = vec![1; indices.rank()];
    if let Some(length) = shape.get_mut(axis) {
        *length = usize::try_from(depth).unwrap_or(0);
    }
    t.fits(Elem::I64, &shape)?;
    let range = t.constant(HostTensor::ints(Elem::I64, shape, (0..depth).collect()))?;
    let hot = t.compare(crate::step::Compare::Equal, &indices, &range)?;
    let off = axes::narrow(t, values, 0, crate::axes::Cut::range(0, 1))?;
    let on = axes::narrow(t, values, 0, crate::axes::Cut::range(1, 2))?;
    let (off, on) = (t.reshape(&off, &[])?, t.reshape(&on, &[])?);
    one(t.choose(&hot, &on, &off)?)
}
