//! A check at run time that rows are independent: two different rows must give the same results
//! together, separately and padded. It supplements the analysis of the graph (`onnx::rows`).

use super::loaded::Loaded;
use bytes::Bytes;
use half::{bf16, f16};
use model::ModelError;
use model::golden::agree;
use model::signature::RowMode;
use types::clock;
use types::random::SplitMix64;
use types::tensor::{Datatype, Tensor, Tensors};

/// True if batches join rows of several requests because of the analysis of the graph.
pub(super) fn is_wanted(loaded: &Loaded) -> bool {
    let signature = loaded.model.signature();
    let proved = signature.output_hints && !signature.exact;
    proved && signature.rows == RowMode::Stacked && loaded.max_rows > 1
}

/// Compares rows in one batch with the same rows in separate batches. Returns a remark if they
/// cannot be compared.
///
/// # Errors
/// [`ModelError::Rows`] if they differ, else the error of the device.
pub(super) fn rows(loaded: &mut Loaded) -> Result<Option<String>, ModelError> {
    match compared(loaded) {
        Ok(None) => Ok(None),
        Ok(Some(difference)) => Err(ModelError::Rows(difference)),
        Err(ModelError::Input(error) | ModelError::Broken(error)) => {
            let note =
                "rows are joined because of the graph alone: generated rows could not be compared";
            Ok(Some(format!("{note}: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// The first difference.
fn compared(loaded: &mut Loaded) -> Result<Option<String>, ModelError> {
    let max_rows = loaded.max_rows;
    let typical = loaded.warm_up_inputs(1).into_iter().next();
    let typical = typical.unwrap_or_default();
    // Fixed seeds, so that each load of a model has the same result.
    let [one, two] = [1u64, 2].map(|seed| generated(&typical, seed));
    let joined = |rows: Vec<&Tensors>| {
        let rows = rows.into_iter().cloned().collect();
        Tensors::concat_rows(rows).map_err(|error| ModelError::Input(error.to_string()))
    };
    let mut run = |inputs: &Tensors, rows| loaded.run(inputs, rows, None, clock::now());
    let apart = joined(vec![&run(&one, 1)?, &run(&two, 1)?])?;
    let both = joined(vec![&one, &two])?;
    let together = run(&both, 2)?;
    if let Err(difference) = agree(&apart, &together) {
        return Ok(Some(format!(
            "two rows in one batch differ from the same rows in separate batches: {difference}"
        )));
    }
    // Three rows are a bucket of their own there (`max_rows`), so that nothing is padded.
    if max_rows < 4 {
        return Ok(None);
    }
    // A third row is padded to four.
    let three = run(&joined(vec![&one, &two, &one])?, 3)?;
    let first = three.slice_rows(0, 2).map_err(|error| ModelError::Broken(error.to_string()))?;
    let differs = agree(&apart, &first).err();
    Ok(differs.map(|difference| {
        format!("padded rows differ from the same rows in separate batches: {difference}")
    }))
}

/// Tensors of the same shapes with pseudo-random numbers: floats between -1 and 1, integers of 0 or
/// 1, which are valid indices and token numbers.
fn generated(like: &Tensors, seed: u64) -> Tensors {
    let mut random = SplitMix64::new(seed);
    like.0.iter().map(|tensor| filled(tensor, &mut random)).collect()
}

fn filled(tensor: &Tensor, random: &mut SplitMix64) -> Tensor {
    let Some(size) = tensor.datatype.size() else { return tensor.clone() };
    let count = tensor.data.len() / size;
    let mut data = Vec::with_capacity(tensor.data.len());
    for _ in 0..count {
        element(tensor.datatype, size, random, &mut data);
    }
    Tensor { data: Bytes::from(data), ..tensor.clone() }
}

#[allow(clippy::cast_possible_truncation, reason = "rounded to the type")]
fn element(datatype: Datatype, size: usize, random: &mut SplitMix64, data: &mut Vec<u8>) {
    let float = random.uniform() * 2.0 - 1.0;
    match datatype {
        Datatype::Fp64 => data.extend(float.to_le_bytes()),
        Datatype::Fp32 => data.extend((float as f32).to_le_bytes()),
        Datatype::Fp16 => data.extend(f16::from_f64(float).to_le_bytes()),
        Datatype::Bf16 => data.extend(bf16::from_f64(float).to_le_bytes()),
        _ => {
            data.push(u8::from(float > 0.0));
            data.extend(std::iter::repeat_n(0, size - 1));
        }
    }
}
