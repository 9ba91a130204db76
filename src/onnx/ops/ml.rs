//! Classical machine learning (`ai.onnx.ml`), as far as plain tensors express it.

use super::{Call, Outputs, Table, one, several};
use crate::onnx::elem::Elem;
use crate::onnx::host::{Data, Host};
use crate::onnx::op::Compare;
use crate::onnx::trace::{T, Tracer};
use std::collections::HashMap;

pub(super) const TABLE: Table = &[
    ("ArrayFeatureExtractor", |t, call| {
        let (x, index) = (call.tensor(0)?, call.tensor(1)?);
        let index = t.cast(index, Elem::I64)?;
        let index = t.reshape(&index, &[index.len()])?;
        let last = x.rank().checked_sub(1).ok_or("a scalar has no features")?;
        let index = t.places_of(&index, x.shape.get(last).copied().unwrap_or(0))?;
        let picked = t.select(x, last, &index)?;
        one(if x.rank() == 1 { t.unsqueeze(&picked, 0)? } else { picked })
    }),
    ("Binarizer", |t, call| {
        let x = call.tensor(0)?;
        let limit = t.number(x.elem, call.float_or("threshold", 0.0)?)?;
        let above = t.compare(Compare::Greater, x, &limit)?;
        one(t.cast(&above, x.elem)?)
    }),
    ("LabelEncoder", label_encoder),
];

/// Keys or values of a table, from whichever attribute has them.
fn column(call: &Call<'_>, side: &str) -> Result<Host, String> {
    if let Some(words) = call.texts(&format!("{side}_strings"))? {
        return Ok(Host::text(vec![words.len()], words));
    }
    if let Some(numbers) = call.ints(&format!("{side}_int64s"))? {
        return Ok(Host::ints(Elem::I64, vec![numbers.len()], numbers.to_vec()));
    }
    if let Some(numbers) = call.floats(&format!("{side}_floats"))? {
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
        return Ok(Host::floats(Elem::F32, vec![numbers.len()], numbers));
    }
    let raw = call.raw(&format!("{side}_tensor"))?;
    raw.map(|raw| Host::from_raw(raw)).ok_or_else(|| format!("there are no {side}"))
}

/// What stands for keys that are in no table.
fn default(call: &Call<'_>, elem: Elem) -> Result<Host, String> {
    if let Some(raw) = call.raw("default_tensor")? {
        return Ok(Host::from_raw(raw));
    }
    Ok(match elem {
        Elem::Text => {
            let word = call.text("default_string")?.unwrap_or("_Unused").to_owned();
            Host::text(vec![1], vec![word])
        }
        elem if elem.is_float() => {
            Host::floats(elem, vec![1], vec![call.float_or("default_float", 0.0)?])
        }
        elem => Host::ints(elem, vec![1], vec![call.int_or("default_int64", -1)?]),
    })
}

/// Elements as words to compare: numbers by their bits, so that NaN is a key too.
fn keys(host: &Host) -> Vec<String> {
    match &host.data {
        Data::Text(words) => words.clone(),
        Data::Int(numbers) => numbers.iter().map(ToString::to_string).collect(),
        Data::Float(numbers) => numbers
            .iter()
            .map(|number| if number.is_nan() { "nan".to_owned() } else { number.to_string() })
            .collect(),
    }
}

fn label_encoder(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x: &T = call.tensor(0)?;
    let (keys_host, values) = (column(call, "keys")?, column(call, "values")?);
    let default = default(call, values.elem)?;
    if keys_host.len() != values.len() {
        return Err(format!("{} keys for {} values", keys_host.len(), values.len()));
    }
    let mut table = HashMap::new();
    for (at, key) in keys(&keys_host).into_iter().enumerate() {
        table.entry(key).or_insert(at);
    }
    let (elem, shape) = (values.elem, x.shape.clone());
    let form = (elem, shape.clone());
    let run = move |inputs: &[Host]| {
        let found = keys(inputs.first().ok_or("no input")?);
        let found: Vec<Option<usize>> = found.iter().map(|key| table.get(key).copied()).collect();
        let data = match (&values.data, &default.data) {
            (Data::Text(all), Data::Text(none)) => Data::Text(picked(&found, all, none)),
            (Data::Int(all), Data::Int(none)) => Data::Int(picked(&found, all, none)),
            (Data::Float(all), Data::Float(none)) => Data::Float(picked(&found, all, none)),
            _ => return Err("values and default differ in type".to_owned()),
        };
        Ok(vec![Host { elem, shape: shape.clone(), data }])
    };
    several(t.host_op("label_encoder", &[x], &[form], run)?)
}

fn picked<V: Clone + Default>(found: &[Option<usize>], all: &[V], none: &[V]) -> Vec<V> {
    let value = |at: &Option<usize>| {
        let found = at.and_then(|at| all.get(at)).or(none.first());
        found.cloned().unwrap_or_default()
    };
    found.iter().map(value).collect()
}
