//! From the bytes of a file to a window of numbers: its beginning and its end.

use super::row::{BadRow, Budget, charge};
use super::row_tensors;
use crate::files::Detail;
use crate::signature::TensorSpec;
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor};

/// Most numbers of a window.
const WINDOW_MAX: usize = 1 << 24;

/// `[preprocess.bytes]`: the first `head` and the last `tail` bytes, one number each. A file that
/// is too short is filled up with `padding`: its beginning at the end, its end at the beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByteWindow {
    #[serde(default)]
    pub(super) input: Option<String>,
    head: usize,
    #[serde(default)]
    tail: usize,
    #[serde(default)]
    padding: i16,
    /// White space at both ends of the file is skipped, in this many bytes at most.
    #[serde(default)]
    strip: Option<usize>,
}

impl ByteWindow {
    pub(super) fn check(&self, spec: &TensorSpec) -> Result<(), Detail> {
        let size = self.head.checked_add(self.tail).filter(|size| (1..=WINDOW_MAX).contains(size));
        let size = size
            .ok_or_else(|| Detail::from(format!("head + tail: 1 to {WINDOW_MAX} are possible")))?;
        let fits = spec.shape.as_slice() == [-1] || spec.shape == [size as i64];
        let typed = matches!(spec.datatype(), Datatype::Int32 | Datatype::Int64 | Datatype::Fp32);
        let plain = spec.datatype() == Datatype::Uint8 && (0..=255).contains(&self.padding);
        match (fits, typed || plain) {
            (true, true) => Ok(()),
            (false, _) => {
                Err(format!("a window of {size} does not fit '{}' {:?}", spec.name, spec.shape)
                    .into())
            }
            (true, false) => Err(format!("'{}' is of {}", spec.name, spec.datatype()).into()),
        }
    }

    /// # Shapes
    /// - output: `[1, head + tail]`
    pub(super) fn prepare(
        &self,
        file: &[u8],
        spec: &TensorSpec,
        budget: &mut Budget<'_>,
    ) -> Result<Tensor, BadRow> {
        let (first, last) = match self.strip {
            None => (file, file),
            Some(block) => {
                let first = file.get(..block).unwrap_or(file);
                let last = file.get(file.len().saturating_sub(block)..).unwrap_or(file);
                (trim_start(first), trim_end(last))
            }
        };
        let head = first.get(..self.head).unwrap_or(first);
        let tail = last.get(last.len().saturating_sub(self.tail)..).unwrap_or(last);
        let padding = |taken: usize, all: usize| std::iter::repeat_n(self.padding, all - taken);
        let values = head
            .iter()
            .map(|byte| i16::from(*byte))
            .chain(padding(head.len(), self.head))
            .chain(padding(tail.len(), self.tail))
            .chain(tail.iter().map(|byte| i16::from(*byte)));
        let shape = [self.head + self.tail];
        charge(budget, row_tensors::bytes(spec.datatype(), &shape))?;
        row_tensors::floats(&spec.name, spec.datatype(), &shape, values.map(f32::from))
    }
}

/// Returns true for white space by the rule of Python's `bytes.strip`, which was used to train such
/// models.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let from = bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len());
    bytes.get(from..).unwrap_or_default()
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let to = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    bytes.get(..to).unwrap_or_default()
}
