//! Valid requests in both forms, and a table of invalid ones.

use super::*;
use engine::Memory;
use proptest::prelude::*;
use types::error::ErrorKind;

/// More memory than any request in this file needs.
const MEMORY: usize = 1 << 20;

fn parse(body: Bytes, header_length: Option<usize>) -> Result<InferRequest, Error> {
    parse_within(body, header_length, &Memory::new(MEMORY))
}

fn parse_within(
    body: Bytes,
    header_length: Option<usize>,
    memory: &Memory,
) -> Result<InferRequest, Error> {
    let terms = RequestBounds::new(&Signature::default(), memory.of(1));
    super::parse(body, header_length, &terms)
}

fn named(name: &str, binary: bool) -> Named {
    Named { name: name.into(), binary, classes: None }
}

fn with_raw(json: &str, raw: &[u8]) -> Result<InferRequest, Error> {
    let body = [json.as_bytes(), raw].concat();
    parse(body.into(), Some(json.len()))
}

#[test]
fn json_requests() {
    let request = parse(
        r#"{"id": "7", "parameters": {"timeout": 1500, "priority": 0, "mine": {"a": [1]}},
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2.5]],
                        "parameters": {"mine": 1}}],
            "outputs": [{"name": "b"}, {"name": "a", "parameters": {"binary_data": true}}]}"#
            .into(),
        None,
    );
    let request = request.unwrap();
    assert_eq!(request.id.as_deref(), Some("7"));
    assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
    let data = [1f32, 2.5].map(f32::to_le_bytes).concat();
    let x = Tensor::new("x", Datatype::Fp32, vec![1, 2], data.into()).unwrap();
    assert_eq!(request.inputs, Tensors(vec![x]));
    assert_eq!(request.wanted.named, [named("b", false), named("a", true)]);
}

#[test]
fn list_is_not_accepted_as_an_object() {
    for list in [
        r#"["7", null, [], null]"#,
        r#"{"inputs": [["x", [1], "INT8", null, [1]]]}"#,
        r#"{"inputs": [], "parameters": []}"#,
        r#"{"inputs": [], "outputs": [["y"]]}"#,
        r#"{"inputs": [], "outputs": [{"name": "y", "parameters": []}]}"#,
    ] {
        let error = parse(list.into(), None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{list}");
        assert!(error.message.contains("expected an object"), "{list}: {}", error.message);
    }
}

#[test]
fn binary_requests_of_every_datatype() {
    for datatype in Datatype::ALL {
        // Two elements; an empty BYTES element is its length, four zero bytes.
        let raw: Vec<u8> = vec![0; 2 * datatype.size().unwrap_or(4)];
        let json = format!(
            r#"{{"inputs": [{{"name": "x", "shape": [2], "datatype": "{datatype}",
                 "parameters": {{"binary_data_size": {}}}}}]}}"#,
            raw.len()
        );
        let request = with_raw(&json, &raw).unwrap();
        assert_eq!(request.inputs.0[0].data, raw, "{datatype}");
        assert_eq!(request.inputs.0[0].datatype, datatype);
    }
}

#[test]
fn binary_and_json_inputs_mix() {
    let request = with_raw(
        r#"{"parameters": {"binary_data_output": true},
            "outputs": [{"name": "y", "parameters": {"binary_data": false}}, {"name": "z"}],
            "inputs": [
            {"name": "a", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}},
            {"name": "b", "shape": [2], "datatype": "UINT8", "data": [9, 8]},
            {"name": "c", "shape": [1], "datatype": "INT16",
             "parameters": {"binary_data_size": 2}}]}"#,
        &[1, 2, 3, 4],
    );
    let request = request.unwrap();
    let data: Vec<_> = request.inputs.0.iter().map(|tensor| &tensor.data[..]).collect();
    assert_eq!(data, [[1, 2], [9, 8], [3, 4]]);
    assert!(request.wanted.binary);
    assert_eq!(request.wanted.named, [named("y", false), named("z", true)]);
}

/// A request with these parameters.
fn sequence(parameters: &str) -> String {
    format!(r#"{{"inputs": [], "parameters": {{{parameters}}}}}"#)
}

#[test]
fn fields_of_clients_are_ignored() {
    let request = parse(
        r#"{"model_name": "m", "id": "7", "mine": [NaN, {"a": [1]}],
            "inputs": [{"name": "x", "shape": [1], "datatype": "UINT8", "data": [1], "dtype": 1}],
            "outputs": [{"name": "y", "datatype": "FP32", "parameters": {"classification": 0}}]}"#
            .into(),
        None,
    );
    let request = request.unwrap();
    assert_eq!(request.inputs.0[0].data, [1][..]);
    assert_eq!(request.wanted.named, [named("y", false)]);
}

