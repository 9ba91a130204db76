//! Convolutions and pools with an activation, or with the channels last.

use super::super::conv::conv;
use super::super::{Call, Outputs, Table, one};
use super::activation::named;
use super::{channels_first, channels_last, first_of};
use crate::literals;
use crate::trace::{PlanTensor, Tracer};
use graph::Attribute;
use graph::error::Result;

pub(in crate::operators) const TABLE: Table = &[
    ("ConvTransposeWithDynamicPads", |t, call| {
        let pads = match call.optional(2)? {
            Some(pads) => vec![("pads", Attribute::Ints(literals::ints(t, pads)?))],
            None => Vec::new(),
        };
        let inputs = [call.optional(0)?, call.optional(1)?, call.optional(3)?];
        one(first_of(t, call, "ConvTranspose", &pads, &inputs)?)
    }),
    ("FusedConv", |t, call| {
        let x = call.tensor(0)?.clone();
        let z = call.optional(3)?.cloned();
        one(fused(t, call, &x, z.as_ref())?)
    }),
    ("NhwcConv", nhwc_conv),
    ("NhwcFusedConv", nhwc_conv),
    ("NhwcMaxPool", |t, call| {
        let x = channels_first(t, call.tensor(0)?)?;
        let y = first_of(t, call, "MaxPool", &[], &[Some(&x)])?;
        one(channels_last(t, &y)?)
    }),
];

/// `activation(conv(x) + z)`
fn fused(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    x: &PlanTensor,
    z: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    let bias = call.optional(2)?.cloned();
    let mut y = conv(t, call, x, call.tensor(1)?, bias.as_ref())?;
    if let Some(z) = z {
        y = t.add(&y, z)?;
    }
    let numbers = call.floats("activation_params")?.unwrap_or(&[]);
    let numbers: Vec<Option<f32>> = numbers.iter().copied().map(Some).collect();
    named(t, call, call.text("activation")?.unwrap_or(""), &numbers, &y)
}

fn nhwc_conv(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = channels_first(t, call.tensor(0)?)?;
    let z = match call.optional(3)? {
        Some(z) => Some(channels_first(t, z)?),
        None => None,
    };
    let y = fused(t, call, &x, z.as_ref())?;
    one(channels_last(t, &y)?)
}
