//! Inputs and outputs of a model, with their names, datatypes and shapes, and the mode by which the
//! rows of a request become runs of the model.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::error::Error;
use types::tensor::{Datatype, Tensor, TensorError, Tensors};

/// Most rows of a request that may be empty: a client can send them at no cost, but each takes a
/// place in a batch.
pub const EMPTY_ROWS_MAX: usize = 1024;
/// Most bytes of a row of an input that is run for a request with no rows.
const NONE_BYTES_MAX: usize = 1 << 20;

/// One named input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    pub name: String,
    /// The accepted datatypes; metadata name the first.
    pub datatypes: Vec<Datatype>,
    /// Dimensions without the batch axis; -1 where any length is accepted.
    pub shape: Vec<i64>,
    /// True if any number of dimensions is accepted; `shape` is then empty.
    #[serde(default)]
    pub any_rank: bool,
    /// True if a request may omit it.
    #[serde(default)]
    pub optional: bool,
}

/// The mode by which the rows of a request become runs of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowMode {
    /// One run for the rows of several requests: they are the first axis of the model.
    #[default]
    Stacked,
    /// One run for each row, on a first axis of length 1.
    Each,
    /// One run for each request, exactly as sent: the model has no axis for rows. Within the server
    /// such a request is one row, on an axis in front of the model's own axes.
    Whole,
}

impl RowMode {
    /// The name that `model.toml` and messages use.
    pub fn as_str(self) -> &'static str {
        match self {
            RowMode::Stacked => "stacked",
            RowMode::Each => "each",
            RowMode::Whole => "whole",
        }
    }
}

impl TensorSpec {
    /// An input that takes a whole file as one element.
    pub(crate) fn file(name: &str) -> TensorSpec {
        TensorSpec::new(name, vec![Datatype::Bytes], vec![1])
    }

    /// A required input or an output, with these dimensions behind the batch axis.
    pub fn new(name: impl Into<String>, datatypes: Vec<Datatype>, shape: Vec<i64>) -> TensorSpec {
        TensorSpec { name: name.into(), datatypes, shape, any_rank: false, optional: false }
    }

    /// Returns true if a row of it can be the bytes of a file.
    pub fn takes_file(&self) -> bool {
        self.datatype() == Datatype::Bytes && self.shape == [1]
    }

    /// The datatype that metadata name.
    pub fn datatype(&self) -> Datatype {
        self.datatypes.first().copied().unwrap_or(Datatype::Fp32)
    }

    /// Returns true if a full shape (batch axis first) fits.
    pub fn fits_shape(&self, shape: &[usize]) -> bool {
        let Some((_, own)) = shape.split_first() else { return false };
        let dims = || own.iter().zip(&self.shape).all(|(dim, spec)| fits(*dim, *spec));
        self.any_rank || (own.len() == self.shape.len() && dims())
    }

    /// The shape for clients: -1 for the rows if they are first, and for any length.
    pub fn public_shape(&self, mode: RowMode) -> Vec<i64> {
        let rows = match mode {
            RowMode::Stacked => Some(-1),
            RowMode::Each => Some(1),
            RowMode::Whole => None,
        };
        match self.any_rank {
            true => vec![-1],
            false => rows.into_iter().chain(self.shape.iter().copied()).collect(),
        }
    }

    /// Checks the datatype and the full shape (batch axis first) of a tensor.
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
    /// Shapes of inputs for the warm-up, without the batch axis, if dimensions are variable;
    /// variable dimensions of other inputs are 1.
    #[serde(default)]
    pub warm_up: BTreeMap<String, Vec<usize>>,
    /// True if `model.toml` states `warm_up` of an input; else the lengths in `warm_up` are
    /// defaults.
    #[serde(default)]
    pub warm_up_stated: bool,
    /// The mode by which rows become runs.
    #[serde(default)]
    pub rows: RowMode,
    /// True if batches are run with exactly the rows that they have, without padding to a bucket.
    #[serde(default)]
    pub exact: bool,
    /// True if the shapes of outputs are hints: an answer has the shape that the run gives.
    #[serde(default)]
    pub output_hints: bool,
}

