//! Requests with handwritten digits, and readers of their answers.

use super::Response;
use serde_json::{Value, json};

pub const PIXELS: usize = 28 * 28;

/// The request of the README's tutorial: a handwritten seven.
pub const SEVEN: &str = include_str!("../../examples/seven.json");

/// The pixels of that seven.
pub fn seven() -> Vec<u8> {
    let request: Value = serde_json::from_str(SEVEN).expect("the example is JSON");
    let data = request["inputs"][0]["data"].as_array().expect("it has data");
    data.iter()
        .map(|pixel| u8::try_from(pixel.as_u64().expect("a pixel")).expect("a byte"))
        .collect()
}

/// Different images: the seven shifted, flipped and dimmed. Their digits do not matter, only that
/// each image has a different answer.
pub fn variants(count: usize) -> Vec<Vec<u8>> {
    let seven = seven();
    let variant = |n: usize| {
        let mut image = seven.clone();
        image.rotate_right((n % 4) * 2 * 28 + n % 3);
        if n % 2 == 1 {
            image.reverse();
        }
        let dim = 255 - 20 * (n as u32 % 8);
        image.iter().map(|pixel| (u32::from(*pixel) * dim / 255) as u8).collect()
    };
    (0..count).map(variant).collect()
}

/// Returns a request for one image as bytes.
pub fn as_uint8(image: &[u8]) -> String {
    let input = json!({"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "data": image});
    json!({ "inputs": [input] }).to_string()
}

/// Returns a request for the same image as numbers between 0 and 1.
pub fn as_fp32(image: &[u8]) -> String {
    let input =
        json!({"name": "image", "datatype": "FP32", "shape": [1, 28, 28], "data": floats(image)});
    json!({ "inputs": [input] }).to_string()
}

pub fn floats(image: &[u8]) -> Vec<f32> {
    image.iter().map(|pixel| f32::from(*pixel) / 255.0).collect()
}

/// Returns an output of a JSON answer.
#[track_caller]
pub fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().unwrap_or_else(|| panic!("no outputs in {answer}"));
    let found = outputs.iter().find(|output| output["name"] == name);
    found.unwrap_or_else(|| panic!("no output '{name}' in {answer}"))
}

/// Returns the probabilities of a JSON answer, row by row.
#[track_caller]
pub fn probabilities(response: &Response) -> Vec<f32> {
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    let data = output(&answer, "probabilities")["data"].as_array().expect("data").clone();
    data.iter().map(|value| value.as_f64().expect("a number") as f32).collect()
}

/// Returns the digits of a JSON answer.
#[track_caller]
pub fn digits(response: &Response) -> Vec<i64> {
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    let data = output(&answer, "digit")["data"].as_array().expect("data").clone();
    data.iter().map(|value| value.as_i64().expect("a whole number")).collect()
}

/// Returns the largest difference between two lists of numbers.
#[track_caller]
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
