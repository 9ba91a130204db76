//! The kind `digits`: a small convolutional network that reads handwritten digits.
//!
//! It is small on purpose: software GPUs take milliseconds for each layer, and burn tunes each
//! shape of convolution and product once per device, so there are only two of each.

use crate::context::LoadContext;
use crate::convert::{self, device_error};
use crate::normalise::normalise_u8;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::store::{ModuleSnapshot, ModuleStore, SafetensorsStore};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device};
use bytes::Bytes;
use model::files::{BadFile, Detail};
use model::signature::{Signature, TensorSpec};
use model::{Model, ModelError};
use types::tensor::{Datatype, Tensor, Tensors};

/// The name of the kind in `model.toml`.
pub const KIND: &str = "digits";
/// The file of a version with its weights.
pub const WEIGHTS: &str = "weights.safetensors";
/// Pixels along one edge of an image.
pub const EDGE: usize = 28;
/// The number of digits.
pub const CLASSES: usize = 10;

/// The network's weights take about 210 KB; a much larger file is not one of them.
const WEIGHTS_BYTES_MAX: u64 = 4 << 20;
/// Pixels range from 0 to 1; much larger floats are a mistake or would overflow.
const PIXEL_MAX: f32 = 1e3;
/// Channels behind the first and second convolution.
const CHANNELS: [usize; 2] = [8, 16];
/// Features between the two products.
const HIDDEN: usize = 64;

/// The network: two convolutions that halve the image, two fully connected layers.
#[derive(Module, Debug)]
pub struct Net {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    output: Linear,
}

impl Net {
    /// A network with random weights.
    pub fn new(device: &Device) -> Net {
        let [first, second] = CHANNELS;
        let conv = |channels| {
            let config = Conv2dConfig::new(channels, [3, 3]).with_stride([2, 2]);
            config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
        };
        let features = second * (EDGE / 4) * (EDGE / 4);
        Net {
            conv1: conv([1, first]),
            conv2: conv([first, second]),
            hidden: LinearConfig::new(features, HIDDEN).init(device),
            output: LinearConfig::new(HIDDEN, CLASSES).init(device),
        }
    }

    /// One logit for each digit.
    ///
    /// # Shapes
    /// - images: `[rows, 1, 28, 28]`, pixels 0 (paper) to 1 (ink)
    /// - output: `[rows, 10]`
    pub fn forward(&self, images: burn::tensor::Tensor<4>) -> burn::tensor::Tensor<2> {
        let x = relu(self.conv1.forward(images));
        let x = relu(self.conv2.forward(x));
        let x = relu(self.hidden.forward(x.flatten(1, 3)));
        self.output.forward(x)
    }
}

/// A loaded network.
#[derive(Debug)]
pub struct Digits {
    net: Net,
    device: Device,
    signature: Signature,
}

/// Loads the version's weights onto the device.
///
/// # Errors
/// [`ModelError::Broken`] if the file is missing, unreadable, too large, not in the safetensors
/// format, or contains other tensors than those of the network.
pub fn load(context: &LoadContext<'_>) -> Result<Digits, ModelError> {
    let data = context.files.read_up_to(WEIGHTS, WEIGHTS_BYTES_MAX)?;
    let bad = |detail: Detail| BadFile::new(context.files.path_of(WEIGHTS), detail);
    let net = load_net(&data, context.device).map_err(bad)?;
    Ok(Digits { net, device: context.device.clone(), signature: signature() })
}

/// A network with the weights of a safetensors file.
fn load_net(data: &[u8], device: &Device) -> Result<Net, Detail> {
    let mut store = SafetensorsStore::from_bytes(Some(data.to_vec()));
    let tensors = store
        .get_all_tensors()
        .map_err(|e| Detail::from(format!("is not a safetensors file: {e}")))?;
    // A kernel cannot combine half-precision weights with single-precision images.
    if let Some((name, tensor)) = tensors.iter().find(|(_, tensor)| tensor.dtype != DType::F32) {
        return Err(format!("tensor '{name}' is {:?}, not F32", tensor.dtype).into());
    }
    let mut net = Net::new(device);
    let mut store = store.validate(false).allow_partial(true);
    let result = net
        .load_from(&mut store)
        .map_err(|e| Detail::from(format!("failed to load the weights: {e}")))?;
    let wrong = result.errors.iter().map(ToString::to_string);
    let missing = result.missing.iter().map(|(name, _)| format!("tensor '{name}' is missing"));
    let unused =
        result.unused.iter().map(|name| format!("tensor '{name}' does not belong to the network"));
    let problems: Vec<String> = wrong.chain(missing).chain(unused).collect();
    if problems.is_empty() { Ok(net) } else { Err(problems.join("; ").into()) }
}

