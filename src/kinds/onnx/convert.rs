//! Conversion between tensors of the protocol and tensors of ONNX files: the bytes are the same,
//! except for text.

use bytes::Bytes;
use graph::{Elem, FileTensor};
use model::ModelError;
use types::tensor::{Datatype, Tensor, byte_elements};

/// # Errors
/// [`ModelError::Input`] for text that is not UTF-8.
pub(super) fn to_raw(tensor: &Tensor) -> Result<FileTensor, ModelError> {
    let elem = Elem::of(tensor.datatype);
    let text = if elem == Elem::Text { text(tensor)? } else { Vec::new() };
    let bytes = if elem == Elem::Text { Bytes::new() } else { tensor.data.clone() };
    Ok(FileTensor { elem, shape: tensor.shape.clone(), bytes, text })
}

/// # Errors
/// [`ModelError::Broken`] for a type that the protocol lacks.
pub(super) fn from_raw(name: &str, raw: FileTensor) -> Result<Tensor, ModelError> {
    let broken = |detail: String| ModelError::Broken(format!("output '{name}': {detail}"));
    let none = || broken(format!("{} has no name in the protocol", raw.elem));
    let datatype = raw.elem.datatype().ok_or_else(none)?;
    let data = if datatype == Datatype::Bytes { byte_elements(&raw.text) } else { raw.bytes };
    Tensor::new(name, datatype, raw.shape, data).map_err(|error| broken(error.to_string()))
}

fn text(tensor: &Tensor) -> Result<Vec<String>, ModelError> {
    let bad = |detail: &str| ModelError::Input(format!("tensor '{}': {detail}", tensor.name));
    let mut rest: &[u8] = &tensor.data;
    let mut words = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (word, behind) = behind.split_at_checked(length).ok_or_else(|| bad("is truncated"))?;
        let word = std::str::from_utf8(word).map_err(|_| bad("contains text that is not UTF-8"))?;
        words.push(word.to_owned());
        rest = behind;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let data = Bytes::from_static(b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0!");
        let tensor = Tensor::new("x", Datatype::Bytes, vec![3], data).unwrap();
        let raw = to_raw(&tensor).unwrap();
        assert_eq!(raw.text, ["hi", "", "!"]);
        assert_eq!(from_raw("x", raw).unwrap(), tensor);
        let data = Bytes::from_static(b"\x01\0\0\0\xff");
        let tensor = Tensor::new("x", Datatype::Bytes, vec![1], data).unwrap();
        assert!(to_raw(&tensor).unwrap_err().to_string().contains("not UTF-8"));
    }
}