/// The inputs of a request with rows on axis 0: the form that is used behind the API.
#[derive(Debug)]
pub struct Framed {
    pub inputs: Tensors,
    pub rows: usize,
    pub sent: SentForm,
}

/// The form in which a client sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentForm {
    /// With rows on axis 0; the answer has them too.
    Rows,
    /// In the model's own shape: axis 0 of the answer is removed.
    Own,
    /// With no rows: one row of zeros is run instead, which gives the shapes of the answer. The
    /// answer has no rows either.
    NoRows,
}

impl Framed {
    /// The answer in the form in which the request was sent.
    ///
    /// # Errors
    /// If the outputs have another number of rows than the request.
    pub fn answer(&self, outputs: Tensors) -> Result<Tensors, TensorError> {
        match self.sent {
            SentForm::Rows => Ok(outputs),
            SentForm::Own => outputs.unframed(),
            SentForm::NoRows => outputs.slice_rows(0, 0),
        }
    }

    /// The inputs in the form in which they were sent.
    ///
    /// # Errors
    /// If they have no axis for rows.
    pub fn into_sent(self) -> Result<Tensors, TensorError> {
        self.answer(self.inputs.clone())
    }
}

impl Signature {
    /// Changes the mode of a signature that has rows on an open first axis.
    pub(crate) fn set_rows(&mut self, mode: RowMode) {
        self.rows = mode;
        if mode != RowMode::Whole {
            return;
        }
        for spec in self.inputs.iter_mut().chain(&mut self.outputs) {
            spec.shape.insert(0, -1);
        }
        self.warm_up.values_mut().for_each(|shape| shape.insert(0, 1));
    }

    /// Replaces default shapes for the warm-up by those of an answered request, without the batch
    /// axis. No effect if they do not fit the signature or `model.toml` states `warm_up`.
    pub fn warm_up_with(&mut self, shapes: &BTreeMap<String, Vec<usize>>) {
        let fits = |(name, shape): (&String, &Vec<usize>)| {
            let spec = self.inputs.iter().find(|spec| spec.name == *name);
            spec.is_some_and(|spec| {
                let fit = |(dim, spec): (&usize, &i64)| fits(*dim, *spec);
                let same = shape.len() == spec.shape.len();
                let fit = spec.any_rank || (same && shape.iter().zip(&spec.shape).all(fit));
                fit && !shape.contains(&0)
            })
        };
        if !self.warm_up_stated && shapes.iter().all(fits) {
            self.warm_up.extend(shapes.clone());
        }
    }

    /// Accepts a request in the model's own shape, or with rows on an axis in front of it, and
    /// checks it like [`Signature::check_inputs`].
    ///
    /// # Errors
    /// [`types::error::ErrorKind::Unprocessable`], with the input that does not fit.
    pub fn frame(&self, inputs: Tensors) -> Result<Framed, Error> {
        if let Some(row) = self.row_of_none(&inputs) {
            self.check_inputs(&row)?;
            return Ok(Framed { inputs: row, rows: 1, sent: SentForm::NoRows });
        }
        let own = self.rows == RowMode::Whole && self.is_own_shape(&inputs);
        let inputs = if own { inputs.framed() } else { inputs };
        match self.check_inputs(&inputs) {
            Ok(rows) => {
                Ok(Framed { inputs, rows, sent: if own { SentForm::Own } else { SentForm::Rows } })
            }
            Err(error) if self.rows == RowMode::Whole => Err(self.restate(error, &inputs, own)),
            Err(error) => Err(error),
        }
    }