#[test]
fn floats_may_be_infinite_or_nan() {
    let body = r#"{"id": "NaN", "inputs": [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[NaN, -Infinity]]},
        {"name": "t", "shape": [2], "datatype": "BYTES", "data": ["NaN", ",Infinity,"]}]}"#;
    for body in [body.to_owned(), format!("\u{feff}{body}")] {
        let request = parse(body.into(), None).unwrap();
        assert_eq!(request.id.as_deref(), Some("NaN"));
        let data = &request.inputs.0[0].data;
        assert!(f32::from_le_bytes(data[..4].try_into().unwrap()).is_nan());
        assert_eq!(data[4..], f32::NEG_INFINITY.to_le_bytes());
        assert_eq!(request.inputs.0[1].data[..], b"\x03\0\0\0NaN\x0a\0\0\0,Infinity,"[..]);
    }
}

#[test]
fn byte_order_mark_is_ignored() {
    let marked = format!("\u{feff}{}", input(r#""shape": [1], "datatype": "UINT8", "data": [9]"#));
    assert_eq!(parse(marked.into(), None).unwrap().inputs.0[0].data, [9][..]);
    assert_eq!(parse("\u{feff}".into(), None).unwrap_err().kind, ErrorKind::Malformed);
}

/// serde_json parses the text under this key again, with a new limit of its depth.
#[test]
fn text_in_text_is_not_parsed() {
    // Parsed again, this text would be malformed.
    let text = r#""sequence_id": {"$serde_json::private::RawValue": "[[["}"#;
    let error = parse(sequence(text).into(), None).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unprocessable);
}

#[test]
fn requests_without_a_sequence_are_accepted() {
    for parameters in [
        r#""sequence_id": 0"#,
        r#""sequence_id": "", "sequence_start": false"#,
        r#""sequence_id": null, "sequence_end": false"#,
    ] {
        assert!(parse(sequence(parameters).into(), None).is_ok(), "{parameters}");
    }
}

#[test]
fn number_of_classes_is_parsed() {
    let body = r#"{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}"#;
    let request = parse(body.into(), None).unwrap();
    assert_eq!(request.wanted.named[0].classes, NonZero::new(3));
}

/// A request with one input, `x`, of these fields.
fn input(fields: &str) -> String {
    format!(r#"{{"inputs": [{{"name": "x", {fields}}}]}}"#)
}

#[test]
fn bad_requests_without_raw_tensors() {
    let good = r#""shape": [1], "datatype": "FP32", "data": [1]"#;
    let good_input = input(good);
    let output =
        |fields: &str| good_input.replace("}]}", &format!("}}], \"outputs\": [{{{fields}}}]}}"));
    let deep =
        input(&format!(r#""shape": [1], "datatype": "FP32", "data": {}"#, "[".repeat(100_000)));
    let shaped =
        |shape: &str| input(&format!(r#""datatype": "FP32", "data": [1], "shape": {shape}"#));
    let cases: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "no JSON body"),
        ("{".into(), 400, "EOF"),
        ("[]".into(), 400, "not a V2 inference request"),
        ("null".into(), 400, "not a V2 inference request"),
        ("\u{0}\u{1}".into(), 400, "not a V2 inference request"),
        ("{}".into(), 400, "missing field `inputs`"),
        (format!("{} {{}}", input(good)), 400, "trailing characters"),
        (r#"{"inputs": [], "inputs": []}"#.into(), 400, "duplicate field `inputs`"),
        (r#"{"inputs": {}}"#.into(), 400, "expected a sequence"),
        (r#"{"inputs": [], "id": 7}"#.into(), 400, "expected a string"),
        (r#"{"inputs": [], "parameters": {"timeout": -1}}"#.into(), 400, "`-1`"),
        (r#"{"inputs": [], "parameters": {"binary_data_output": 1}}"#.into(), 400, "boolean"),
        (input(r#""shape": [1], "datatype": "FP32""#), 400, "neither 'data' nor binary_data_size"),
        (input(r#""datatype": "FP32", "data": [1]"#), 400, "missing field `shape`"),
        (input(r#""shape": [1], "data": [1]"#), 400, "missing field `datatype`"),
        (input(&format!(r#"{good}, "parameters": {{"binary_data_size": 4}}"#)), 400, "both"),
        (good_input.replace("[1]}", "[nan]}"), 400, "expected"),
        (good_input.replace("[1]}", "[inf]}"), 400, "expected value"),
        (good_input.replace("[1]}", "[NaN, nan]}"), 400, "expected"),
        (good_input.replace("[1]}", "NaN}"), 422, "'data' must be an array"),
        (
            input(r#""shape": [1], "datatype": "INT32", "data": [NaN]"#),
            422,
            "NaN at index 0 is not a INT32",
        ),
        (input(r#""shape": [NaN], "datatype": "FP32", "data": [1]"#), 400, "expected i64"),
        (sequence(r#""sequence_id": 7"#), 422, "sequence_id"),
        (sequence(r#""sequence_id": "a""#), 422, "no model keeps a state"),
        (sequence(r#""sequence_id": 0, "sequence_end": true"#), 422, "sequence_end"),
        (sequence(r#""sequence_start": true"#), 422, "sequence_start"),
        (
            input(r#""shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}"#),
            400,
            "is missing",
        ),
        (
            input(
                r#""shape": [1], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}"#,
            ),
            400,
            "shared memory",
        ),
        (deep, 400, "not a V2 inference request"),
        (shaped("[1.5]"), 400, "expected i64"),
        (shaped("[\"1\"]"), 400, "expected i64"),
        (shaped("[99999999999999999999]"), 400, "expected i64"),
        (shaped("[-1]"), 422, "input 'x': dimension -1"),
        (shaped("[4611686018427387904, 8]"), 422, "overflows"),
        (shaped("[2]"), 422, "needs 2 elements"),
        (shaped("[9223372036854775807]"), 422, "elements"),
        (
            input(r#""shape": [1], "datatype": "FP8", "data": [1]"#),
            422,
            "datatype 'FP8' is not one of",
        ),
        (input(r#""shape": [1], "datatype": "UINT8", "data": [300]"#), 422, "300 at index 0"),
        (output(r#""parameters": {}"#), 400, "missing field `name`"),
        (output(r#""name": "y", "parameters": {"classification": -3}"#), 400, "`-3`"),
        (output(r#""name": "y", "parameters": {"classification": "3"}"#), 400, "string"),
        (
            output(r#""name": "y", "parameters": {"shared_memory_region": "r"}"#),
            400,
            "shared memory",
        ),
        (output(r#""name": "y", "parameters": {"binary_data": "yes"}"#), 400, "boolean"),
    ];
    for (body, status, message) in cases {
        let shown: String = body.chars().take(200).collect();
        let error = parse(body.into(), None).expect_err(&shown);
        assert_eq!(error.kind.status(), status, "{shown}: {error}");
        assert!(error.message.contains(message), "{shown}: {error}");
    }
}

#[test]
fn bad_requests_with_raw_tensors() {
    let sized = |size: &str| {
        input(&format!(
            r#""shape": [1], "datatype": "FP32", "parameters": {{"binary_data_size": {size}}}"#
        ))
    };
    let text = input(r#""shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}"#);
    let cases: Vec<(String, &[u8], u16, &str)> = vec![
        (sized("4"), &[0; 3], 400, "only 3 bytes are left"),
        (sized("4"), &[0; 5], 400, "1 bytes are left after"),
        (sized("18446744073709551615"), &[0; 4], 400, "only 4 bytes are left"),
        (sized("-4"), &[0; 4], 400, "`-4`"),
        (sized("3"), &[0; 3], 422, "needs 4"),
        (text, &[9, 0, 0, 0, 1], 422, "past the end"),
        (String::new(), &[0; 4], 400, "no JSON body"),
        (r#"{"inputs": []}"#.into(), &[0; 4], 400, "left after"),
    ];
    for (json, raw, status, message) in cases {
        let error = with_raw(&json, raw).expect_err(&json);
        assert_eq!(error.kind.status(), status, "{json}: {error}");
        assert!(error.message.contains(message), "{json}: {error}");
    }
    let beyond = parse("{}".into(), Some(3)).unwrap_err();
    assert!(beyond.message.contains("is 3, but the body has 2 bytes"), "{beyond}");
}

/// The valid request from which the malformed requests are derived.
const WHOLE: &str = r#"{"id": "7", "parameters": {"timeout": 1500, "priority": 1, "binary_data_output": true},
    "inputs": [{"name": "a", "shape": [2, 1], "datatype": "FP32", "data": [[1.5], [-2e3]]},
               {"name": "b", "shape": [1, 2], "datatype": "BYTES", "data": ["x", "y"]},
               {"name": "c", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": 15}}],
    "outputs": [{"name": "y", "parameters": {"binary_data": false, "classification": 2}}]}"#;

// To run more cases: `PROPTEST_CASES=1000000 cargo test --release --lib requests_`.
proptest! {
    #[test]
    fn damaged_requests_are_errors_never_panics(
        spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        moved in any::<prop::sample::Index>(),
        twice in any::<bool>(),
        length in prop::option::of(0usize..2000),
    ) {
        let raw = [1u32, 2, 0].map(|length| [&length.to_le_bytes()[..], &b"zz"[..length as usize]].concat());
        let mut body = [WHOLE.as_bytes(), &raw.concat()].concat();
        for (spot, byte) in spots {
            let at = spot.index(body.len());
            body[at] = byte;
        }
        if twice {
            let part = body[moved.index(body.len())..].to_vec();
            body.splice(moved.index(WHOLE.len())..moved.index(WHOLE.len()), part);
        }
        let _ = parse(body.into(), Some(length.unwrap_or(WHOLE.len())));
    }

    #[test]
    fn requests_of_any_text_are_errors_never_panics(text in any::<String>(), header in 0usize..50) {
        let _ = parse(text.clone().into(), None);
        let _ = parse(text.into(), Some(header));
    }

    #[test]
    fn requests_of_any_shape_are_errors_never_panics(
        shape in prop::collection::vec(any::<i64>(), 0..5),
        datatype in prop::sample::select(Datatype::ALL.to_vec()),
        size in any::<u64>(),
        data in "[-0-9eE.,\\[\\]\"a ]{0,40}",
    ) {
        let head = format!(r#""shape": {shape:?}, "datatype": "{datatype}""#);
        let _ = parse(input(&format!("{head}, \"data\": [{data}]")).into(), None);
        let raw = input(&format!("{head}, \"parameters\": {{\"binary_data_size\": {size}}}"));
        let _ = with_raw(&raw, &[0; 64]);
    }
}

#[test]
fn parts_of_a_request_are_bounded_while_they_are_parsed() {
    let ones = |count: usize| vec!["1"; count].join(",");
    let many = |what: &str, count: usize| {
        let one = r#"{"name": "x", "shape": [1], "datatype": "UINT8", "data": [1]}"#;
        let list = vec![one; count].join(",");
        let other = if what == "outputs" { r#""inputs": [], "# } else { "" };
        format!("{{{other}\"{what}\": [{list}]}}")
    };
    let long = "x".repeat(1025);
    let huge = "x".repeat(FORM_STRING_MAX);
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let dims = input(&format!(r#""datatype": "UINT8", "data": [1], "shape": [{}]"#, ones(17)));
    let cases = [
        (dims, "more than 16 dimensions"),
        (many("inputs", UNKNOWN_MAX + 1), "more than 16 inputs"),
        (many("outputs", UNKNOWN_MAX + 1), "more than 16 outputs"),
        (format!(r#"{{"inputs": [], "id": "{long}"}}"#), "1025 bytes is too long"),
        (format!(r#"{{"inputs": [], "id": "{huge}"}}"#), "a string besides the data"),
        (format!(r#"{{"inputs": [], "mine": "{huge}"}}"#), "a string besides the data"),
        (format!(r#"{{"inputs": [], "mine": {nested}}}"#), "nested 201 deep"),
        (input(&format!(r#""shape": "{huge}""#)), "a string besides the data"),
    ];
    for (body, message) in cases {
        let error = parse(body.into(), None).unwrap_err();
        assert_eq!(error.kind.status(), 400, "{message}");
        assert!(error.message.contains(message) && error.message.len() < 300, "{error}");
    }
    assert!(parse(many("inputs", UNKNOWN_MAX).into(), None).is_ok());
    assert!(parse(many("outputs", UNKNOWN_MAX).into(), None).is_ok());
}

#[test]
fn tensors_are_charged_until_they_are_dropped() {
    let memory = Memory::new(MEMORY);
    let body = input(r#""shape": [3], "datatype": "FP32", "data": [1, 2, 3]"#);
    let request = parse_within(body.into(), None, &memory).unwrap();
    assert_eq!(memory.used(), 12);
    let data = request.inputs.0[0].data.clone();
    drop(request);
    assert_eq!(memory.used(), 12);
    drop(data);
    assert_eq!(memory.used(), 0);
}

#[test]
fn memory_is_charged_before_it_is_allocated() {
    let ones = vec!["1"; 1000].join(",");
    let doubles = input(&format!(r#""shape": [1000], "datatype": "FP64", "data": [{ones}]"#));
    let nan = doubles.replacen("[1,", "[NaN,", 1);
    let escaped = format!("\\n{}", "x".repeat(3000));
    let escaped = input(&format!(r#""shape": [1], "datatype": "BYTES", "data": ["{escaped}"]"#));
    for (body, needed) in [(&doubles, 8000), (&nan, nan.len() + 8000), (&escaped, 3 * 3004)] {
        let within = |max| parse_within(body.clone().into(), None, &Memory::new(max));
        assert_eq!(within(needed - 1).unwrap_err().kind.status(), 413, "{needed}");
        assert!(within(needed + 4100).is_ok(), "{needed}");
        let memory = Memory::new(needed + 4100);
        let _others = memory.of(2).charge(needed + 4100).unwrap();
        let busy = parse_within(body.clone().into(), None, &memory).unwrap_err();
        assert_eq!((busy.kind.status(), busy.retry_after.is_some()), (429, true), "{needed}");
    }
}
