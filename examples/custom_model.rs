//! A custom model, served on every adapter: a burn module, and a few lines that register it.
//!
//! ```sh
//! cargo run --release --example custom_model -- serve --models my-models
//! ```
//!
//! where `my-models/scale/1/` is an empty folder and `my-models/scale/model.toml` contains
//!
//! ```toml
//! kind = "scale"
//! [[inputs]]
//! name = "x"
//! datatype = "FP32"
//! shape = [4]
//! [[outputs]]
//! name = "y"
//! datatype = "FP32"
//! shape = [4]
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use concertina::convert::{device_error, from_data, to_data};
use concertina::{LoadContext, Model, ModelError, Registry, Signature, Tensors};
use std::process::ExitCode;

/// A burn module, as an example. A real one reads its weights from `context.files`.
#[derive(Module, Debug)]
struct Net {
    weight: Param<Tensor<1>>,
}

/// The module, the device and the signature that serving needs.
struct Scale {
    net: Net,
    device: Device,
    signature: Signature,
}

fn load(context: &LoadContext<'_>) -> Result<Box<dyn Model>, ModelError> {
    let device = context.device.clone();
    let weight = Tensor::from_data([1.0, 2.0, 3.0, 4.0], &device);
    let net = Net { weight: Param::from_tensor(weight) };
    Ok(Box::new(Scale { net, device, signature: context.info.signature.clone() }))
}

impl Model for Scale {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, _rows: usize) -> Result<Tensors, ModelError> {
        let x = inputs.get("x").map_err(|error| ModelError::Input(error.to_string()))?;
        let x = Tensor::<2>::from_data(to_data(x)?, &self.device);
        let y = x * self.net.weight.val().unsqueeze();
        Ok(Tensors(vec![from_data("y", y.try_into_data().map_err(device_error)?)?]))
    }
}

/// Runs the same command line as `concertina`; its workers are processes of this binary too.
fn main() -> ExitCode {
    let mut registry = Registry::builtin();
    registry.register("scale", load);
    concertina::run(registry)
}