/// The inputs and outputs of every version of this kind.
pub fn signature() -> Signature {
    let spec = |name: &str, datatypes: &[Datatype], shape: &[usize]| {
        let shape = shape.iter().map(|dim| *dim as i64).collect();
        TensorSpec::new(name, datatypes.to_vec(), shape)
    };
    Signature {
        inputs: vec![spec("image", &[Datatype::Fp32, Datatype::Uint8], &[EDGE, EDGE])],
        outputs: vec![
            spec("digit", &[Datatype::Int64], &[1]),
            spec("probabilities", &[Datatype::Fp32], &[CLASSES]),
        ],
        ..Signature::default()
    }
}

impl Digits {
    /// Loads the weights from the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`ModelError::Broken`] if the file does not hold the weights of this network.
    pub fn from_weights(data: &[u8], device: &Device) -> Result<Digits, ModelError> {
        let net = load_net(data, device);
        let net = net.map_err(|error| ModelError::Broken(error.to_string()))?;
        Ok(Digits { net, device: device.clone(), signature: signature() })
    }

    fn images(&self, image: &Tensor, rows: usize) -> Result<burn::tensor::Tensor<4>, ModelError> {
        let shape = [rows, 1, EDGE, EDGE];
        if image.datatype == Datatype::Uint8 {
            return Ok(normalise_u8(&image.data, &self.device)?.reshape(shape));
        }
        check_pixels(image)?;
        let images = burn::tensor::Tensor::<3>::from_data(convert::to_data(image)?, &self.device);
        Ok(images.reshape(shape))
    }
}

impl Model for Digits {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        let image = inputs.get("image").map_err(|error| ModelError::Input(error.to_string()))?;
        let logits = self.net.forward(self.images(image, rows)?);
        let logits = convert::read_f32(&logits.try_into_data().map_err(device_error)?)?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(ModelError::Device("the network returned NaN or infinite values".into()));
        }
        answer(&logits, rows)
    }
}

/// Rejects floats that are not pixels: a rectifier turns NaN into 0, so they would give a wrong
/// answer with a high score.
fn check_pixels(image: &Tensor) -> Result<(), ModelError> {
    let pixels = image.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    // NaN is in no range.
    if pixels.into_iter().all(|pixel| (-PIXEL_MAX..=PIXEL_MAX).contains(&pixel)) {
        return Ok(());
    }
    let detail = "input 'image' contains values that are not pixels; use 0 (paper) to 1 (ink)";
    Err(ModelError::Input(detail.into()))
}

/// The answer from the logits. For ten numbers in each row, the host is faster than further
/// kernels.
fn answer(logits: &[f32], rows: usize) -> Result<Tensors, ModelError> {
    let broken = |error: types::tensor::TensorError| ModelError::Broken(error.to_string());
    let (mut digits, mut probabilities) = (Vec::new(), Vec::new());
    for row in logits.chunks_exact(CLASSES) {
        digits.extend(largest(row).to_le_bytes());
        probabilities.extend(softmax(row).flat_map(f32::to_le_bytes));
    }
    let (digits, probabilities) = (Bytes::from(digits), Bytes::from(probabilities));
    let digit = Tensor::new("digit", Datatype::Int64, vec![rows, 1], digits);
    let shape = vec![rows, CLASSES];
    let probabilities = Tensor::new("probabilities", Datatype::Fp32, shape, probabilities);
    Ok(Tensors(vec![digit.map_err(broken)?, probabilities.map_err(broken)?]))
}

/// The index of the largest value; the first of equal ones.
fn largest(row: &[f32]) -> i64 {
    let best = row.iter().enumerate().rev().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(at, _)| at as i64)
}

fn softmax(row: &[f32]) -> impl Iterator<Item = f32> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = row.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(move |power| power / sum)
}

#[cfg(test)]
#[path = "digits_tests.rs"]
mod tests;
