//! An ONNX file as a graph: its nodes, constants, inputs and outputs, and the proof that its rows
//! are independent. Without burn, since the serving process reads files with this crate.

pub mod elem;
pub mod error;
mod graph;
mod maps;
pub mod operators;
pub mod proto;
pub mod raw;
mod read;
mod rows;
pub mod source;
pub mod sparse;
#[cfg(any(test, feature = "testing"))]
pub mod test_graph;

pub use elem::Elem;
pub use error::{FailureKind, OnnxError, is_out_of_memory};
pub use graph::{Attribute, Dim, Function, Graph, ModelFile, Node, Port, Sort};
pub use raw::FileTensor;
pub use read::read_file;
pub use rows::{InferredLength, RowProof, prove};
pub use source::FileSource;
