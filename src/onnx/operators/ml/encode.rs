//! Encoding of categories as numbers, and of numbers as categories.

use super::ints;
use crate::attribute_values;
use crate::host::first;
use crate::host::{Data, HostTensor};
use crate::native_tensor::NativeTensor;
use crate::operators::{Call, Outputs, Table, several};
use crate::tensor::{TensorPlace, to_data};
use crate::trace::Tracer;
use graph::elem::{Elem, Kind};
use graph::error::{OnnxError, Result};
use std::collections::HashMap;

pub(in crate::operators) const TABLE: Table = &[
    ("CategoryMapper", |t, call| encode(t, call, mapper)),
    ("LabelEncoder", |t, call| encode(t, call, encoder)),
    ("OneHotEncoder", one_hot),
];

/// The indices of keys.
#[derive(Debug)]
enum EncoderKeys {
    Words(HashMap<String, usize>),
    Integers(HashMap<i64, usize>),
    /// By their bits; all NaN are one key.
    Floats(HashMap<u64, usize>),
}

fn bits(value: f64) -> u64 {
    if value.is_nan() {
        return f64::NAN.to_bits();
    }
    // Positive and negative zero have different bits.
    (value + 0.0).to_bits()
}

fn places<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut places = HashMap::new();
    for (at, key) in keys.enumerate() {
        // Of equal keys, the first has precedence.
        places.entry(key).or_insert(at);
    }
    places
}

impl EncoderKeys {
    /// Reads a column of keys. `finds_nan`: NaN is a key like others (LabelEncoder since version
    /// 4).
    fn new(keys: &HostTensor, finds_nan: bool) -> EncoderKeys {
        match &keys.data {
            Data::Text(words) => EncoderKeys::Words(places(words.iter().cloned())),
            Data::Int(numbers) => EncoderKeys::Integers(places(numbers.iter().copied())),
            Data::Float(numbers) => {
                let mut places = places(numbers.iter().copied().map(bits));
                if !finds_nan {
                    places.remove(&bits(f64::NAN));
                }
                EncoderKeys::Floats(places)
            }
        }
    }

    /// The indices of a tensor's elements; `None` for those that are not keys.
    fn find(&self, cells: &NativeTensor) -> Result<Vec<Option<usize>>> {
        Ok(match self {
            EncoderKeys::Words(keys) => {
                let find = |word: &String| keys.get(word).copied();
                cells.to_words().iter().map(find).collect()
            }
            EncoderKeys::Integers(keys) => {
                let find = |number: &i64| keys.get(number).copied();
                cells.to_integers()?.iter().map(find).collect()
            }
            EncoderKeys::Floats(keys) => {
                let find = |number: &f64| keys.get(&bits(*number)).copied();
                cells.to_doubles()?.iter().map(find).collect()
            }
        })
    }

    /// Returns true if elements of this type can be looked up.
    fn takes(&self, elem: Elem) -> bool {
        match self {
            EncoderKeys::Words(_) => elem == Elem::Text,
            EncoderKeys::Integers(_) | EncoderKeys::Floats(_) => elem != Elem::Text,
        }
    }
}

/// Values by key, and one for unknown keys.
#[derive(Debug)]
struct Encoder {
    keys: EncoderKeys,
    elem: Elem,
    values: Data,
    default: Data,
}

impl Encoder {
    fn new(
        keys: &HostTensor,
        values: HostTensor,
        default: HostTensor,
        finds_nan: bool,
    ) -> Result<Encoder> {
        if keys.len() != values.len() {
            return Err(OnnxError::invalid(format!(
                "the numbers of keys ({}) and values ({}) differ",
                keys.len(),
                values.len()
            )));
        }
        if values.elem.kind() != default.elem.kind() || default.len() == 0 {
            return Err(OnnxError::invalid(format!(
                "values of type {} do not fit a default of type {}",
                values.elem, default.elem
            )));
        }
        let keys = EncoderKeys::new(keys, finds_nan);
        Ok(Encoder { keys, elem: values.elem, values: values.data, default: default.data })
    }

    fn run(&self, x: &NativeTensor) -> Result<NativeTensor> {
        let found = self.keys.find(x)?;
        let data = match (&self.values, &self.default) {
            (Data::Text(all), Data::Text(none)) => {
                return Ok(NativeTensor::words(x.shape.clone(), picked(&found, all, none)));
            }
            (Data::Int(all), Data::Int(none)) => Data::Int(picked(&found, all, none)),
            (Data::Float(all), Data::Float(none)) => Data::Float(picked(&found, all, none)),
            _ => return Err(OnnxError::invalid("values and default differ in type")),
        };
        let host = HostTensor { elem: self.elem, shape: x.shape.clone(), data };
        Ok(NativeTensor::of_data(self.elem, x.shape.clone(), to_data(&host, &TensorPlace::host())?))
    }
}

fn picked<V: Clone + Default>(found: &[Option<usize>], all: &[V], none: &[V]) -> Vec<V> {
    let value = |at: &Option<usize>| {
        let found = at.and_then(|at| all.get(at)).or(none.first());
        found.cloned().unwrap_or_default()
    };
    found.iter().map(value).collect()
}

