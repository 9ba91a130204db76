//! Element-wise operators.

use super::{Call, Outputs, Table, one};
use crate::step::{Binary, Compare, Unary};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;

/// An operator that is a single building block.
macro_rules! unary {
    ($unary:ident) => {
        |t, call| one(t.unary(Unary::$unary, call.tensor(0)?)?)
    };
}

macro_rules! binary {
    ($binary:ident) => {
        |t, call| arithmetic(t, call, Binary::$binary)
    };
}

macro_rules! compare {
    ($compare:ident) => {
        |t, call| one(t.compare(Compare::$compare, call.tensor(0)?, call.tensor(1)?)?)
    };
}

pub(super) const TABLE: Table = &[
    ("Abs", unary!(Abs)),
    ("Acos", unary!(Acos)),
    ("Acosh", unary!(Acosh)),
    ("Add", binary!(Add)),
    ("And", binary!(And)),
    ("Asin", unary!(Asin)),
    ("Asinh", unary!(Asinh)),
    ("Atan", unary!(Atan)),
    ("Atanh", unary!(Atanh)),
    ("Ceil", unary!(Ceil)),
    ("Cos", unary!(Cos)),
    ("Cosh", unary!(Cosh)),
    ("Div", binary!(Div)),
    ("Equal", super::math::equal),
    ("Erf", unary!(Erf)),
    ("Exp", unary!(Exp)),
    ("Floor", unary!(Floor)),
    ("Greater", compare!(Greater)),
    ("GreaterOrEqual", compare!(GreaterEqual)),
    ("IsNaN", unary!(IsNan)),
    ("Less", compare!(Less)),
    ("LessOrEqual", compare!(LessEqual)),
    ("Log", unary!(Log)),
    ("Mul", binary!(Mul)),
    ("Neg", unary!(Neg)),
    ("Not", unary!(Not)),
    ("Or", binary!(Or)),
    ("Reciprocal", unary!(Recip)),
    ("Relu", unary!(Relu)),
    ("Round", unary!(Round)),
    ("Sigmoid", unary!(Sigmoid)),
    ("Sign", unary!(Sign)),
    ("Sin", unary!(Sin)),
    ("Sinh", unary!(Sinh)),
    ("Sqrt", unary!(Sqrt)),
    ("Sub", binary!(Sub)),
    ("Tan", unary!(Tan)),
    ("Tanh", unary!(Tanh)),
    ("Xor", binary!(Xor)),
    ("Where", |t, call| one(t.choose(call.tensor(0)?, call.tensor(1)?, call.tensor(2)?)?)),
];

fn arithmetic(t: &mut Tracer<'_>, call: &Call<'_>, binary: Binary) -> Outputs {
    let (x, y) = (call.tensor(0)?, legacy_broadcast(t, call)?);
    one(t.binary(binary, x, &y)?)
}

/// The second input; before opset 7, an attribute may state the axis at which it begins.
fn legacy_broadcast(t: &mut Tracer<'_>, call: &Call<'_>) -> Result<PlanTensor> {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    match call.int("axis")? {
        Some(axis) if call.opset() < 7 => {
            let axis = crate::axes::axis(axis, x.rank())?;
            let behind = x.rank().saturating_sub(axis + y.rank());
            let shape: Vec<usize> =
                y.shape.iter().copied().chain(std::iter::repeat_n(1, behind)).collect();
            t.reshape(y, &shape)
        }
        _ => Ok(y.clone()),
    }
}
