//! What a model takes and gives: named inputs and outputs, without the batch axis.

use crate::error::Error;
use crate::tensor::{Datatype, Tensor, Tensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most rows that may be empty. They cost who sends them nothing, and each takes its place in a
/// batch.
pub(crate) const EMPTY_ROWS_MAX: usize = 1024;

/// One named input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    pub name: String,
    /// The datatypes accepted; the first is the one that metadata name.
    pub datatypes: Vec<Datatype>,
    /// Dimensions without the batch axis; -1 where any length is accepted.
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// One that takes a whole file as one element.
    pub(crate) fn file(name: &str) -> TensorSpec {
        TensorSpec { name: name.to_owned(), datatypes: vec![Datatype::Bytes], shape: vec![1] }
    }

    /// Whether a row of it can be the bytes of a file.
    pub fn takes_file(&self) -> bool {
        self.datatype() == Datatype::Bytes && self.shape == [1]
    }

    /// The datatype that metadata name.
    pub fn datatype(&self) -> Datatype {
        self.datatypes.first().copied().unwrap_or(Datatype::Fp32)
    }

    /// Whether a full shape (batch axis first) fits.
    pub fn fits_shape(&self, shape: &[usize]) -> bool {
        shape.len() == self.shape.len() + 1
            && shape.iter().skip(1).zip(&self.shape).all(|(dim, spec)| fits(*dim, *spec))
    }

    /// Whether a tensor of this datatype and full shape (batch axis first) fits.
    pub fn check(&self, tensor: &Tensor) -> Result<(), Error> {
        if !self.datatypes.contains(&tensor.datatype) {
            let accepted: Vec<_> = self.datatypes.iter().map(|d| d.as_str()).collect();
            return Err(Error::unprocessable(format!(
                "input '{}' has datatype {}, but the model takes {}",
                self.name,
                tensor.datatype,
                accepted.join(" or ")
            )));
        }
        if self.fits_shape(&tensor.shape) {
            return Ok(());
        }
        Err(Error::unprocessable(format!(
            "input '{}' has shape {:?}, but the model takes [rows{}]",
            self.name,
            tensor.shape,
            self.shape.iter().map(|dim| format!(", {dim}")).collect::<String>()
        )))
    }
}

fn fits(dim: usize, spec: i64) -> bool {
    spec < 0 || i64::try_from(dim) == Ok(spec)
}

/// The inputs and outputs of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Shapes of inputs, without the batch axis, to warm up with where dimensions are variable;
    /// those that are not named here are 1.
    #[serde(default)]
    pub warm_up: BTreeMap<String, Vec<usize>>,
}

impl Signature {
    /// Checks a request's inputs: each named once, right datatype and shape, equal row counts.
    /// Returns the number of rows.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Unprocessable`], naming the input that does not fit.
    pub fn check_inputs(&self, inputs: &Tensors) -> Result<usize, Error> {
        for (at, tensor) in inputs.0.iter().enumerate() {
            if !self.inputs.iter().any(|spec| spec.name == tensor.name) {
                return Err(Error::unprocessable(format!(
                    "the model has no input '{}'; its inputs are {}",
                    tensor.name,
                    names(&self.inputs)
                )));
            }
            if inputs.0[..at].iter().any(|earlier| earlier.name == tensor.name) {
                return Err(Error::unprocessable(format!(
                    "input '{}' is given twice",
                    tensor.name
                )));
            }
        }
        for spec in &self.inputs {
            let tensor = inputs.get(&spec.name);
            let missing = |_| Error::unprocessable(format!("input '{}' is missing", spec.name));
            spec.check(tensor.map_err(missing)?)?;
        }
        let rows = inputs.rows().map_err(|error| Error::unprocessable(error.to_string()))?;
        if rows == 0 {
            return Err(Error::unprocessable("the request has no rows"));
        }
        if rows > inputs.bytes().max(EMPTY_ROWS_MAX) {
            return Err(Error::unprocessable(format!(
                "{rows} rows with {} bytes of data: at most {EMPTY_ROWS_MAX} may be empty",
                inputs.bytes()
            )));
        }
        Ok(rows)
    }
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("'{}'", spec.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn check(shape: Vec<usize>, data: &'static [u8]) -> Result<usize, Error> {
        let datatypes = vec![Datatype::Uint8];
        let spec = TensorSpec { name: "x".into(), datatypes, shape: vec![-1] };
        let signature = Signature { inputs: vec![spec], ..Signature::default() };
        let tensor = Tensor::new("x", Datatype::Uint8, shape, Bytes::from_static(data));
        signature.check_inputs(&Tensors(vec![tensor.unwrap()]))
    }

    /// A request of a hundred bytes kept an adapter at work for an hour.
    #[test]
    fn rows_that_hold_nothing_are_bounded() {
        assert_eq!(check(vec![3, 1], b"abc"), Ok(3));
        assert_eq!(check(vec![EMPTY_ROWS_MAX, 0], b""), Ok(EMPTY_ROWS_MAX));
        for rows in [EMPTY_ROWS_MAX + 1, usize::MAX] {
            let error = check(vec![rows, 0], b"").unwrap_err();
            assert!(error.message.contains("may be empty"), "{error}");
        }
    }
}