    /// A row of zeros in the shapes of a request with no rows; `None` if the request has rows, the
    /// rows of the model are not proved independent, or a row would be large.
    fn row_of_none(&self, inputs: &Tensors) -> Option<Tensors> {
        let none = |tensor: &Tensor| tensor.shape.first() == Some(&0) && tensor.data.is_empty();
        let stacked = self.output_hints && !self.exact && self.rows == RowMode::Stacked;
        let many = inputs.0.len() > self.inputs.len();
        if !stacked || many || inputs.0.is_empty() || !inputs.0.iter().all(none) {
            return None;
        }
        let row = |tensor: &Tensor| {
            let dims = tensor.shape.get(1..)?;
            // An empty BYTES element is its four-byte length, zero.
            let size = tensor.datatype.size().unwrap_or(4);
            let bytes = dims.iter().try_fold(size, |product, dim| product.checked_mul(*dim))?;
            let data = vec![0; Some(bytes).filter(|bytes| *bytes <= NONE_BYTES_MAX)?];
            let shape = std::iter::once(1).chain(dims.iter().copied()).collect();
            Some(Tensor { shape, data: data.into(), ..tensor.clone() })
        };
        inputs.0.iter().map(row).collect()
    }

    /// Returns true if no input has an axis for rows in front of the model's own axes.
    fn is_own_shape(&self, inputs: &Tensors) -> bool {
        let spec = |tensor: &Tensor| self.inputs.iter().find(|spec| spec.name == tensor.name);
        let mut known = inputs.0.iter().filter_map(|tensor| Some((tensor, spec(tensor)?)));
        known.all(|(tensor, spec)| spec.any_rank || tensor.shape.len() <= spec.shape.len())
    }

    /// The error in terms of the model's own shape, which metadata show.
    fn restate(&self, error: Error, inputs: &Tensors, framed: bool) -> Error {
        let wrong = |spec: &TensorSpec| {
            let tensor = inputs.get(&spec.name).ok()?;
            let fits = !spec.datatypes.contains(&tensor.datatype) || spec.fits_shape(&tensor.shape);
            (!fits).then(|| tensor.shape.get(usize::from(framed)..).unwrap_or_default().to_vec())
        };
        let first = self.inputs.iter().find_map(|spec| Some((spec, wrong(spec)?)));
        let Some((spec, shape)) = first else { return error };
        Error::unprocessable(format!(
            "input '{}' has shape {shape:?}, but the model takes {:?}",
            spec.name, spec.shape
        ))
    }

