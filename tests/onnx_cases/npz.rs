//! Arrays of NumPy's `.npz` archives: a zip file with one `.npy` file per array.
//!
//! The format of `.npy` is that of numpy.lib.format, versions 1 to 3.

use crate::array::{Array, Kind};
use std::io::Read;
use std::path::Path;

/// The arrays of an archive by name, in the order of the archive.
///
/// # Errors
/// Fails if the file is not an archive of arrays, or if an array has a type that the protocol
/// lacks.
pub fn read(path: &Path) -> Result<Vec<(String, Array)>, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let archive = std::fs::read(path).map_err(|error| named(&error))?;
    let mut arrays = Vec::new();
    for (name, data) in entries(&archive).ok_or_else(|| named(&"is not a zip file"))? {
        // The writer escapes slashes in names, which would be folders in the archive.
        let name = name.trim_end_matches(".npy").replace("%2F", "/");
        let array = array(&data).map_err(|error| named(&format!("{name}: {error}")))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// The files of a zip archive with their names, stored or deflated, as listed in its central
/// directory (PKWARE's APPNOTE, 4.3.7, 4.3.12 and 4.3.16).
fn entries(archive: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let end = archive.windows(4).rposition(|four| four == b"PK\x05\x06")?;
    let (count, mut at) = (number(archive, end + 10, 2)?, number(archive, end + 16, 4)?);
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (method, size) = (number(archive, at + 10, 2)?, number(archive, at + 20, 4)?);
        let [name, extra, comment] =
            [28, 30, 32].map(|field| number(archive, at + field, 2).unwrap_or_default());
        let local = number(archive, at + 42, 4)?;
        let begin = local + 30 + number(archive, local + 26, 2)? + number(archive, local + 28, 2)?;
        let data = archive.get(begin..begin + size)?;
        let data = match method {
            0 => data.to_vec(),
            8 => inflated(data)?,
            _ => return None,
        };
        let text = archive.get(at + 46..at + 46 + name)?;
        entries.push((String::from_utf8_lossy(text).into_owned(), data));
        at += 46 + name + extra + comment;
    }
    Some(entries)
}

fn inflated(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(data).read_to_end(&mut out).ok()?;
    Some(out)
}

/// A little-endian number of `bytes` bytes.
fn number(data: &[u8], at: usize, bytes: usize) -> Option<usize> {
    let bytes = data.get(at..at + bytes)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum * 256 + usize::from(*byte)))
}

/// One `.npy` file.
fn array(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("is not an .npy file")?;
    let [major, _, rest @ ..] = rest else { return Err("ends in its version".to_owned()) };
    let width = if *major == 1 { 2 } else { 4 };
    let (length, rest) = rest.split_at_checked(width).ok_or("ends in its length")?;
    let length = number(length, 0, width).unwrap_or_default();
    let (header, data) = rest.split_at_checked(length).ok_or("ends in its header")?;
    let header = std::str::from_utf8(header).map_err(|error| error.to_string())?;
    let shape = shape(field(header, "shape")?)?;
    let (kind, size) = kind(field(header, "descr")?)?;
    let count: usize = shape.iter().product();
    if data.len() != count * size {
        return Err(format!("{} bytes do not make {shape:?} elements of {size}", data.len()));
    }
    let mut elements: Vec<&[u8]> = data.chunks_exact(size.max(1)).collect();
    // Elements of empty text have no bytes.
    elements.resize(count, &[]);
    if field(header, "fortran_order")?.starts_with("True") {
        elements = first_axis_outermost(&elements, &shape);
    }
    Ok(Array::new(kind, shape, &elements))
}

/// The text after a key of the header, which is a Python dictionary.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let quoted = format!("'{key}':");
    let found = header.split_once(&quoted).map(|(_, rest)| rest.trim_start());
    found.ok_or_else(|| format!("its header has no {key}: {header}"))
}

fn shape(text: &str) -> Result<Vec<usize>, String> {
    let inner = text.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (inner, _) = inner.ok_or_else(|| format!("has no shape: {text}"))?;
    let lengths = inner.split(',').map(str::trim).filter(|length| !length.is_empty());
    lengths.map(|length| length.parse().map_err(|_| format!("has the length {length}"))).collect()
}

/// The kind of element, and its bytes.
fn kind(text: &str) -> Result<(Kind, usize), String> {
    let name = text.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(name, _)| name);
    let name = name.ok_or_else(|| format!("has the type {text}"))?;
    if let Some(characters) = name.strip_prefix("<U") {
        let characters: usize = characters.parse().map_err(|_| format!("has the type {name}"))?;
        return Ok((Kind::Text, characters * 4));
    }
    if let Some(bytes) = name.strip_prefix("|S") {
        let bytes = bytes.parse().map_err(|_| format!("has the type {name}"))?;
        return Ok((Kind::Bytes, bytes));
    }
    let datatype = match name {
        "|b1" => "BOOL",
        "|u1" => "UINT8",
        "<u2" => "UINT16",
        "<u4" => "UINT32",
        "<u8" => "UINT64",
        "|i1" => "INT8",
        "<i2" => "INT16",
        "<i4" => "INT32",
        "<i8" => "INT64",
        "<f2" => "FP16",
        // NumPy has no name for BF16.
        "|V2" | "<V2" => "BF16",
        "<f4" => "FP32",
        "<f8" => "FP64",
        _ => return Err(format!("has the type {name}, which the protocol lacks")),
    };
    let size = name.chars().last().and_then(|digit| digit.to_digit(10));
    Ok((Kind::Number(datatype), size.unwrap_or(1) as usize))
}

/// Reorders elements from the first axis varying fastest to the last axis varying fastest.
fn first_axis_outermost<'a>(elements: &[&'a [u8]], shape: &[usize]) -> Vec<&'a [u8]> {
    let mut index = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(elements.len());
    for _ in 0..elements.len() {
        let at = index.iter().zip(shape).rev().fold(0, |at, (index, length)| at * length + index);
        ordered.push(elements[at]);
        for (index, length) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *length {
                break;
            }
            *index = 0;
        }
    }
    ordered
}

#[test]
fn elements_of_either_order_of_axes_are_read_as_rows() {
    let file = |order: &str, data: &[u8]| {
        let header = format!("{{'descr': '|u1', 'fortran_order': {order}, 'shape': (2, 3), }}\n");
        let length = (header.len() as u16).to_le_bytes();
        let file = [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat();
        array(&file).expect("an array").raw
    };
    assert_eq!(file("False", &[0, 1, 2, 3, 4, 5]), [0, 1, 2, 3, 4, 5]);
    assert_eq!(file("True", &[0, 3, 1, 4, 2, 5]), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_shape_without_axes_has_one_element() {
    assert_eq!(shape("(), }"), Ok(vec![]));
    assert_eq!(shape("(7,), }"), Ok(vec![7]));
}
