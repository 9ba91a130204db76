//! Triton's classification extension: the highest values of each row, with their indices and
//! labels, in place of an output.

use half::{bf16, f16};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZero;
use types::error::Error;
use types::tensor::{Datatype, Tensor, byte_elements, product};

/// Maximum number of classes in one output, over all its rows. Each class is a text of a few dozen
/// bytes.
const CLASSES_MAX: usize = 1 << 20;
/// The same for FP64, where a class is a text of up to 340 bytes.
const LONG_CLASSES_MAX: usize = CLASSES_MAX / 8;

/// Maximum length of the text of a value and its index, in bytes, and the same for FP64.
const NUMBER_BYTES: usize = 80;
const LONG_NUMBER_BYTES: usize = 360;
/// Memory of a class in addition to its text, which exists twice, in bytes.
const CLASS_BYTES: usize = 64;

/// Returns the `count` highest values of each row as `value:index[:label]`, in descending order. Of
/// equal values, the one with the lower index comes first; NaN is the lowest value. All axes after
/// the rows count as one, and floats are written with six decimals, as in Triton. `has_rows` is
/// true if the first axis of the output is the rows even if it is the only one. `labels` are those
/// of the model; they do not apply to an output with fewer values in a row than there are labels.
///
/// # Shapes
/// - output: `[rows, …]`, or without rows `[classes]` or `[]`
/// - classes: BYTES `[rows, count]`, `[count]` without rows; `count` is at most the number of
///   classes
///
/// # Errors
/// 422 for datatypes without an order (BOOL, BYTES), or for too many classes; the error of `admit`,
/// which is called with a number of bytes before they are allocated.
pub(crate) fn classify(
    output: &Tensor,
    count: NonZero<usize>,
    has_rows: bool,
    labels: &[String],
    admit: impl FnOnce(usize) -> Result<(), Error>,
) -> Result<Tensor, Error> {
    let name = &output.name;
    let wrong = |what: String| Error::unprocessable(format!("output '{name}': {what}"));
    let size = output.datatype.size().filter(|_| output.datatype != Datatype::Bool);
    let Some(size) = size else {
        let datatype = output.datatype;
        return Err(wrong(format!(
            "no classes exist for {datatype}; request the output without classification"
        )));
    };
    let has_rows = output.shape.len() > usize::from(!has_rows);
    let (rows, axes) = match output.shape.split_first() {
        Some((rows, axes)) if has_rows => (*rows, axes),
        _ => (1, output.shape.as_slice()),
    };
    let classes = product(axes).unwrap_or(0);
    let count = count.get().min(classes);
    let most = if output.datatype == Datatype::Fp64 { LONG_CLASSES_MAX } else { CLASSES_MAX };
    if rows.checked_mul(count).is_none_or(|all| all > most) {
        return Err(wrong(format!(
            "classification: {count} classes of each of {rows} rows are more than {most}; \
             request fewer"
        )));
    }
    let labels = if labels.len() <= classes { labels } else { &[] };
    let label = labels.iter().map(String::len).max().unwrap_or_default();
    let number = if output.datatype == Datatype::Fp64 { LONG_NUMBER_BYTES } else { NUMBER_BYTES };
    admit(rows.saturating_mul(count).saturating_mul((number + label) * 2 + CLASS_BYTES))?;
    let row = |data| best(output.datatype, data, size, count, labels);
    // An output without values has rows without classes.
    let row_bytes = classes.saturating_mul(size).max(1);
    let texts: Vec<String> = output.data.chunks_exact(row_bytes).flat_map(row).collect();
    let rows = has_rows.then_some(rows);
    let shape = rows.into_iter().chain([count]).collect();
    let tensor = Tensor::new(name.as_str(), Datatype::Bytes, shape, byte_elements(&texts));
    tensor.map_err(|error| Error::internal(error.to_string()))
}

