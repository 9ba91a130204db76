//! Tests of the digit model: valid weights, every kind of invalid ones, and its answers.

use super::*;
use crate::Registry;
use model::info::ModelInfo;
use model::repository::{Repository, ScanResult};
use model::{golden, run_batch, warm_up_inputs};
use testkit::Folder;

const MANIFEST: &str = include_str!("../../models/digits/model.toml");
const GOOD: &[u8] = include_bytes!("../../models/digits/1/weights.safetensors");
const SAMPLE: &[u8] = include_bytes!("../../models/digits/1/golden.json");

fn embedded() -> ModelInfo {
    match Repository::embedded().scan(&Registry::builtin().kinds()).remove(0) {
        ScanResult::Good(info) => info,
        ScanResult::Bad(bad) => panic!("{bad:?}"),
    }
}

fn load_info(info: &ModelInfo) -> Result<Box<dyn Model>, ModelError> {
    let files = info.files().unwrap();
    Registry::builtin().load(&LoadContext { info, files: &files, device: &Device::flex() })
}

/// Runs the golden sample.
fn check(info: &ModelInfo, model: &mut dyn Model) -> Result<(), ModelError> {
    let sample = golden::sample(&info.files().unwrap(), info).unwrap().unwrap();
    sample.check(model, info.batch.max_rows)
}

/// Loads the model from a folder with these weights; `None` for no file.
fn load_weights(weights: Option<&[u8]>) -> Result<Box<dyn Model>, ModelError> {
    let folder = Folder::new();
    folder.write("digits/model.toml", MANIFEST.as_bytes());
    folder.write("digits/1/golden.json", SAMPLE);
    if let Some(weights) = weights {
        folder.write("digits/1/weights.safetensors", weights);
    }
    match Repository::open(folder.path()).unwrap().scan(&Registry::builtin().kinds()).remove(0) {
        ScanResult::Good(info) => load_info(&info),
        ScanResult::Bad(bad) => panic!("{bad:?}"),
    }
}

