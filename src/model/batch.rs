//! The steps around a run of a model: padding to a bucket before it, checks and removal of the
//! padding after it.

use crate::signature::{RowMode, Signature, TensorSpec};
use crate::{Model, ModelError};
use bytes::Bytes;
use types::tensor::{Datatype, Tensor, Tensors};

/// The batch sizes that are warmed up: powers of two below `max_rows`, and `max_rows` itself.
pub fn buckets(max_rows: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1usize), |rows| rows.checked_mul(2));
    powers.take_while(|rows| *rows < max_rows).chain([max_rows]).collect()
}

/// The bucket to which a batch of `rows` rows is padded; `None` if it is empty or too large.
pub fn bucket_for(rows: usize, max_rows: usize) -> Option<usize> {
    if rows == 0 || rows > max_rows {
        return None;
    }
    Some(rows.checked_next_power_of_two().map_or(max_rows, |bucket| bucket.min(max_rows)))
}

/// Inputs of zeros for the warm-up with `rows` rows, one set for each datatype that the model
/// accepts. Variable dimensions have the lengths in `warm_up`, else 1. Inputs with fewer datatypes
/// repeat their last one.
pub fn warm_up_inputs(signature: &Signature, rows: usize) -> Vec<Tensors> {
    // A model without inputs also has one set, which is empty.
    let sets = signature.inputs.iter().map(|spec| spec.datatypes.len()).max().unwrap_or(1);
    let set = |at: usize| {
        let typical = |spec: &TensorSpec| signature.warm_up.get(&spec.name).map(Vec::as_slice);
        let given = signature.inputs.iter().filter(|spec| !spec.optional);
        given.map(|spec| zeros(spec, typical(spec), at, rows)).collect()
    };
    (0..sets).map(set).collect()
}

fn zeros(spec: &TensorSpec, typical: Option<&[usize]>, at: usize, rows: usize) -> Tensor {
    let last = || spec.datatypes.last().copied().unwrap_or(spec.datatype());
    let datatype = spec.datatypes.get(at).copied().unwrap_or_else(last);
    let length = |(axis, dim): (usize, &i64)| {
        let typical = typical.and_then(|shape| shape.get(axis)).copied().unwrap_or(1);
        usize::try_from(*dim).unwrap_or(typical)
    };
    let dims: Vec<usize> = match typical {
        Some(typical) if spec.any_rank => typical.to_vec(),
        _ => spec.shape.iter().enumerate().map(length).collect(),
    };
    let shape: Vec<usize> = std::iter::once(rows).chain(dims).collect();
    // An empty BYTES element is its four-byte length, zero.
    let size = datatype.size().unwrap_or(4);
    let length = shape.iter().fold(size, |product, dim| product.saturating_mul(*dim));
    let data = Bytes::from(vec![0; length]);
    Tensor { name: spec.name.clone(), datatype, shape, data }
}

/// Runs one batch: pads it to its bucket, checks the outputs of the model, removes the padding.
///
/// # Errors
/// [`ModelError::Input`] if the inputs do not fit the signature or have too many rows;
/// [`ModelError::Broken`] if the outputs do not fit it; else the error of the model.
pub fn run_batch(
    model: &mut dyn Model,
    max_rows: usize,
    inputs: &Tensors,
    rows: usize,
) -> Result<Tensors, ModelError> {
    let bucket = check_inputs(model.signature(), max_rows, inputs, rows)?;
    // Where each row is a run of its own, padding would cost further runs.
    let padded = model.signature().rows == RowMode::Stacked && !model.signature().exact;
    let bucket = if padded { bucket } else { rows };
    let padded = inputs.pad_rows(bucket).map_err(|error| ModelError::Input(error.to_string()))?;
    let outputs = model.forward(&padded, bucket)?;
    let outputs = check_outputs(model.signature(), outputs, bucket)?;
    outputs.slice_rows(0, rows).map_err(|error| ModelError::Broken(error.to_string()))
}

