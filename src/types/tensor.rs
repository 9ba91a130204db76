//! Named tensors with a type and a shape in host memory, for the API, the engine and the workers.
//! Without burn.
//!
//! Data are raw little-endian bytes in row-major order. `BYTES` elements carry a four-byte
//! little-endian length each (Open Inference Protocol V2, binary tensor data extension).

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The element type of a tensor, with the names of the Open Inference Protocol V2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    /// Every datatype, in the protocol's order.
    pub const ALL: [Datatype; 14] = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
    ];

    /// The name in the protocol, such as `"FP32"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }

    /// The datatype with this name in the protocol.
    pub fn parse(name: &str) -> Option<Datatype> {
        Datatype::ALL.into_iter().find(|datatype| datatype.as_str() == name)
    }

    /// Bytes of one element; `None` for `BYTES`, since its elements differ in length.
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }
}

impl std::fmt::Display for Datatype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A contradiction between a tensor's shape, datatype and bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("tensor '{name}': the product of shape {shape:?} overflows")]
    Overflow { name: String, shape: Vec<usize> },
    #[error("tensor '{name}': {actual} bytes, but {datatype} of shape {shape:?} needs {expected}")]
    Length { name: String, datatype: Datatype, shape: Vec<usize>, expected: usize, actual: usize },
    #[error("tensor '{name}': BYTES data do not hold {expected} elements: {detail}")]
    Elements { name: String, expected: usize, detail: &'static str },
    #[error("tensor '{name}' has no batch axis")]
    NoRows { name: String },
    #[error(
        "tensors disagree on the number of rows: '{name}' has {actual}, the first has {expected}"
    )]
    Rows { name: String, expected: usize, actual: usize },
    #[error("tensor '{name}': the parts to join differ, one has shape {shape:?}")]
    Uneven { name: String, shape: Vec<usize> },
    #[error("tensor '{name}' does not exist")]
    Missing { name: String },
}

/// A named tensor. Clones are cheap: they share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub datatype: Datatype,
    /// Dimensions, the batch axis first.
    pub shape: Vec<usize>,
    pub data: Bytes,
}

impl Tensor {
    /// Checks that `data` hold exactly the elements of `shape`.
    pub fn new(
        name: impl Into<String>,
        datatype: Datatype,
        shape: Vec<usize>,
        data: Bytes,
    ) -> Result<Tensor, TensorError> {
        let tensor = Tensor { name: name.into(), datatype, shape, data };
        tensor.check()?;
        Ok(tensor)
    }

    fn check(&self) -> Result<(), TensorError> {
        let elements = self.elements()?;
        let Some(size) = self.datatype.size() else {
            return self.check_byte_elements(elements);
        };
        let expected = elements.checked_mul(size).ok_or_else(|| self.overflow())?;
        if expected == self.data.len() {
            return Ok(());
        }
        Err(TensorError::Length {
            name: self.name.clone(),
            datatype: self.datatype,
            shape: self.shape.clone(),
            expected,
            actual: self.data.len(),
        })
    }

    fn check_byte_elements(&self, elements: usize) -> Result<(), TensorError> {
        let detail = match skip_byte_elements(&self.data, elements) {
            None => "an element runs past the end",
            Some(end) if end < self.data.len() => "bytes are left over",
            Some(_) => return Ok(()),
        };
        Err(TensorError::Elements { name: self.name.clone(), expected: elements, detail })
    }

    fn overflow(&self) -> TensorError {
        TensorError::Overflow { name: self.name.clone(), shape: self.shape.clone() }
    }

    /// Number of elements: the product of the dimensions.
    pub fn elements(&self) -> Result<usize, TensorError> {
        product(&self.shape).ok_or_else(|| self.overflow())
    }

    /// Length of the batch axis.
    pub fn rows(&self) -> Result<usize, TensorError> {
        let first = self.shape.first().copied();
        first.ok_or_else(|| TensorError::NoRows { name: self.name.clone() })
    }

    /// Rows `start..start + rows`, which share the bytes.
    ///
    /// # Errors
    /// If the tensor has no batch axis or fewer rows.
    pub fn slice_rows(&self, start: usize, rows: usize) -> Result<Tensor, TensorError> {
        let all = self.rows()?;
        let too_few = || TensorError::Rows {
            name: self.name.clone(),
            expected: start.saturating_add(rows),
            actual: all,
        };
        let end = start.checked_add(rows).filter(|end| *end <= all).ok_or_else(too_few)?;
        let (from, to) = (self.row_offset(start)?, self.row_offset(end)?);
        let mut shape = self.shape.clone();
        shape[0] = rows;
        let (name, datatype) = (self.name.clone(), self.datatype);
        Ok(Tensor { name, datatype, shape, data: self.data.slice(from..to) })
    }

