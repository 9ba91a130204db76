//! Model repositories for tests.

use super::Folder;
use std::path::PathBuf;

/// The source tree that is tested: asked at run time, since checkouts may share compiled tests.
pub fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells it").into()
}

/// The repository of this source tree.
pub fn source() -> PathBuf {
    package().join("models")
}

/// Every datatype of the protocol.
pub const DATATYPES: [&str; 14] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "BF16", "FP32", "FP64", "BYTES",
];

/// `model.toml` of a model that gives input `x` back as output `y`, for rows of any length and
/// every datatype.
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

/// Adds a copy of `digits` under another name; its files can then be spoilt.
pub fn add_digits(repository: &Folder, name: &str) {
    let digits = source().join("digits");
    for file in ["model.toml", "1/golden.json", "1/weights.safetensors"] {
        let data = std::fs::read(digits.join(file)).expect("the model is in the source tree");
        repository.write(&format!("{name}/{file}"), data);
    }
}
