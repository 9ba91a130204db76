//! The kind `identity`: every output is the input at the same position. It needs no device; it
//! serves tests of the protocol, and measurements of the overhead of serving.

use crate::files::Detail;
use crate::signature::Signature;
use crate::{Model, ModelError};
use types::tensor::{Tensor, Tensors};

/// The name of the kind in `model.toml`.
pub const KIND: &str = "identity";

/// Checks that the outputs can be copies of the inputs: the same number, datatypes and shapes.
pub fn check(signature: &Signature) -> Result<(), Detail> {
    let (inputs, outputs) = (&signature.inputs, &signature.outputs);
    if inputs.len() != outputs.len() {
        let (inputs, outputs) = (inputs.len(), outputs.len());
        return Err(format!(
            "the kind identity needs as many outputs ({outputs}) as inputs ({inputs})"
        )
        .into());
    }
    for (input, output) in inputs.iter().zip(outputs) {
        if input.datatypes != output.datatypes || input.shape != output.shape {
            let (input, output) = (&input.name, &output.name);
            return Err(format!(
                "input '{input}' and output '{output}' differ in datatype or shape, but identity gives back what it takes"
            ).into());
        }
    }
    Ok(())
}

/// A model that returns its inputs under the names of its outputs.
#[derive(Clone, Debug)]
pub struct Identity {
    signature: Signature,
}

impl Identity {
    /// # Errors
    /// [`ModelError::Broken`] if the outputs cannot be copies of the inputs.
    pub fn new(signature: Signature) -> Result<Identity, ModelError> {
        check(&signature).map_err(|error| ModelError::Broken(error.to_string()))?;
        Ok(Identity { signature })
    }
}

impl Model for Identity {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, _rows: usize) -> Result<Tensors, ModelError> {
        let pairs = self.signature.inputs.iter().zip(&self.signature.outputs);
        let echo = |(input, output): (&crate::TensorSpec, &crate::TensorSpec)| {
            let tensor = inputs.get(&input.name);
            let tensor = tensor.map_err(|error| ModelError::Input(error.to_string()))?;
            Ok(Tensor { name: output.name.clone(), ..tensor.clone() })
        };
        pairs.map(echo).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TensorSpec, run_batch};
    use bytes::Bytes;
    use types::tensor::Datatype;

    fn spec(name: &str, datatype: Datatype) -> TensorSpec {
        TensorSpec::new(name, vec![datatype], vec![-1])
    }

    #[test]
    fn inputs_are_returned_under_the_names_of_the_outputs() {
        let inputs = vec![spec("a", Datatype::Uint8), spec("b", Datatype::Bytes)];
        let outputs = vec![spec("c", Datatype::Uint8), spec("d", Datatype::Bytes)];
        let mut model =
            Identity::new(Signature { inputs, outputs, ..Signature::default() }).unwrap();
        let bytes = Bytes::from_static(b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0!");
        let numbers = Bytes::from_static(&[1, 2, 3]);
        // In another order than that of the signature.
        let sent = Tensors(vec![
            Tensor::new("b", Datatype::Bytes, vec![3, 1], bytes.clone()).unwrap(),
            Tensor::new("a", Datatype::Uint8, vec![3, 1], numbers.clone()).unwrap(),
        ]);
        let got = run_batch(&mut model, 8, &sent, 3).unwrap();
        let expected = Tensors(vec![
            Tensor::new("c", Datatype::Uint8, vec![3, 1], numbers).unwrap(),
            Tensor::new("d", Datatype::Bytes, vec![3, 1], bytes).unwrap(),
        ]);
        assert_eq!(got, expected);
    }

    #[test]
    fn outputs_must_match_the_inputs() {
        let inputs = vec![spec("a", Datatype::Uint8)];
        let signature =
            |outputs| Signature { inputs: inputs.clone(), outputs, ..Signature::default() };
        assert!(Identity::new(signature(vec![])).is_err());
        assert!(Identity::new(signature(vec![spec("b", Datatype::Fp32)])).is_err());
        assert!(Identity::new(signature(vec![spec("a", Datatype::Uint8)])).is_ok());
    }
}
