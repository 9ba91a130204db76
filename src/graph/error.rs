//! Errors of reading, planning and running graphs: the cause, the node, and the kind.
//!
//! The kind states the origin of the fault, which determines the `ModelError` that an error
//! becomes. A model is loaded before any request, so `Input` and `Limit` become `Broken`
//! too.
//!
//! | kind | origin of the fault | at a load | for a request |
//! |---|---|---|---|
//! | `Unsupported` | the file: it needs what is not implemented | `Broken` | `Input` |
//! | `Invalid` | the file: it contradicts the format or an operator's definition | `Broken` | `Input` |
//! | `Internal` | this program: a plan contradicts itself | `Broken` | `Broken` |
//! | `Input` | the request: shapes or elements do not fit the graph | `Broken` | `Input` |
//! | `Limit` | the request: its results or its plan would be too large | `Broken` | `Input` |
//! | `Device` | the device: it failed | `Device` | `Device` |
//! | `Memory` | the device: its memory is full | `Memory` | `Memory` |
//! | `Machine` | the machine: an existing file cannot be read | `Machine` | `Machine` |
//!
//! A contradiction between shapes counts as `Input`, not as `Invalid`, wherever a shape may come
//! from a request: the node cannot know its origin, and a file that contradicts itself for all
//! shapes fails in the warm-up, before any request. For the same reason `Unsupported` and `Invalid`
//! become an `Input` error for a request: its shapes reach nodes that the load did not run.

use std::fmt;
use std::sync::Arc;

/// The result of reading, planning or running a graph.
pub type Result<T, E = OnnxError> = std::result::Result<T, E>;

/// The kind of an error; the table of this module gives the origin of the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Unsupported,
    Invalid,
    Internal,
    Input,
    Limit,
    Device,
    Memory,
    Machine,
}

/// The name of a node, as messages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLabel {
    pub name: String,
    /// The operator, without its domain.
    pub op: String,
}

impl fmt::Display for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node '{}' ({})", self.name, self.op)
    }
}

/// An error of a graph. Its text names the node and the operator, if the error belongs to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxError {
    pub kind: FailureKind,
    /// The innermost node.
    pub(crate) node: Option<Arc<NodeLabel>>,
    /// Names of the constructs around the node, such as a function; a colon follows each.
    around: String,
    text: String,
}

impl OnnxError {
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> OnnxError {
        OnnxError { kind, node: None, around: String::new(), text: text.into() }
    }

    /// An error of a file that requires an unsupported feature.
    pub fn unsupported(text: impl Into<String>) -> OnnxError {
        OnnxError::new(FailureKind::Unsupported, text)
    }

    /// An error of a file that contradicts the format or an operator's definition.
    pub fn invalid(text: impl Into<String>) -> OnnxError {
        OnnxError::new(FailureKind::Invalid, text)
    }

    /// An error of this program: a plan contradicts itself.
    pub fn internal(text: impl Into<String>) -> OnnxError {
        OnnxError::new(FailureKind::Internal, text)
    }

    /// An error of shapes or elements, which a request may have chosen.
    pub fn input(text: impl Into<String>) -> OnnxError {
        OnnxError::new(FailureKind::Input, text)
    }

    /// An error of a size that exceeds a limit of this program.
    pub fn limit(text: impl Into<String>) -> OnnxError {
        OnnxError::new(FailureKind::Limit, text)
    }

    /// An error that a device or its driver reports, of its memory or of anything else.
    pub fn device(text: impl Into<String>) -> OnnxError {
        let text = text.into();
        let kind = match is_out_of_memory(&text) {
            true => FailureKind::Memory,
            false => FailureKind::Device,
        };
        OnnxError::new(kind, text)
    }

    /// An error of a file that exists and cannot be read.
    pub fn machine(text: impl Into<String>) -> OnnxError {
        OnnxError::new(FailureKind::Machine, text)
    }

    /// Names the node, unless an inner node is named already.
    pub fn at(mut self, node: &Arc<NodeLabel>) -> OnnxError {
        self.node.get_or_insert_with(|| node.clone());
        self
    }

    /// Names the node: in front of the inner node if one is named already.
    pub(crate) fn inside(self, node: &Arc<NodeLabel>) -> OnnxError {
        match self.node {
            Some(_) => self.within(node),
            None => self.at(node),
        }
    }

    /// Puts `beginning` in front of the text, without a colon.
    pub(crate) fn after(mut self, beginning: impl fmt::Display) -> OnnxError {
        self.text = format!("{beginning} {}", self.text);
        self
    }

    /// Names the construct that encloses the error, such as an output or a function.
    pub fn within(mut self, what: impl fmt::Display) -> OnnxError {
        match self.node {
            Some(_) => self.around = format!("{what}: {}", self.around),
            None => self.text = format!("{what}: {}", self.text),
        }
        self
    }
}

impl fmt::Display for OnnxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{}{node}: {}", self.around, self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for OnnxError {}

/// Returns true for an error text of burn, cubecl, wgpu or a driver that reports exhausted memory.
/// Their types do not carry this: burn 0.22's `ExecutionError` has only a text, and drivers panic.
pub fn is_out_of_memory(text: &str) -> bool {
    // cubecl 0.11: `IoError` in server/base.rs; wgpu 30: `Error::OutOfMemory`; Vulkan's result
    // codes.
    const WORDS: [&str; 5] = [
        "out of memory",
        "out-of-memory",
        "out of device memory",
        "out_of_device_memory",
        "can't allocate buffer of size",
    ];
    let text = text.to_lowercase();
    WORDS.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, op: &str) -> Arc<NodeLabel> {
        Arc::new(NodeLabel { name: name.into(), op: op.into() })
    }

    #[test]
    fn innermost_node_labels_an_error_once() {
        let error = OnnxError::input("2 axes").at(&label("m", "MatMul")).at(&label("i", "If"));
        assert_eq!(error.to_string(), "node 'm' (MatMul): 2 axes");
        // A text that looks like a label is not treated as a label.
        let error = OnnxError::input("node 'x': 2 axes").at(&label("m", "MatMul"));
        assert_eq!(error.to_string(), "node 'm' (MatMul): node 'x': 2 axes");
    }

    #[test]
    fn context_precedes_the_node_that_it_encloses() {
        let error = OnnxError::invalid("no shape").within("value").inside(&label("c", "Constant"));
        assert_eq!(error.to_string(), "node 'c' (Constant): value: no shape");
        let error = error.within("then_branch").inside(&label("i", "If")).within("function 'f'");
        let outer = "function 'f': node 'i' (If): then_branch";
        assert_eq!(error.to_string(), format!("{outer}: node 'c' (Constant): value: no shape"));
        assert_eq!(error.kind, FailureKind::Invalid);
    }

    #[test]
    fn device_errors_about_memory_have_the_kind_memory() {
        let kind = |text: &str| OnnxError::device(text).kind;
        assert_eq!(kind("out of device memory allocating 4096 bytes"), FailureKind::Memory);
        assert_eq!(kind("can't allocate buffer of size: 17179869184"), FailureKind::Memory);
        assert_eq!(kind("Device lost: Unknown"), FailureKind::Device);
        assert_eq!(OnnxError::input("out of memory").kind, FailureKind::Input);
    }
}