#[track_caller]
fn is_broken(weights: Option<&[u8]>, words: &str) {
    let error = load_weights(weights).err().expect("loaded");
    assert!(matches!(error, ModelError::Broken(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("digits/1/weights.safetensors: "), "{text}");
    assert!(text.contains(words), "{text}");
}

/// A safetensors file of these tensors, all zeros, with their types.
fn safetensors(tensors: &[(&str, &str, &[usize])]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape) in tensors {
        let start = data.len();
        let size = if *dtype == "F16" { 2 } else { 4 };
        data.resize(start + shape.iter().product::<usize>() * size, 0);
        let entry = serde_json::json!({
            "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]
        });
        header.insert((*name).into(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

const SHAPES: [(&str, &str, &[usize]); 8] = [
    ("conv1.weight", "F32", &[8, 1, 3, 3]),
    ("conv1.bias", "F32", &[8]),
    ("conv2.weight", "F32", &[16, 8, 3, 3]),
    ("conv2.bias", "F32", &[16]),
    ("hidden.weight", "F32", &[784, 64]),
    ("hidden.bias", "F32", &[64]),
    ("output.weight", "F32", &[64, 10]),
    ("output.bias", "F32", &[10]),
];

#[test]
fn embedded_weights_pass_their_golden_sample() {
    let info = embedded();
    let mut model = load_info(&info).unwrap();
    check(&info, model.as_mut()).unwrap();
}

#[test]
fn wrong_weights_fail_the_golden_sample() {
    let info = embedded();
    let mut model = load_weights(Some(&safetensors(&SHAPES))).unwrap();
    let error = check(&info, model.as_mut()).unwrap_err();
    assert!(matches!(error, ModelError::Golden(_)), "{error:?}");
}

#[test]
fn invalid_weights_are_reported() {
    is_broken(None, "does not exist");
    is_broken(Some(b""), "is not a safetensors file");
    is_broken(Some(b"<html>not found</html>"), "is not a safetensors file");
    is_broken(Some(&GOOD[..GOOD.len() - 1]), "is not a safetensors file");
    is_broken(Some(&GOOD[..7]), "is not a safetensors file");
    is_broken(Some(&GOOD[..100]), "is not a safetensors file");
    is_broken(Some(&[0xff; 64]), "is not a safetensors file");
    is_broken(Some(&vec![0; 5 << 20]), "has 5242880 bytes, but at most 4194304 are allowed");
}

#[test]
fn weights_of_another_network_are_reported() {
    let mut other = SHAPES;
    other[4] = ("hidden.weight", "F32", &[784, 32]);
    is_broken(Some(&safetensors(&other)), "hidden.weight");
    other = SHAPES;
    other[1] = ("conv1.bias", "F16", &[8]);
    is_broken(Some(&safetensors(&other)), "tensor 'conv1.bias' is F16, not F32");
    is_broken(Some(&safetensors(&SHAPES[..7])), "tensor 'output.bias' is missing");
    let more = [&SHAPES[..], &[("extra", "F32", &[1])]].concat();
    is_broken(Some(&safetensors(&more)), "tensor 'extra' does not belong to the network");
}

#[test]
fn manifest_that_contradicts_the_network_is_reported() {
    let mut info = embedded();
    info.signature.inputs[0].shape = vec![32, 32];
    let error = load_info(&info).err().unwrap().to_string();
    assert!(error.contains("model.toml states the inputs image"), "{error}");
}

#[test]
fn bytes_and_floats_give_one_answer_in_every_bucket() {
    let info = embedded();
    let mut model = load_info(&info).unwrap();
    let pixels: Vec<u8> = (0..3 * EDGE * EDGE).map(|at| (at % 251) as u8).collect();
    let floats: Vec<u8> =
        pixels.iter().flat_map(|byte| (f32::from(*byte) / 255.0).to_le_bytes()).collect();
    let shape = vec![3, EDGE, EDGE];
    let tensor = |datatype, data: Vec<u8>| {
        Tensors(vec![Tensor::new("image", datatype, shape.clone(), data.into()).unwrap()])
    };
    let (bytes, floats) = (tensor(Datatype::Uint8, pixels), tensor(Datatype::Fp32, floats));
    let together = run_batch(model.as_mut(), 8, &bytes, 3).unwrap();
    assert_near(&together, &run_batch(model.as_mut(), 8, &floats, 3).unwrap());
    for row in 0..3 {
        let alone = run_batch(model.as_mut(), 8, &bytes.slice_rows(row, 1).unwrap(), 1).unwrap();
        assert_near(&together.slice_rows(row, 1).unwrap(), &alone);
    }
}

fn floats(tensors: &Tensors) -> Vec<f32> {
    let data = &tensors.get("probabilities").unwrap().data;
    data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[track_caller]
fn assert_near(a: &Tensors, b: &Tensors) {
    assert_eq!(a.get("digit").unwrap(), b.get("digit").unwrap());
    for (a, b) in floats(a).iter().zip(floats(b)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn warm_up_runs_in_every_bucket() {
    let mut model = load_info(&embedded()).unwrap();
    for rows in model::buckets(4) {
        for inputs in warm_up_inputs(&signature(), rows) {
            let outputs = run_batch(model.as_mut(), 4, &inputs, rows).unwrap();
            for probabilities in floats(&outputs).chunks(CLASSES) {
                assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn pixels_that_are_nan_are_errors_of_the_request() {
    let mut model = load_info(&embedded()).unwrap();
    for pixel in [f32::NAN, f32::INFINITY, 3e38, 255e3] {
        let data: Vec<u8> = [pixel; EDGE * EDGE].iter().flat_map(|p| p.to_le_bytes()).collect();
        let image = Tensor::new("image", Datatype::Fp32, vec![1, EDGE, EDGE], data.into());
        let error = run_batch(model.as_mut(), 8, &Tensors(vec![image.unwrap()]), 1).unwrap_err();
        assert!(matches!(error, ModelError::Input(_)), "{error:?}");
    }
}

#[test]
fn the_first_of_equal_logits_wins() {
    assert_eq!(largest(&[0.0, 2.0, 2.0, -1.0]), 1);
    let probabilities: Vec<f32> = softmax(&[1000.0, 1000.0]).collect();
    assert_eq!(probabilities, [0.5, 0.5]);
}