    /// The offset of row `row` in `data`; the number of rows gives the end.
    fn row_offset(&self, row: usize) -> Result<usize, TensorError> {
        let per_row = product(&self.shape[1..]).ok_or_else(|| self.overflow())?;
        let elements = per_row.checked_mul(row).ok_or_else(|| self.overflow())?;
        let offset = match self.datatype.size() {
            Some(size) => elements.checked_mul(size),
            None => skip_byte_elements(&self.data, elements),
        };
        offset.filter(|at| *at <= self.data.len()).ok_or_else(|| self.overflow())
    }

    /// The rows of several tensors of one name, one after the other.
    ///
    /// # Errors
    /// If datatypes or dimensions behind the batch axis differ.
    fn concat_rows(parts: &[&Tensor]) -> Result<Tensor, TensorError> {
        let missing = || TensorError::Missing { name: String::new() };
        let first = *parts.first().ok_or_else(missing)?;
        let (mut rows, mut data) = (0, Vec::new());
        for part in parts {
            let alike =
                part.datatype == first.datatype && part.shape.get(1..) == first.shape.get(1..);
            if !alike {
                let (name, shape) = (part.name.clone(), part.shape.clone());
                return Err(TensorError::Uneven { name, shape });
            }
            rows += part.rows()?;
            data.extend_from_slice(&part.data);
        }
        let shape = std::iter::once(rows).chain(first.shape.iter().skip(1).copied()).collect();
        Tensor::new(first.name.clone(), first.datatype, shape, data.into())
    }

    /// Pads the tensor to `rows` rows by repeating its rows from the first one. Rows of zeros or
    /// empty text could fail even if those of the request do not: for example, an integer is
    /// divided by zero, or empty text is not a number.
    pub fn pad_rows(&self, rows: usize) -> Result<Tensor, TensorError> {
        let own = self.rows()?;
        let mut missing = rows.saturating_sub(own);
        if missing == 0 || own == 0 {
            return Ok(self.clone());
        }
        let mut parts = vec![self.clone()];
        while missing > 0 {
            let part = missing.min(own);
            parts.push(self.slice_rows(0, part)?);
            missing -= part;
        }
        Tensor::concat_rows(&parts.iter().collect::<Vec<_>>())
    }
}

/// The data of a `BYTES` tensor with these elements.
pub fn byte_elements<S: AsRef<[u8]>>(elements: &[S]) -> Bytes {
    let mut data = BytesMut::new();
    for element in elements.iter().map(AsRef::as_ref) {
        data.put_u32_le(u32::try_from(element.len()).unwrap_or(u32::MAX));
        data.put_slice(element);
    }
    data.freeze()
}

/// The named tensors of a request, a batch or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tensors(pub Vec<Tensor>);

impl Tensors {
    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Result<&Tensor, TensorError> {
        let found = self.0.iter().find(|tensor| tensor.name == name);
        found.ok_or_else(|| TensorError::Missing { name: name.to_owned() })
    }

    /// The number of rows that all tensors share; 0 without tensors.
    pub fn rows(&self) -> Result<usize, TensorError> {
        let Some(first) = self.0.first() else { return Ok(0) };
        let expected = first.rows()?;
        for tensor in &self.0 {
            let actual = tensor.rows()?;
            if actual != expected {
                return Err(TensorError::Rows { name: tensor.name.clone(), expected, actual });
            }
        }
        Ok(expected)
    }

    /// Rows `start..start + rows` of every tensor, which share the bytes.
    pub fn slice_rows(&self, start: usize, rows: usize) -> Result<Tensors, TensorError> {
        self.0.iter().map(|tensor| tensor.slice_rows(start, rows)).collect()
    }

    /// The rows of several sets of the same tensors, one after the other. A single set is not
    /// copied.
    ///
    /// # Errors
    /// If the list is empty, or if names, datatypes or dimensions behind the batch axis differ.
    pub fn concat_rows(mut parts: Vec<Tensors>) -> Result<Tensors, TensorError> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let first = parts.first().cloned().unwrap_or_default();
        let whole = |tensor: &Tensor| {
            let parts: Result<Vec<_>, _> =
                parts.iter().map(|part| part.get(&tensor.name)).collect();
            Tensor::concat_rows(&parts?)
        };
        first.0.iter().map(whole).collect()
    }

    /// Adds a batch axis of length 1 to every tensor.
    #[must_use]
    pub fn framed(mut self) -> Tensors {
        self.0.iter_mut().for_each(|tensor| tensor.shape.insert(0, 1));
        self
    }

    /// Removes the batch axis of length 1 from every tensor.
    ///
    /// # Errors
    /// If a tensor has another number of rows.
    pub fn unframed(&self) -> Result<Tensors, TensorError> {
        let unframe = |tensor: &Tensor| {
            let (name, actual) = (tensor.name.clone(), tensor.rows()?);
            if actual != 1 {
                return Err(TensorError::Rows { name, expected: 1, actual });
            }
            let shape = tensor.shape.get(1..).unwrap_or_default().to_vec();
            Ok(Tensor { shape, ..tensor.clone() })
        };
        self.0.iter().map(unframe).collect()
    }

    /// Pads every tensor to `rows` rows by repeating its rows from the first one.
    pub fn pad_rows(&self, rows: usize) -> Result<Tensors, TensorError> {
        self.0.iter().map(|tensor| tensor.pad_rows(rows)).collect()
    }

    /// Bytes of all data.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|tensor| tensor.data.len()).sum()
    }
}