/// Checks the inputs of a batch. Returns its bucket.
///
/// # Errors
/// [`ModelError::Input`] if they do not fit the signature or have too many rows.
pub fn check_inputs(
    signature: &Signature,
    max_rows: usize,
    inputs: &Tensors,
    rows: usize,
) -> Result<usize, ModelError> {
    let given = signature.check_inputs(inputs);
    let given = given.map_err(|error| ModelError::Input(error.to_string()))?;
    if given != rows {
        return Err(ModelError::Input(format!("the batch has {given} rows, not {rows}")));
    }
    let too_many =
        || ModelError::Input(format!("{rows} rows, but the model takes 1 to {max_rows}"));
    bucket_for(rows, max_rows).ok_or_else(too_many)
}

/// Checks the outputs against the signature: each exists once, with the right datatype, shape and
/// rows, and data of the right length. Returns them in the order of the signature.
pub fn check_outputs(
    signature: &Signature,
    outputs: Tensors,
    rows: usize,
) -> Result<Tensors, ModelError> {
    if outputs.0.len() != signature.outputs.len() {
        let (given, expected) = (outputs.0.len(), signature.outputs.len());
        return Err(ModelError::Broken(format!(
            "the model returned {given} outputs, not {expected}"
        )));
    }
    let hints = signature.output_hints;
    signature.outputs.iter().map(|spec| check_output(spec, &outputs, rows, hints)).collect()
}

fn check_output(
    spec: &TensorSpec,
    outputs: &Tensors,
    rows: usize,
    hints: bool,
) -> Result<Tensor, ModelError> {
    let broken = |detail: String| ModelError::Broken(format!("output '{}': {detail}", spec.name));
    let output =
        outputs.get(&spec.name).map_err(|_| broken("the model did not return it".into()))?;
    if !spec.datatypes.contains(&output.datatype) {
        let expected = list(&spec.datatypes);
        return Err(broken(format!("it has datatype {}, not {expected}", output.datatype)));
    }
    let fits = hints || spec.fits_shape(&output.shape);
    if !fits || output.shape.first() != Some(&rows) {
        let dims: String = spec.shape.iter().map(|dim| format!(", {dim}")).collect();
        return Err(broken(format!("it has shape {:?}, not [{rows}{dims}]", output.shape)));
    }
    let Tensor { name, datatype, shape, data } = output.clone();
    Tensor::new(name, datatype, shape, data).map_err(|error| broken(error.to_string()))
}