/// An operator that looks up each element separately.
fn encode(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    read: fn(&Call<'_>, Elem) -> Result<Encoder>,
) -> Outputs {
    let x = call.tensor(0)?;
    let encoder = attribute_values::value(t, call, || read(call, x.elem))?;
    if !encoder.keys.takes(x.elem) {
        return Err(OnnxError::invalid(format!(
            "an input of type {} does not fit the keys",
            x.elem
        )));
    }
    let form = (encoder.elem, x.shape.clone());
    let run = move |inputs: &[NativeTensor]| Ok(vec![encoder.run(first(inputs)?)?]);
    several(t.native_op("encode", &[x], &[form], run)?)
}

fn words(words: Vec<String>) -> HostTensor {
    HostTensor::text(vec![words.len()], words)
}

fn integers(numbers: Vec<i64>) -> HostTensor {
    HostTensor::ints(Elem::I64, vec![numbers.len()], numbers)
}

/// Numbers for words, or words for numbers, depending on the type of the input.
fn either_way(
    call: &Call<'_>,
    elem: Elem,
    (names, numbers): (Vec<String>, Vec<i64>),
) -> Result<Encoder> {
    // Of equal keys, ONNX Runtime uses the last one here.
    let turned = |mut names: Vec<String>, mut numbers: Vec<i64>| {
        names.reverse();
        numbers.reverse();
        (words(names), integers(numbers))
    };
    let (names, numbers) = turned(names, numbers);
    if elem == Elem::Text {
        let default = integers(vec![call.int_or("default_int64", -1)?]);
        return Encoder::new(&names, numbers, default, false);
    }
    let default = call.text("default_string")?.unwrap_or("_Unused").to_owned();
    Encoder::new(&numbers, names, words(vec![default]), false)
}

fn mapper(call: &Call<'_>, elem: Elem) -> Result<Encoder> {
    let names = call.texts("cats_strings")?.unwrap_or_default();
    either_way(call, elem, (names, ints(call, "cats_int64s")?.to_vec()))
}

fn encoder(call: &Call<'_>, elem: Elem) -> Result<Encoder> {
    // Version 1 numbers the classes.
    if let Some(names) = call.texts("classes_strings")? {
        let numbers = (0..names.len()).map(|at| i64::try_from(at).unwrap_or(i64::MAX)).collect();
        return either_way(call, elem, (names, numbers));
    }
    let (keys, values) = (column(call, "keys")?, column(call, "values")?);
    let default = default(call, values.elem)?;
    Encoder::new(&keys, values, default, call.opset() >= 4)
}

/// The keys or values of a table, from the attribute that has them.
fn column(call: &Call<'_>, side: &str) -> Result<HostTensor> {
    if let Some(names) = call.texts(&format!("{side}_strings"))? {
        return Ok(words(names));
    }
    if let Some(numbers) = call.ints(&format!("{side}_int64s"))? {
        return Ok(integers(numbers.to_vec()));
    }
    if let Some(numbers) = call.floats(&format!("{side}_floats"))? {
        let numbers: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
        return Ok(HostTensor::floats(Elem::F32, vec![numbers.len()], numbers));
    }
    let raw = call.raw(&format!("{side}_tensor"))?;
    raw.map(|raw| HostTensor::from_raw(raw))
        .ok_or_else(|| OnnxError::invalid(format!("{side} are missing")))
}

/// The value of unknown keys.
fn default(call: &Call<'_>, elem: Elem) -> Result<HostTensor> {
    if let Some(raw) = call.raw("default_tensor")? {
        return Ok(HostTensor::from_raw(raw));
    }
    Ok(match elem.kind() {
        Kind::Text => words(vec![call.text("default_string")?.unwrap_or("_Unused").to_owned()]),
        Kind::Float => {
            // ONNX states -0.0 as the default.
            HostTensor::floats(elem, vec![1], vec![call.float_or("default_float", -0.0)?])
        }
        _ => HostTensor::ints(elem, vec![1], vec![call.int_or("default_int64", -1)?]),
    })
}

/// A column for each category: 1 where the element equals it. Floats are looked up as integers.
fn one_hot(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (names, numbers) = (call.texts("cats_strings")?, ints(call, "cats_int64s")?);
    let (keys, width) = match names.filter(|names| !names.is_empty()) {
        Some(names) => (
            attribute_values::value(t, call, || {
                Ok(EncoderKeys::new(&words(names.clone()), false))
            })?,
            names.len(),
        ),
        None => (
            attribute_values::value(t, call, || {
                Ok(EncoderKeys::new(&integers(numbers.to_vec()), false))
            })?,
            numbers.len(),
        ),
    };
    if width == 0 || !keys.takes(x.elem) {
        return Err(OnnxError::invalid(format!(
            "an input of type {} does not fit the categories",
            x.elem
        )));
    }
    let unknown_is_none = call.int_or("zeros", 1)? != 0;
    let mut shape = x.shape.clone();
    shape.push(width);
    let form = (Elem::F32, shape.clone());
    let run = move |inputs: &[NativeTensor]| {
        let found = keys.find(first(inputs)?)?;
        let mut all = vec![0.0f32; found.len() * width];
        for (row, at) in all.chunks_exact_mut(width).zip(found) {
            match at.and_then(|at| row.get_mut(at)) {
                Some(cell) => *cell = 1.0,
                None if unknown_is_none => {}
                None => return Err(OnnxError::input("an element is not among the categories")),
            }
        }
        Ok(vec![NativeTensor::singles(shape.clone(), all)])
    };
    several(t.native_op("one_hot", &[x], &[form], run)?)
}
