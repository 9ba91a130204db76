//! Tests of round trips of every datatype, and of invalid data.

use super::*;
use proptest::prelude::*;

fn expected<'a>(datatype: Datatype, shape: &'a [usize]) -> ExpectedTensor<'a> {
    ExpectedTensor { what: "input", name: "x", datatype, shape }
}

fn tensor(datatype: Datatype, shape: &[usize], text: &str) -> Tensor {
    let data = decode(expected(datatype, shape), text).unwrap();
    Tensor::new("x", datatype, shape.to_vec(), data).unwrap()
}

fn render(tensor: &Tensor) -> Result<String, String> {
    let text = document::to_vec(&JsonData(tensor)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(text).unwrap())
}

#[test]
fn every_datatype_round_trips() {
    let cases = [
        (Datatype::Bool, "[true,false,true]"),
        (Datatype::Uint8, "[0,1,255]"),
        (Datatype::Uint16, "[0,1,65535]"),
        (Datatype::Uint32, "[0,1,4294967295]"),
        (Datatype::Uint64, "[0,1,18446744073709551615]"),
        (Datatype::Int8, "[-128,0,127]"),
        (Datatype::Int16, "[-32768,0,32767]"),
        (Datatype::Int32, "[-2147483648,0,2147483647]"),
        (Datatype::Int64, "[-9223372036854775808,0,9223372036854775807]"),
        (Datatype::Fp16, "[-65504.0,0.5,0.099975586]"),
        (Datatype::Bf16, "[-0.0,1.5,0.100097656]"),
        (Datatype::Fp32, "[3.4028235e+38,0.1,-1e-45]"),
        (Datatype::Fp64, "[1.7976931348623157e+308,0.1,5e-324]"),
        (Datatype::Bytes, r#"["","a\"]\\ü","💡, ["]"#),
    ];
    for (datatype, text) in cases {
        assert_eq!(render(&tensor(datatype, &[3], text)).unwrap(), text, "{datatype}");
    }
    assert_eq!(cases.map(|(datatype, _)| datatype), Datatype::ALL);
}

#[test]
fn bytes_are_little_endian() {
    assert_eq!(tensor(Datatype::Int16, &[2], "[1,-2]").data, [1, 0, 254, 255][..]);
    assert_eq!(tensor(Datatype::Fp32, &[1], "[1]").data, 1f32.to_le_bytes()[..]);
    assert_eq!(tensor(Datatype::Fp16, &[1], "[1]").data, [0, 0x3c][..]);
    assert_eq!(tensor(Datatype::Bytes, &[1], r#"["\u00fc"]"#).data, b"\x02\0\0\0\xc3\xbc"[..]);
}

#[test]
fn nested_and_flat_are_the_same() {
    let flat = tensor(Datatype::Uint8, &[2, 1, 3], "[1,2,3,4,5,6]");
    assert_eq!(tensor(Datatype::Uint8, &[2, 1, 3], " [ [[1,\n2,3] ], [[4,5,6]] ] "), flat);
    assert!(tensor(Datatype::Uint8, &[2, 0], "[[],[]]").data.is_empty());
    assert!(tensor(Datatype::Uint8, &[2, 0], "[]").data.is_empty());
    assert!(tensor(Datatype::Uint8, &[0], "[]").data.is_empty());
}

#[test]
fn whole_numbers_may_be_written_as_floats() {
    assert_eq!(tensor(Datatype::Uint8, &[4], "[1.0,1e2,-0,-0.0]").data, [1, 100, 0, 0][..]);
    assert_eq!(tensor(Datatype::Bool, &[2], "[1,0]").data, [1, 0][..]);
}

#[test]
fn invalid_data_are_reported_with_their_index() {
    use Datatype::*;
    let cases: &[(Datatype, &[usize], &str, &str)] = &[
        (Uint8, &[2], "[1,300]", "300 at index 1 is not a UINT8"),
        (Uint8, &[1], "[-1]", "-1 at index 0 is not a UINT8"),
        (Int32, &[1], "[1.5]", "1.5 at index 0 is not a INT32"),
        (Int64, &[1], "[9223372036854775808]", "is not a INT64"),
        (Uint64, &[1], "[1e30]", "1e30 at index 0 is not a UINT64"),
        (Fp32, &[1], "[1e400]", "1e400 at index 0 is not a FP32"),
        (Fp32, &[1], "[1e39]", "1e39 at index 0 is not a FP32"),
        (Fp64, &[1], "[1e400]", "is not a FP64"),
        (Fp16, &[1], "[65520]", "65520 at index 0 is not a FP16"),
        (Bf16, &[1], "[1e39]", "is not a BF16"),
        (Fp32, &[1], "[\"1\"]", "\"1\" at index 0 is not a FP32"),
        (Fp32, &[1], "[null]", "null at index 0 is not a FP32; write NaN, Infinity"),
        (Fp32, &[1], "[true]", "true at index 0"),
        (Fp32, &[1], "[{\"a\":1}]", "{ at index 0"),
        (Bool, &[1], "[2]", "2 at index 0 is not a BOOL"),
        (Bytes, &[1], "[1]", "1 at index 0 is not a BYTES"),
        (Bytes, &[1], "[\"\\ud800\"]", "at index 0 is not a BYTES"),
        (Bytes, &[1], "[true]", "is not a BYTES"),
        (Fp32, &[3], "[1,2]", "needs 3 elements, 'data' hold 2"),
        (Fp32, &[1], "[1,2]", "needs 1 elements, 'data' hold more"),
        (Fp32, &[2, 3], "[[1,2],[3,4],[5,6]]", "flat or nested as shape [2, 3]"),
        (Fp32, &[2, 2], "[[1,2],3,4]", "nested as shape"),
        (Fp32, &[2, 2], "[1,2,[3,4]]", "nested as shape"),
        (Fp32, &[1], "[[1]]", "nested as shape"),
        (Fp32, &[2, 1, 1], "[[1],[2]]", "nested as shape"),
        (Fp32, &[1], "1", "'data' must be an array"),
        (Fp32, &[1], "{\"a\":[1]}", "'data' must be an array"),
        (Fp32, &[1], "\"[1]\"", "'data' must be an array"),
        (Fp32, &[], "[]", "needs 1 elements"),
        (Fp32, &[usize::MAX, 2], "[]", "overflows"),
        (Fp32, &[usize::MAX], "[1]", "elements"),
    ];
    for (datatype, shape, text, message) in cases {
        let error = decode(expected(*datatype, shape), text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.kind.status(), 422);
    }
}

#[test]
fn values_that_are_not_finite_round_trip_in_every_float() {
    let text = "[NaN,Infinity,-Infinity,1.5]";
    for datatype in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
        let flat = tensor(datatype, &[2, 2], text);
        assert_eq!(render(&flat).unwrap(), text, "{datatype}");
        assert_eq!(tensor(datatype, &[2, 2], "[[NaN, Infinity], [-Infinity, 1.5]]"), flat);
    }
    let doubles = tensor(Datatype::Fp64, &[1], "[-Infinity]");
    assert_eq!(doubles.data, f64::NEG_INFINITY.to_le_bytes()[..]);
}

#[test]
fn values_that_are_not_finite_have_one_spelling() {
    use Datatype::*;
    for datatype in [Fp16, Fp32, Fp64] {
        for wrong in ["nan", "NAN", "inf", "Inf", "infinity", "-NaN", "+Infinity", "\"NaN\""] {
            let error = decode(expected(datatype, &[1]), &format!("[{wrong}]")).unwrap_err();
            assert!(error.message.contains("at index 0 is not a FP"), "{wrong}: {error}");
        }
    }
    for datatype in [Bool, Uint8, Int64, Bytes] {
        let error = decode(expected(datatype, &[1]), "[NaN]").unwrap_err();
        assert!(error.message.contains("NaN at index 0 is not a"), "{datatype}: {error}");
    }
}

#[test]
fn long_wrong_values_are_shortened() {
    let text = format!("[{}]", "9".repeat(10_000));
    let error = decode(expected(Datatype::Uint8, &[1]), &text).unwrap_err();
    assert!(error.message.len() < 120, "{error}");
}

#[test]
fn nesting_deeper_than_the_shape_is_rejected() {
    let text = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    assert!(decode(expected(Datatype::Fp32, &[1, 1]), &text).is_err());
}

#[test]
fn values_that_json_cannot_represent_need_binary_output() {
    let raw =
        Tensor::new("y", Datatype::Bytes, vec![1], b"\x01\0\0\0\xff".to_vec().into()).unwrap();
    assert!(
        render(&raw).unwrap_err().contains("invalid UTF-8 at index 0, which JSON cannot represent")
    );
}

proptest! {
    #[test]
    fn arbitrary_json_never_panics(
        text in r#"[\[\]{},": \\a-f0-9.eE+-]{0,40}"#,
        dims in proptest::collection::vec(0usize..4, 0..4),
    ) {
        for datatype in Datatype::ALL {
            let _ = decode(expected(datatype, &dims), &text);
        }
    }

    #[test]
    fn doubles_are_exact(values in proptest::collection::vec(proptest::num::f64::NORMAL, 1..20)) {
        let text = serde_json::to_string(&values).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = tensor(Datatype::Fp64, &[values.len()], &text);
        prop_assert_eq!(&tensor.data[..], &bytes[..]);
        prop_assert_eq!(render(&tensor).unwrap(), text);
    }

    #[test]
    fn strings_are_exact(values in proptest::collection::vec(".*", 0..8)) {
        let text = serde_json::to_string(&values).unwrap();
        prop_assert_eq!(render(&tensor(Datatype::Bytes, &[values.len()], &text)).unwrap(), text);
    }
}

#[test]
fn one_element_may_be_given_without_an_array() {
    let decode = |datatype, shape: &[usize], text: &str| {
        let expected = ExpectedTensor { what: "input", name: "x", datatype, shape };
        decode_value_within(expected, text, |_| Ok(()))
    };
    assert_eq!(decode(Datatype::Uint8, &[1, 1], " 7").unwrap(), [7]);
    assert_eq!(decode(Datatype::Uint8, &[1, 1], "[7]").unwrap(), [7]);
    assert_eq!(decode(Datatype::Bytes, &[1], "\"hi\"").unwrap(), b"\x02\0\0\0hi");
    assert_eq!(decode(Datatype::Bool, &[], "true").unwrap(), [1]);
    for (shape, text, words) in [
        (&[2][..], "7", "needs 2 elements"),
        (&[0], "7", "needs 0 elements"),
        (&[1], "300", "is not a UINT8"),
        (&[1], "{\"a\": 1}", "is not a UINT8"),
    ] {
        let error = decode(Datatype::Uint8, shape, text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn nesting_is_that_of_the_first_arrays() {
    for (text, lengths, elements) in [
        ("7", vec![], 1),
        ("[]", vec![0], 0),
        ("[1, 2, 3]", vec![3], 3),
        ("[[1, 2], [3, 4], [5, 6]]", vec![3, 2], 6),
        ("[[[\"a]\", \"b\"]], [[]]]", vec![2, 1, 2], 2),
        ("[[], [1]]", vec![2, 0], 1),
    ] {
        assert_eq!(nesting(text), (lengths, elements), "{text}");
    }
}
