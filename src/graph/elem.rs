//! Element types of ONNX: names, widths, ranges, and their counterparts in burn and in the
//! protocol.

use crate::error::{OnnxError, Result};
use std::fmt;
use types::tensor::Datatype;

/// An element type, named after `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    F32,
    F64,
    F16,
    Bf16,
    F8E4m3fn,
    F8E4m3fnuz,
    F8E5m2,
    F8E5m2fnuz,
    F8E8m0,
    F4E2m1,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    I4,
    U4,
    I2,
    U2,
    Bool,
    Text,
}

/// The three kinds of tensors in burn, and text, which stays on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Float,
    Int,
    Bool,
    Text,
}

/// The number in `TensorProto.DataType`, the name, and the bits of an element that is stored raw.
const TABLE: &[(Elem, i32, &str, usize)] = &[
    (Elem::F32, 1, "float", 32),
    (Elem::U8, 2, "uint8", 8),
    (Elem::I8, 3, "int8", 8),
    (Elem::U16, 4, "uint16", 16),
    (Elem::I16, 5, "int16", 16),
    (Elem::I32, 6, "int32", 32),
    (Elem::I64, 7, "int64", 64),
    (Elem::Text, 8, "string", 0),
    (Elem::Bool, 9, "bool", 8),
    (Elem::F16, 10, "float16", 16),
    (Elem::F64, 11, "double", 64),
    (Elem::U32, 12, "uint32", 32),
    (Elem::U64, 13, "uint64", 64),
    (Elem::Bf16, 16, "bfloat16", 16),
    (Elem::F8E4m3fn, 17, "float8e4m3fn", 8),
    (Elem::F8E4m3fnuz, 18, "float8e4m3fnuz", 8),
    (Elem::F8E5m2, 19, "float8e5m2", 8),
    (Elem::F8E5m2fnuz, 20, "float8e5m2fnuz", 8),
    (Elem::U4, 21, "uint4", 4),
    (Elem::I4, 22, "int4", 4),
    (Elem::F4E2m1, 23, "float4e2m1", 4),
    (Elem::F8E8m0, 24, "float8e8m0", 8),
    (Elem::U2, 25, "uint2", 2),
    (Elem::I2, 26, "int2", 2),
];

impl Elem {
    /// The type with this number.
    ///
    /// # Errors
    /// If the number is unknown, or its type is not supported (complex numbers).
    pub fn from_onnx(number: i32) -> Result<Elem> {
        let row = TABLE.iter().find(|row| row.1 == number);
        row.map(|row| row.0).ok_or_else(|| match number {
            14 | 15 => OnnxError::unsupported("complex numbers are not supported"),
            _ => OnnxError::invalid(format!("{number} is not an element type of ONNX")),
        })
    }

    /// The type with this name.
    pub fn named(name: &str) -> Option<Elem> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    fn row(self) -> (&'static str, usize) {
        let row = TABLE.iter().find(|row| row.0 == self);
        row.map_or(("?", 0), |row| (row.2, row.3))
    }

    /// Bits of one element in a file; 0 for text.
    pub fn bits(self) -> usize {
        self.row().1
    }

    pub fn kind(self) -> Kind {
        match self {
            Elem::Bool => Kind::Bool,
            Elem::Text => Kind::Text,
            _ if self.range().is_some() => Kind::Int,
            _ => Kind::Float,
        }
    }

    pub fn is_float(self) -> bool {
        self.kind() == Kind::Float
    }

    pub fn is_int(self) -> bool {
        self.kind() == Kind::Int
    }

    /// The smallest and the largest number of an integer type.
    pub fn range(self) -> Option<(i128, i128)> {
        let (signed, bits) = match self {
            Elem::I2 => (true, 2),
            Elem::I4 => (true, 4),
            Elem::I8 => (true, 8),
            Elem::I16 => (true, 16),
            Elem::I32 => (true, 32),
            Elem::I64 => (true, 64),
            Elem::U2 => (false, 2),
            Elem::U4 => (false, 4),
            Elem::U8 => (false, 8),
            Elem::U16 => (false, 16),
            Elem::U32 => (false, 32),
            Elem::U64 => (false, 64),
            _ => return None,
        };
        Some(if signed {
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        } else {
            (0, (1 << bits) - 1)
        })
    }

    /// The type of a tensor in a request.
    pub fn of(datatype: Datatype) -> Elem {
        let same = |row: &&(Elem, i32, &str, usize)| row.0.datatype() == Some(datatype);
        TABLE.iter().find(same).map_or(Elem::F32, |row| row.0)
    }

    /// The datatype of the protocol for this type; `None` where the protocol has none.
    pub fn datatype(self) -> Option<Datatype> {
        Some(match self {
            Elem::F32 => Datatype::Fp32,
            Elem::F64 => Datatype::Fp64,
            Elem::F16 => Datatype::Fp16,
            Elem::Bf16 => Datatype::Bf16,
            Elem::I8 => Datatype::Int8,
            Elem::I16 => Datatype::Int16,
            Elem::I32 => Datatype::Int32,
            Elem::I64 => Datatype::Int64,
            Elem::U8 => Datatype::Uint8,
            Elem::U16 => Datatype::Uint16,
            Elem::U32 => Datatype::Uint32,
            Elem::U64 => Datatype::Uint64,
            Elem::Bool => Datatype::Bool,
            Elem::Text => Datatype::Bytes,
            _ => return None,
        })
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_match_the_types() {
        assert_eq!(Elem::I8.range(), Some((-128, 127)));
        assert_eq!(Elem::U4.range(), Some((0, 15)));
        assert_eq!(Elem::U64.range(), Some((0, u64::MAX.into())));
        assert_eq!(Elem::F16.range(), None);
        assert_eq!(Elem::I2.kind(), Kind::Int);
        assert_eq!(Elem::F4E2m1.kind(), Kind::Float);
    }

    #[test]
    fn numbers_match_the_onnx_format() {
        assert_eq!(Elem::from_onnx(1), Ok(Elem::F32));
        assert_eq!(Elem::from_onnx(26), Ok(Elem::I2));
        assert!(Elem::from_onnx(14).unwrap_err().to_string().contains("complex"));
        assert!(Elem::from_onnx(99).unwrap_err().to_string().contains("99"));
    }
}
