//! Model repositories for tests.

use super::Folder;
use std::path::PathBuf;

/// The tested source tree, determined at run time, since checkouts may share compiled tests.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets the variable").into()
}

/// The model repository of this source tree.
pub fn source() -> PathBuf {
    package().join("models")
}

/// Every datatype of the protocol.
pub const DATATYPES: [&str; 14] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "BF16", "FP32", "FP64", "BYTES",
];

/// `model.toml` of a model that returns input `x` as output `y`, for rows of any length and every
/// datatype.
pub fn echo_toml(max_rows: usize, delay: &str) -> String {
    let tensor =
        |name: &str| format!("name = \"{name}\"\ndatatypes = {DATATYPES:?}\nshape = [-1]\n");
    format!(
        "kind = \"identity\"\n[[inputs]]\n{}[[outputs]]\n{}[batch]\nmax_rows = {max_rows}\n\
         delay = \"{delay}\"\n",
        tensor("x"),
        tensor("y")
    )
}

/// Adds such a model to a repository.
pub fn add_echo(repository: &Folder, name: &str, max_rows: usize, delay: &str) {
    repository.write(&format!("{name}/model.toml"), echo_toml(max_rows, delay));
    repository.make_dir(&format!("{name}/1"));
}

/// Adds a model of kind `count` that runs `max_rows` requests at a time.
pub fn add_count(repository: &Folder, name: &str, max_rows: usize) {
    let toml = format!("kind = \"count\"\n[batch]\nmax_rows = {max_rows}\n");
    repository.write(&format!("{name}/model.toml"), toml);
    repository.make_dir(&format!("{name}/1"));
}

/// Adds a copy of `digits` under another name, with files that can then be damaged.
pub fn add_digits(repository: &Folder, name: &str) {
    let digits = source().join("digits");
    for file in ["model.toml", "1/golden.json", "1/weights.safetensors"] {
        let data = std::fs::read(digits.join(file)).expect("the model is in the source tree");
        repository.write(&format!("{name}/{file}"), data);
    }
}

/// `tests/data/linear.onnx` with the matrix of its product moved to another file.
pub fn external_linear(location: &str) -> Vec<u8> {
    let file = linear();
    let (graph, matrix) = (find(&file, b":\x9e\x01") + 3, find(&file, MATRIX));
    let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
    // TensorProto: dims, data_type, name, external_data, data_location.
    let head = b"\x08\x03\x08\x02\x10\x01B\x01w".to_vec();
    let tensor = [head, field(13, &entry), b"\x70\x01".to_vec()].concat();
    let (end, behind) = (graph + 158, matrix + MATRIX.len() + 11 + 24);
    let inner = [&file[graph..matrix], &field(5, &tensor), &file[behind..end]].concat();
    [&file[..graph - 3], &field(7, &inner), &file[end..]].concat()
}

/// The content of that file.
pub fn external_weights() -> Vec<u8> {
    let file = linear();
    let at = find(&file, MATRIX) + MATRIX.len() + 11;
    file[at..at + 24].to_vec()
}

/// The beginning of the matrix in the file; nine more bytes of its head and two before its data
/// follow.
const MATRIX: &[u8] = b"*\x23";

fn linear() -> Vec<u8> {
    std::fs::read(package().join("tests/data/linear.onnx")).expect("it is in the source tree")
}

fn find(data: &[u8], part: &[u8]) -> usize {
    data.windows(part.len()).position(|found| found == part).expect("it is in the file")
}

/// A field of protobuf that holds bytes.
fn field(number: usize, data: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(data.len()), data.to_vec()].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push((number & 127 | 128) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