fn list(datatypes: &[Datatype]) -> String {
    datatypes.iter().map(|datatype| datatype.as_str()).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(name: &str, datatypes: &[Datatype], shape: &[i64]) -> TensorSpec {
        TensorSpec::new(name, datatypes.to_vec(), shape.to_vec())
    }

    fn tensor(name: &str, shape: &[usize], data: &'static [u8]) -> Tensor {
        let (name, shape, data) = (name.into(), shape.to_vec(), Bytes::from_static(data));
        Tensor { name, datatype: Datatype::Uint8, shape, data }
    }

    /// Returns prepared outputs and records the number of rows of each run.
    struct Scripted {
        signature: Signature,
        outputs: Vec<Tensor>,
        seen: Vec<usize>,
    }

    impl Scripted {
        fn new(outputs: Vec<Tensor>) -> Scripted {
            let one = |name| vec![spec(name, &[Datatype::Uint8], &[2])];
            let (inputs, expected) = (one("x"), one("y"));
            let signature = Signature { inputs, outputs: expected, ..Signature::default() };
            Scripted { signature, outputs, seen: Vec::new() }
        }

        fn run(&mut self, rows: usize) -> Result<Tensors, ModelError> {
            let inputs = Tensors(vec![tensor("x", &[3, 2], b"abcdef")]);
            run_batch(self, 6, &inputs, rows)
        }
    }

    impl Model for Scripted {
        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
            assert_eq!(inputs.rows().unwrap(), rows);
            self.seen.push(rows);
            Ok(Tensors(self.outputs.clone()))
        }
    }

    #[test]
    fn buckets_are_powers_of_two_and_the_limit() {
        assert_eq!(buckets(1), [1]);
        assert_eq!(buckets(8), [1, 2, 4, 8]);
        assert_eq!(buckets(12), [1, 2, 4, 8, 12]);
        assert_eq!(bucket_for(0, 8), None);
        assert_eq!(bucket_for(9, 8), None);
        assert_eq!(bucket_for(9, 12), Some(12));
        assert_eq!(bucket_for(usize::MAX, usize::MAX), Some(usize::MAX));
    }

    proptest! {
        #[test]
        fn every_batch_has_the_smallest_bucket_that_holds_it(max in 1usize..5000, rows in 1usize..5000) {
            let smallest = buckets(max).into_iter().find(|bucket| *bucket >= rows);
            prop_assert_eq!(bucket_for(rows, max), smallest);
        }
    }

    #[test]
    fn batches_are_padded_and_stripped() {
        let mut model = Scripted::new(vec![tensor("y", &[4, 2], b"ABCDEFGH")]);
        let outputs = model.run(3).unwrap();
        assert_eq!(model.seen, [4]);
        assert_eq!(outputs, Tensors(vec![tensor("y", &[3, 2], b"ABCDEF")]));
    }

    #[test]
    fn wrong_inputs_never_reach_the_model() {
        let mut model = Scripted::new(Vec::new());
        assert!(matches!(model.run(2), Err(ModelError::Input(_))));
        let seven = Tensors(vec![tensor("x", &[7, 2], b"abcdefghijklmn")]);
        let error = run_batch(&mut model, 6, &seven, 7).unwrap_err();
        assert_eq!(error.to_string(), "7 rows, but the model takes 1 to 6");
        let misnamed = Tensors(vec![tensor("z", &[1, 2], b"ab")]);
        assert!(matches!(run_batch(&mut model, 6, &misnamed, 1), Err(ModelError::Input(_))));
        assert!(model.seen.is_empty());
    }

    #[test]
    fn outputs_that_contradict_the_signature_are_errors() {
        let mut float = tensor("y", &[4, 2], b"ABCDEFGH");
        float.datatype = Datatype::Fp32;
        let cases = [
            (vec![], "the model returned 0 outputs, not 1"),
            (vec![tensor("z", &[4, 2], b"ABCDEFGH")], "output 'y': the model did not return it"),
            (vec![tensor("y", &[3, 2], b"ABCDEF")], "it has shape [3, 2], not [4, 2]"),
            (vec![tensor("y", &[4, 3], b"ABCDEFGHIJKL")], "it has shape [4, 3], not [4, 2]"),
            (vec![tensor("y", &[], b"")], "it has shape [], not [4, 2]"),
            (vec![tensor("y", &[4, 2], b"ABC")], "3 bytes"),
            (vec![float], "it has datatype FP32, not UINT8"),
        ];
        for (outputs, words) in cases {
            let error = Scripted::new(outputs).run(3).unwrap_err();
            assert!(
                matches!(&error, ModelError::Broken(detail) if detail.contains(words)),
                "{error}"
            );
        }
    }

    #[test]
    fn warm_up_covers_every_datatype() {
        let inputs = vec![
            spec("image", &[Datatype::Fp32, Datatype::Uint8], &[28, -1]),
            spec("text", &[Datatype::Bytes], &[]),
        ];
        let signature = Signature { inputs, ..Signature::default() };
        let sets = warm_up_inputs(&signature, 4);
        let datatypes: Vec<_> = sets.iter().map(|set| set.0[0].datatype).collect();
        assert_eq!(datatypes, [Datatype::Fp32, Datatype::Uint8]);
        for set in &sets {
            assert_eq!(signature.check_inputs(set).unwrap(), 4);
            for tensor in &set.0 {
                let Tensor { name, datatype, shape, data } = tensor.clone();
                Tensor::new(name, datatype, shape, data).unwrap();
            }
        }
    }
}
