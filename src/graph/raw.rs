//! Tensors in the form that files have: checked for shape and length, not yet converted.

use super::elem::Elem;
use super::proto::TensorProto;
use super::source::FileSource;
use crate::error::{OnnxError, Result};
use bytes::{BufMut, Bytes, BytesMut};
use std::path::{Component, Path};

/// Most dimensions of a tensor.
pub(crate) const RANK_MAX: usize = 16;
/// Most elements of a tensor: sizes that are computed from it do not overflow.
pub(crate) const ELEMENTS_MAX: usize = 1 << 40;

/// Most elements of an empty tensor if its axes of length 0 had length 1.
const EMPTY_MAX: usize = 1 << 24;

/// Opens a file beside the model by a relative path, which cannot lead out of the model's folder.
/// `None` where weights are not needed: tensors then have a type and a shape, but not always
/// elements.
pub(crate) type Beside<'a> = Option<&'a dyn Fn(&str) -> Result<FileSource>>;

/// A tensor of a file: its elements are little-endian, and packed if narrower than a byte.
#[derive(Clone, Debug, PartialEq)]
pub struct FileTensor {
    pub elem: Elem,
    pub shape: Vec<usize>,
    pub bytes: Bytes,
    /// The elements of a tensor of text.
    pub text: Vec<String>,
}

impl FileTensor {
    /// # Errors
    /// If the shape is impossible, the type is unknown, or the data do not fit the shape.
    pub fn read(proto: &TensorProto, files: Beside<'_>) -> Result<FileTensor> {
        let elem = Elem::from_onnx(proto.data_type.unwrap_or(0))?;
        let shape = shape(&proto.dims)?;
        if elem == Elem::Text {
            return FileTensor::text(shape, proto);
        }
        let bytes = if let Some(external) = External::of(proto)? {
            external.read(files)?
        } else if let Some(raw) = &proto.raw_data {
            raw.clone()
        } else {
            typed(elem, proto)
        };
        let raw = FileTensor { elem, shape, bytes, text: Vec::new() };
        let (found, expected) = (raw.bytes.len(), raw.expected_bytes());
        // Without weights, large pieces are skipped and are empty here.
        if found != expected && (files.is_some() || found > 0) {
            let shape = &raw.shape;
            return Err(OnnxError::invalid(format!(
                "{elem}{shape:?} takes {expected} bytes, but there are {found}"
            )));
        }
        Ok(raw)
    }

    /// The bytes that its elements need.
    pub(crate) fn expected_bytes(&self) -> usize {
        (self.shape.iter().product::<usize>() * self.elem.bits()).div_ceil(8)
    }

    fn text(shape: Vec<usize>, proto: &TensorProto) -> Result<FileTensor> {
        let (expected, found) = (shape.iter().product::<usize>(), proto.string_data.len());
        if expected != found {
            return Err(OnnxError::invalid(format!(
                "string{shape:?} has {expected} elements, but there are {found}"
            )));
        }
        let text = |bytes: &Bytes| {
            let text = String::from_utf8(bytes.to_vec());
            text.map_err(|error| OnnxError::invalid(error.to_string()))
        };
        let text = proto.string_data.iter().map(text).collect::<Result<_, _>>()?;
        Ok(FileTensor { elem: Elem::Text, shape, bytes: Bytes::new(), text })
    }
}

/// Checks the dimensions of a file and returns them as a shape.
///
/// # Errors
/// If there are too many dimensions, one is negative, or their product is too large.
pub fn shape(dims: &[i64]) -> Result<Vec<usize>> {
    if dims.len() > RANK_MAX {
        return Err(OnnxError::unsupported(format!(
            "{} dimensions, but at most {RANK_MAX} are possible",
            dims.len()
        )));
    }
    let dim = |dim: &i64| {
        usize::try_from(*dim).map_err(|_| OnnxError::invalid(format!("{dims:?} is not a shape")))
    };
    let shape = dims.iter().map(dim).collect::<Result<Vec<_>, _>>()?;
    check_shape(&shape)?;
    Ok(shape)
}

/// Checks the number of elements, counting axes of length 0 as 1: loops visit the other axes of an
/// empty tensor all the same.
///
/// # Errors
/// If the lengths of the axes are too large.
pub fn check_shape(shape: &[usize]) -> Result<()> {
    let size = shape.iter().try_fold(1usize, |size, dim| size.checked_mul((*dim).max(1)));
    let most = if shape.contains(&0) { EMPTY_MAX } else { ELEMENTS_MAX };
    match size {
        Some(size) if size <= most => Ok(()),
        _ => Err(OnnxError::limit(format!("shape {shape:?} has more than {most} elements"))),
    }
}

/// Elements that are given one by one in the field of their type; types narrower than 32 bits share
/// a field.
fn typed(elem: Elem, proto: &TensorProto) -> Bytes {
    let mut bytes = BytesMut::new();
    match elem {
        Elem::F32 => proto.float_data.iter().for_each(|value| bytes.put_f32_le(*value)),
        Elem::F64 => proto.double_data.iter().for_each(|value| bytes.put_f64_le(*value)),
        Elem::I64 => proto.int64_data.iter().for_each(|value| bytes.put_i64_le(*value)),
        Elem::U64 => proto.uint64_data.iter().for_each(|value| bytes.put_u64_le(*value)),
        Elem::U32 => {
            let low = |value: &u64| *value as u32;
            proto.uint64_data.iter().map(low).for_each(|value| bytes.put_u32_le(value));
        }
        Elem::I32 => proto.int32_data.iter().for_each(|value| bytes.put_i32_le(*value)),
        _ => {
            let width = elem.bits().div_ceil(8).min(2);
            for value in &proto.int32_data {
                bytes.put_slice(value.to_le_bytes().get(..width).unwrap_or_default());
            }
        }
    }
    bytes.freeze()
}