impl FromIterator<Tensor> for Tensors {
    fn from_iter<I: IntoIterator<Item = Tensor>>(tensors: I) -> Tensors {
        Tensors(tensors.into_iter().collect())
    }
}

/// The product of the dimensions, if it does not overflow.
pub fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
}

/// The offset of element `elements` in length-prefixed data; `None` if the data end before it.
fn skip_byte_elements(data: &[u8], elements: usize) -> Option<usize> {
    let mut at = 0usize;
    for _ in 0..elements {
        let length = data.get(at..at.checked_add(4)?)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        at = at.checked_add(4)?.checked_add(length)?;
        if at > data.len() {
            return None;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_tensor(elements: &[&[u8]]) -> Tensor {
        let mut data = Vec::new();
        for element in elements {
            data.extend((element.len() as u32).to_le_bytes());
            data.extend(*element);
        }
        Tensor::new("text", Datatype::Bytes, vec![elements.len()], data.into()).unwrap()
    }

    #[test]
    fn length_must_match_shape() {
        let short = Tensor::new("x", Datatype::Fp32, vec![2, 3], Bytes::from_static(&[0; 20]));
        assert!(matches!(short, Err(TensorError::Length { expected: 24, actual: 20, .. })));
        let huge = Tensor::new("x", Datatype::Fp32, vec![usize::MAX, 2], Bytes::new());
        assert!(matches!(huge, Err(TensorError::Overflow { .. })));
        let element = Tensor::new("x", Datatype::Fp64, vec![usize::MAX / 4], Bytes::new());
        assert!(matches!(element, Err(TensorError::Overflow { .. })));
    }

    #[test]
    fn rows_are_sliced_without_copying() {
        let data = Bytes::from((0u8..12).collect::<Vec<_>>());
        let tensor = Tensor::new("x", Datatype::Uint8, vec![4, 3], data).unwrap();
        let middle = tensor.slice_rows(1, 2).unwrap();
        assert_eq!(middle.shape, [2, 3]);
        assert_eq!(&middle.data[..], [3, 4, 5, 6, 7, 8]);
        assert!(tensor.slice_rows(3, 2).is_err());
        assert!(tensor.slice_rows(usize::MAX, 2).is_err());
    }

    #[test]
    fn slices_are_joined_again() {
        let data = Bytes::from((0u8..12).collect::<Vec<_>>());
        let tensor = Tensor::new("x", Datatype::Uint8, vec![4, 3], data).unwrap();
        let whole = Tensors(vec![tensor, bytes_tensor(&[b"one", b"", b"three", b"four"])]);
        let slices = |cuts: &[(usize, usize)]| {
            let slice = |(from, rows): &(usize, usize)| whole.slice_rows(*from, *rows).unwrap();
            Tensors::concat_rows(cuts.iter().map(slice).collect())
        };
        assert_eq!(slices(&[(0, 4)]).unwrap(), whole);
        assert_eq!(slices(&[(0, 1), (1, 2), (3, 1)]).unwrap(), whole);
        let other = Tensor::new("x", Datatype::Uint8, vec![1, 2], Bytes::from_static(b"ab"));
        let uneven = vec![whole.clone(), Tensors(vec![other.unwrap()])];
        assert!(matches!(Tensors::concat_rows(uneven), Err(TensorError::Uneven { .. })));
        assert!(Tensors::concat_rows(vec![whole, Tensors::default()]).is_err());
    }

    #[test]
    fn byte_elements_are_sliced_and_padded_by_element() {
        let tensor = bytes_tensor(&[b"one", b"", b"three"]);
        assert_eq!(tensor.slice_rows(2, 1).unwrap(), bytes_tensor(&[b"three"]));
        assert_eq!(
            tensor.pad_rows(5).unwrap(),
            bytes_tensor(&[b"one", b"", b"three", b"one", b""])
        );
    }

    #[test]
    fn byte_elements_must_fill_the_data() {
        let lying = Tensor::new("t", Datatype::Bytes, vec![1], Bytes::from_static(&[9, 0, 0, 0]));
        assert!(matches!(lying, Err(TensorError::Elements { .. })));
        let left = Tensor::new("t", Datatype::Bytes, vec![1], Bytes::from_static(&[0; 5]));
        assert!(matches!(left, Err(TensorError::Elements { .. })));
    }

    #[test]
    fn padding_repeats_the_first_rows() {
        let data = Bytes::from_static(&[1, 2]);
        let tensor = Tensor::new("x", Datatype::Uint8, vec![1, 2], data).unwrap();
        let padded = tensor.pad_rows(3).unwrap();
        assert_eq!(padded.shape, [3, 2]);
        assert_eq!(&padded.data[..], [1, 2, 1, 2, 1, 2]);
    }
}