/// Returns the `count` highest values of one row of elements of `size` bytes.
fn best(
    datatype: Datatype,
    row: &[u8],
    size: usize,
    count: usize,
    labels: &[String],
) -> Vec<String> {
    // A heap of at most `count` values, with the lowest on top.
    let mut kept = BinaryHeap::new();
    for (index, element) in row.chunks_exact(size).enumerate() {
        let candidate = Reverse((order(datatype, element), Reverse(index)));
        if kept.len() < count {
            kept.push(candidate);
        } else if let Some(mut lowest) = kept.peek_mut()
            && candidate < *lowest
        {
            *lowest = candidate;
        }
    }
    let text = |Reverse((_, Reverse(index))): Reverse<(u64, Reverse<usize>)>| {
        let element = row.chunks_exact(size).nth(index).unwrap_or_default();
        let value = text(datatype, element);
        match labels.get(index) {
            Some(label) => format!("{value}:{index}:{label}"),
            None => format!("{value}:{index}"),
        }
    };
    kept.into_sorted_vec().into_iter().map(text).collect()
}

/// The value of one element.
enum Element {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

fn element(datatype: Datatype, bytes: &[u8]) -> Element {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match datatype {
        Datatype::Bool | Datatype::Uint8 | Datatype::Bytes => {
            Element::Unsigned(u8::from_le_bytes(array(bytes)).into())
        }
        Datatype::Uint16 => Element::Unsigned(u16::from_le_bytes(array(bytes)).into()),
        Datatype::Uint32 => Element::Unsigned(u32::from_le_bytes(array(bytes)).into()),
        Datatype::Uint64 => Element::Unsigned(u64::from_le_bytes(array(bytes))),
        Datatype::Int8 => Element::Signed(i8::from_le_bytes(array(bytes)).into()),
        Datatype::Int16 => Element::Signed(i16::from_le_bytes(array(bytes)).into()),
        Datatype::Int32 => Element::Signed(i32::from_le_bytes(array(bytes)).into()),
        Datatype::Int64 => Element::Signed(i64::from_le_bytes(array(bytes))),
        Datatype::Fp16 => Element::Float(f16::from_le_bytes(array(bytes)).to_f64()),
        Datatype::Bf16 => Element::Float(bf16::from_le_bytes(array(bytes)).to_f64()),
        Datatype::Fp32 => Element::Float(f32::from_le_bytes(array(bytes)).into()),
        Datatype::Fp64 => Element::Float(f64::from_le_bytes(array(bytes))),
    }
}

/// Maps an element to an integer of the same order.
fn order(datatype: Datatype, bytes: &[u8]) -> u64 {
    const SIGN: u64 = 1 << 63;
    match element(datatype, bytes) {
        Element::Unsigned(value) => value,
        Element::Signed(value) => value.cast_unsigned() ^ SIGN,
        Element::Float(value) if value.is_nan() => 0,
        // Both zeros are equal.
        Element::Float(value) => match (value + 0.0).to_bits() {
            bits if bits & SIGN == 0 => bits | SIGN,
            bits => !bits,
        },
    }
}

fn text(datatype: Datatype, bytes: &[u8]) -> String {
    match element(datatype, bytes) {
        Element::Unsigned(value) => value.to_string(),
        Element::Signed(value) => value.to_string(),
        // In lower case, as in C.
        Element::Float(value) if value.is_nan() => "nan".into(),
        Element::Float(value) => format!("{value:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::json::{self, ExpectedTensor};

    fn classes(
        datatype: Datatype,
        shape: &[usize],
        data: &str,
        count: usize,
    ) -> Result<(Vec<usize>, Vec<String>), Error> {
        let expected = ExpectedTensor { what: "output", name: "y", datatype, shape };
        let data = json::decode(expected, data).unwrap();
        let tensor = Tensor::new("y", datatype, shape.to_vec(), data).unwrap();
        let labels = ["none", "one", "two"].map(str::to_owned);
        let count = NonZero::new(count).unwrap();
        let classes = classify(&tensor, count, true, &labels, |_| Ok(()))?;
        assert_eq!(classes.datatype, Datatype::Bytes);
        let text = serde_json::to_string(&json::JsonData(&classes)).unwrap();
        Ok((classes.shape, serde_json::from_str(&text).unwrap()))
    }

    #[track_caller]
    fn check(
        datatype: Datatype,
        (shape, data): (&[usize], &str),
        count: usize,
        (expected_shape, expected): (&[usize], &[&str]),
    ) {
        let (shape, texts) = classes(datatype, shape, data, count).unwrap();
        assert_eq!((shape.as_slice(), texts), (expected_shape, strings(expected)));
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_highest_of_each_row_come_first() {
        let data = (&[2, 4][..], "[1, 5, 10, 4, 7, 7, -1, 7]");
        let two = ["10.000000:2:two", "5.000000:1:one", "7.000000:0:none", "7.000000:1:one"];
        check(Datatype::Fp32, data, 2, (&[2, 2], &two));
        // The output has fewer values than there are labels: it contains the best class itself.
        check(Datatype::Int64, (&[2, 1], "[2, 0]"), 1, (&[2, 1], &["2:0", "0:0"]));
        let data = (&[1, 4][..], "[1, 5, 10, 4]");
        check(Datatype::Int32, data, 9, (&[1, 4], &["10:2:two", "5:1:one", "4:3", "1:0:none"]));
    }

    #[test]
    fn axes_behind_the_rows_are_one() {
        let data = (&[2, 2, 2][..], "[[[1, 2], [3, 4]], [[8, 7], [6, 5]]]");
        check(Datatype::Uint8, data, 2, (&[2, 2], &["4:3", "3:2:two", "8:0:none", "7:1:one"]));
        check(Datatype::Uint8, (&[2], "[3, 4]"), 2, (&[2, 1], &["3:0", "4:0"]));
        check(Datatype::Uint8, (&[2, 0], "[]"), 2, (&[2, 0], &[]));
        check(Datatype::Uint8, (&[0, 3], "[]"), 2, (&[0, 2], &[]));
    }

    #[test]
    fn outputs_without_rows_are_one() {
        let one = |shape: &[usize], data: &'static [u8]| {
            let tensor = Tensor::new("y", Datatype::Uint8, shape.to_vec(), data.into()).unwrap();
            classify(&tensor, NonZero::new(2).unwrap(), false, &[], |_| Ok(())).unwrap()
        };
        let classes = one(&[3], &[7, 9, 8]);
        assert_eq!(classes.shape, [2]);
        assert_eq!(classes.data, byte_elements(&["9:1", "8:2"]));
        assert_eq!(one(&[], &[7]).shape, [1]);
        assert_eq!(one(&[1, 3], &[7, 9, 8]).shape, [1, 2]);
    }

    #[test]
    fn values_are_compared_as_their_datatype() {
        let large = "[18446744073709551614, 18446744073709551615]";
        check(Datatype::Uint64, (&[1, 2], large), 1, (&[1, 1], &["18446744073709551615:1"]));
        let signed = "[-9223372036854775808, -1, -2]";
        check(Datatype::Int64, (&[1, 3], signed), 2, (&[1, 2], &["-1:1:one", "-2:2:two"]));
        let odd = "[NaN, -Infinity, 0, Infinity]";
        let order = ["inf:3", "0.000000:2:two", "-inf:1:one", "nan:0:none"];
        for datatype in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
            check(datatype, (&[1, 4], odd), 4, (&[1, 4], &order));
        }
        let negative = "[-0.5, -0.25, -0.0, 0.0]";
        let order = ["-0.000000:2:two", "0.000000:3", "-0.250000:1:one"];
        check(Datatype::Fp32, (&[1, 4], negative), 3, (&[1, 3], &order));
    }

    #[test]
    fn datatypes_without_order_and_too_many_classes_are_rejected() {
        for (datatype, data) in [(Datatype::Bool, "[true]"), (Datatype::Bytes, "[\"a\"]")] {
            let error = classes(datatype, &[1, 1], data, 1).unwrap_err();
            assert_eq!(error.kind.status(), 422);
            assert!(error.message.contains("no classes exist for"), "{error}");
        }
        let shape = vec![2, CLASSES_MAX];
        let data = vec![0; 2 * CLASSES_MAX].into();
        let tensor = Tensor::new("y", Datatype::Uint8, shape, data).unwrap();
        let count = |count| NonZero::new(count).unwrap();
        let classify = |most| classify(&tensor, count(most), true, &[], |_| Ok(()));
        assert!(classify(usize::MAX).unwrap_err().message.contains("request fewer"));
        assert_eq!(classify(2).unwrap().shape, [2, 2]);
    }
}