/// A part of a file beside the model: the elements of a tensor.
pub(crate) struct External {
    /// A relative path without `..` and `.`.
    pub(crate) location: String,
    pub(crate) offset: u64,
    /// `None` for the rest of the file.
    pub(crate) length: Option<u64>,
}

impl External {
    /// If it names no file, the path leads out of the model's folder, or a number is not valid.
    pub(crate) fn of(proto: &TensorProto) -> Result<Option<External>> {
        if proto.data_location != Some(1) {
            return Ok(None);
        }
        let entry = |key: &str| {
            let mut entries = proto.external_data.iter();
            let found = entries.find(|entry| entry.key.as_deref() == Some(key));
            found.and_then(|entry| entry.value.as_deref())
        };
        let wrong =
            |key: &str, text: &str| OnnxError::invalid(format!("external data: {key}: '{text}'"));
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| wrong(key, text)),
        };
        let location = entry("location")
            .ok_or_else(|| OnnxError::invalid("external data: no location is named"))?;
        let inside = inside(location).ok_or_else(|| {
            OnnxError::invalid(format!(
                "external data: '{location}' leads out of the model's folder"
            ))
        })?;
        let offset = number("offset")?.unwrap_or(0);
        Ok(Some(External { location: inside, offset, length: number("length")? }))
    }

    fn read(&self, files: Beside<'_>) -> Result<Bytes> {
        let Some(open) = files else { return Ok(Bytes::new()) };
        let part = open(&self.location)?.part(self.offset, self.length);
        part.map_err(|error| error.after(format!("external data: '{}'", self.location)))
    }
}

/// The path with `/` between its parts and without `.`, if it is relative and has no `..`.
fn inside(location: &str) -> Option<String> {
    let part = |part: Component<'_>| match part {
        Component::Normal(part) => part.to_str().map(|part| Some(part.to_owned())),
        Component::CurDir => Some(None),
        _ => None,
    };
    // On Windows a backslash separates folders, and a colon follows a drive.
    let plain = !location.contains(['\\', ':', '\0']);
    let parts = Path::new(location).components().map(part).collect::<Option<Vec<_>>>();
    let path = parts?.into_iter().flatten().collect::<Vec<_>>().join("/");
    (plain && !path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::*;

    fn none(_: &str) -> Result<FileSource> {
        Err(OnnxError::invalid("no file"))
    }

    fn proto(data_type: i32, dims: &[i64], raw: &'static [u8]) -> TensorProto {
        let raw_data = Some(Bytes::from_static(raw));
        TensorProto {
            data_type: Some(data_type),
            dims: dims.to_vec(),
            raw_data,
            ..Default::default()
        }
    }

    #[test]
    fn data_must_have_the_length_of_the_shape() {
        assert!(FileTensor::read(&proto(1, &[2], &[0; 8]), Some(&none)).is_ok());
        assert!(FileTensor::read(&proto(22, &[3], &[0; 2]), Some(&none)).is_ok());
        let error = FileTensor::read(&proto(1, &[2], &[0; 7]), Some(&none)).unwrap_err();
        assert_eq!(error.to_string(), "float[2] takes 8 bytes, but there are 7");
        assert!(
            FileTensor::read(&proto(1, &[-1], &[]), Some(&none))
                .unwrap_err()
                .to_string()
                .contains("not a shape")
        );
        let huge = FileTensor::read(&proto(1, &[0, i64::MAX, i64::MAX], &[]), Some(&none))
            .unwrap_err()
            .to_string();
        assert!(huge.contains("more than"), "{huge}");
        assert!(
            FileTensor::read(&proto(1, &[1; 17], &[0; 4]), Some(&none))
                .unwrap_err()
                .to_string()
                .contains("17 dim")
        );
    }

    #[test]
    fn redundant_parts_of_locations_are_removed() {
        for (location, path) in [
            ("w.bin", Some("w.bin")),
            ("./w.bin", Some("w.bin")),
            (".//data/./w.bin", Some("data/w.bin")),
            ("模型 (1).data", Some("模型 (1).data")),
            (".", None),
            ("./", None),
            ("./../w.bin", None),
            ("data/../w.bin", None),
            ("/w.bin", None),
        ] {
            assert_eq!(inside(location).as_deref(), path, "{location}");
        }
    }

    #[test]
    fn external_data_must_be_in_the_folder() {
        let file = |_: &str| Ok(Bytes::from_static(&[1, 2, 3, 4, 5, 6]).into());
        let at = |location: &str, offset: &str, length: &str| {
            let entry = |key: &str, value: &str| StringStringEntryProto {
                key: Some(key.into()),
                value: Some(value.into()),
            };
            let external_data =
                vec![entry("location", location), entry("offset", offset), entry("length", length)];
            let data_location = Some(1);
            let proto =
                TensorProto { external_data, data_location, raw_data: None, ..proto(2, &[2], &[]) };
            FileTensor::read(&proto, Some(&file))
        };
        assert_eq!(at("weights.bin", "1", "2").unwrap().bytes, Bytes::from_static(&[2, 3]));
        for outside in ["../x", "/etc/passwd", "a/../../x", "", "C:\\x", "..\\x"] {
            assert!(
                at(outside, "0", "2").unwrap_err().to_string().contains("leads out"),
                "{outside}"
            );
        }
        assert!(at("w", "5", "2").unwrap_err().to_string().contains("has 6 bytes"));
        assert!(
            at("w", "18446744073709551615", "2").unwrap_err().to_string().contains("has 6 bytes")
        );
        assert!(at("w", "-1", "2").unwrap_err().to_string().contains("offset: '-1'"));
    }
}