    /// Checks a request's inputs: each given once, with the right datatype and shape, and equal row
    /// counts. Returns the number of rows.
    ///
    /// # Errors
    /// [`types::error::ErrorKind::Unprocessable`], with the input that does not fit.
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
            match inputs.get(&spec.name) {
                Ok(tensor) => spec.check(tensor)?,
                Err(_) if spec.optional => {}
                Err(_) => {
                    let missing = format!("input '{}' is missing", spec.name);
                    return Err(Error::unprocessable(missing));
                }
            }
        }
        if inputs.0.is_empty() {
            // A model without inputs, or a request that omits all of them, is one run.
            return Ok(1);
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
        let spec = TensorSpec::new("x", datatypes, vec![-1]);
        let signature = Signature { inputs: vec![spec], ..Signature::default() };
        let tensor = Tensor::new("x", Datatype::Uint8, shape, Bytes::from_static(data));
        signature.check_inputs(&Tensors(vec![tensor.unwrap()]))
    }

    fn whole(shapes: &[&[i64]]) -> Signature {
        let spec = |(at, shape): (usize, &&[i64])| {
            TensorSpec::new(format!("x{at}"), vec![Datatype::Uint8], shape.to_vec())
        };
        let inputs = shapes.iter().enumerate().map(spec).collect();
        Signature { inputs, rows: RowMode::Whole, ..Signature::default() }
    }

    fn tensors(shapes: &[&[usize]]) -> Tensors {
        let tensor = |(at, shape): (usize, &&[usize])| {
            let data = vec![0; shape.iter().product()];
            Tensor::new(format!("x{at}"), Datatype::Uint8, shape.to_vec(), data.into()).unwrap()
        };
        shapes.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn requests_in_the_models_own_shape_are_one_row() {
        let signature = whole(&[&[-1, 2], &[]]);
        let own = signature.frame(tensors(&[&[3, 2], &[]])).unwrap();
        assert_eq!((own.rows, own.sent), (1, SentForm::Own));
        assert_eq!(own.inputs.0[0].shape, [1, 3, 2]);
        assert_eq!(own.inputs.unframed().unwrap(), tensors(&[&[3, 2], &[]]));
        let rows = signature.frame(tensors(&[&[5, 3, 2], &[5]])).unwrap();
        assert_eq!((rows.rows, rows.sent), (5, SentForm::Rows));
        assert!(signature.frame(tensors(&[&[5, 3, 2], &[]])).is_err());
    }

    #[test]
    fn errors_state_the_models_own_shape() {
        let error = |shape| whole(&[&[1, 3, -1]]).frame(tensors(&[shape])).unwrap_err().message;
        let expected = "input 'x0' has shape [2, 4, 5], but the model takes [1, 3, -1]";
        assert_eq!(error(&[2, 4, 5]), expected);
        assert!(error(&[3, 5]).contains("has shape [3, 5], but"), "{}", error(&[3, 5]));
    }

    #[test]
    fn inputs_without_a_shape_take_any_and_optional_ones_may_be_left_out() {
        let mut signature = whole(&[&[], &[2]]);
        signature.inputs[0].any_rank = true;
        signature.inputs[1].optional = true;
        assert_eq!(
            signature.frame(tensors(&[&[3, 1, 2]])).unwrap().inputs.0[0].shape,
            [1, 3, 1, 2]
        );
        signature.inputs[1].optional = false;
        assert!(signature.frame(tensors(&[&[3]])).unwrap_err().message.contains("'x1' is missing"));
    }

    /// A request of a hundred bytes once kept an adapter busy for an hour.
    #[test]
    fn number_of_empty_rows_is_limited() {
        assert_eq!(check(vec![3, 1], b"abc"), Ok(3));
        assert_eq!(check(vec![EMPTY_ROWS_MAX, 0], b""), Ok(EMPTY_ROWS_MAX));
        for rows in [EMPTY_ROWS_MAX + 1, usize::MAX] {
            let error = check(vec![rows, 0], b"").unwrap_err();
            assert!(error.message.contains("may be empty"), "{error}");
        }
    }

    #[test]
    fn shapes_of_an_answered_request_warm_up_only_where_they_fit() {
        let spec = TensorSpec::new("x", vec![Datatype::Uint8], vec![-1, 3]);
        let guessed = BTreeMap::from([("x".to_owned(), vec![16, 3])]);
        let signature = Signature { inputs: vec![spec], warm_up: guessed, ..Signature::default() };
        let with = |name: &str, shape: &[usize], stated| {
            let mut signature = Signature { warm_up_stated: stated, ..signature.clone() };
            signature.warm_up_with(&BTreeMap::from([(name.to_owned(), shape.to_vec())]));
            signature.warm_up["x"].clone()
        };
        assert_eq!(with("x", &[5, 3], false), [5, 3]);
        assert_eq!(with("x", &[5, 3], true), [16, 3]);
        assert_eq!(with("y", &[5, 3], false), [16, 3]);
        for shape in [&[5, 4][..], &[5], &[0, 3], &[]] {
            assert_eq!(with("x", shape, false), [16, 3], "{shape:?}");
        }
    }

    #[test]
    fn a_request_with_no_rows_runs_one_of_zeros_where_rows_are_independent() {
        let spec = TensorSpec::new("x0", vec![Datatype::Uint8], vec![-1]);
        let stacked = Signature {
            inputs: vec![spec],
            output_hints: true,
            rows: RowMode::Stacked,
            ..Signature::default()
        };
        let none = stacked.frame(tensors(&[&[0, 3]])).unwrap();
        assert_eq!((none.rows, none.sent), (1, SentForm::NoRows));
        assert_eq!(none.inputs, tensors(&[&[1, 3]]));
        assert_eq!(none.answer(tensors(&[&[1, 7]])).unwrap(), tensors(&[&[0, 7]]));
        assert_eq!(none.into_sent().unwrap(), tensors(&[&[0, 3]]));
        // Too large, too many axes, or a model without the proof that its rows are independent.
        assert!(stacked.frame(tensors(&[&[0, NONE_BYTES_MAX + 1]])).is_err());
        assert!(stacked.frame(tensors(&[&[0, 3, 3]])).is_err());
        let plain = Signature { output_hints: false, ..stacked };
        assert!(plain.frame(tensors(&[&[0, 3]])).is_err());
    }
}
