//! One request to a model, and the comparison of its answer.

use crate::array::Array;
use serde_json::{Value, json};
use testkit::Response;
use testkit::http::{Connection, request};

/// The encodings of tensors in a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Json,
    Binary,
}

/// The whole request.
pub fn infer(model: &str, form: Form, inputs: &[(String, Array)]) -> Vec<u8> {
    let described: Vec<String> =
        inputs.iter().map(|(name, array)| input(form, name, array)).collect();
    let binary = form == Form::Binary;
    let inputs_text = described.join(",");
    let mut body = format!(
        "{{\"inputs\":[{inputs_text}],\"parameters\":{{\"binary_data_output\":{binary}}}}}"
    )
    .into_bytes();
    let length = body.len().to_string();
    let path = format!("/v2/models/{}/infer", encoded(model));
    if form == Form::Json {
        return request("POST", &path, &[("Content-Type", "application/json")], &body);
    }
    inputs.iter().for_each(|(_, array)| body.extend_from_slice(&array.raw));
    let headers = [
        ("Content-Type", "application/octet-stream"),
        ("Inference-Header-Content-Length", length.as_str()),
    ];
    request("POST", &path, &headers, &body)
}

fn input(form: Form, name: &str, array: &Array) -> String {
    let (name, shape) = (json!(name), json!(array.shape));
    let head = format!("{{\"name\":{name},\"shape\":{shape},\"datatype\":{:?}", array.datatype);
    match form {
        Form::Json => format!("{head},\"data\":{}}}", array.to_json()),
        Form::Binary => {
            let size = array.raw.len();
            format!("{head},\"parameters\":{{\"binary_data_size\":{size}}}}}")
        }
    }
}

/// A name as a segment of a URL's path.
fn encoded(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let byte = |byte: &u8| match plain(byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.as_bytes().iter().map(byte).collect()
}

/// Sends a request and compares every expected output with the answer.
///
/// # Errors
/// Returns the status and message of a rejection, or the first difference.
pub fn check(
    connection: &mut Connection,
    request: &[u8],
    expected: &[(String, Array)],
    tolerance: (f64, f64),
) -> Result<(), String> {
    let response = connection.exchange(request).map_err(|error| format!("no answer: {error}"))?;
    if response.status != 200 {
        return Err(format!("{} {}", response.status, response.error()));
    }
    let found = outputs(&response)?;
    for (name, expected) in expected {
        let found = found.iter().find(|(found, _)| found == name);
        let (_, found) = found.ok_or_else(|| format!("output '{name}' is missing"))?;
        found.check(expected, tolerance).map_err(|error| format!("output '{name}': {error}"))?;
    }
    Ok(())
}

/// The outputs of an answer by name.
fn outputs(response: &Response) -> Result<Vec<(String, Array)>, String> {
    let length = response.header("inference-header-content-length").map(str::parse);
    let length = length.unwrap_or(Ok(response.body.len())).map_err(|_| "it has no length")?;
    let (text, mut raw) = response.body.split_at_checked(length).ok_or("it is cut off")?;
    let answer: Value = serde_json::from_slice(&quoted(text)).map_err(|error| error.to_string())?;
    let listed = answer["outputs"].as_array().ok_or("it has no outputs")?;
    let mut outputs = Vec::new();
    for output in listed {
        let name = output["name"].as_str().ok_or("an output has no name")?;
        let size = output["parameters"]["binary_data_size"].as_u64();
        let binary = match size {
            Some(size) => {
                let (binary, rest) = raw.split_at_checked(size as usize).ok_or("it is cut off")?;
                raw = rest;
                Some(binary)
            }
            None => None,
        };
        let array = Array::of_answer(output, binary);
        outputs.push((name.to_owned(), array.map_err(|error| format!("'{name}': {error}"))?));
    }
    Ok(outputs)
}

/// JSON in which the bare words for non-finite values are replaced by strings.
fn quoted(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at, mut inside) = (Vec::with_capacity(text.len()), 0, false);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let words = ["NaN", "Infinity", "-Infinity"];
        let word = words.iter().find(|word| !inside && rest.starts_with(word.as_bytes()));
        let length = match (word, rest) {
            (Some(word), _) => word.len(),
            (None, [b'\\', _, ..]) => 2,
            (None, _) => 1,
        };
        inside ^= rest[0] == b'"';
        let quote: &[u8] = if word.is_some() { b"\"" } else { b"" };
        out.extend_from_slice(&[quote, &rest[..length], quote].concat());
        at += length;
    }
    out
}

#[test]
fn non_finite_values_outside_of_strings_are_quoted() {
    let text = br#"{"NaN\"":[NaN,-Infinity,1,Infinity]}"#;
    let expected = br#"{"NaN\"":["NaN","-Infinity",1,"Infinity"]}"#;
    assert_eq!(quoted(text), expected);
}

#[test]
fn names_are_percent_encoded() {
    assert_eq!(encoded("a (1)é"), "a%20%281%29%C3%A9");
}
