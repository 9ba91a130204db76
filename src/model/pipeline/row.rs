//! Errors and memory of one row in a pipeline, and the lookup of a tensor of the graph by name.

use crate::files::Detail;
use crate::signature::TensorSpec;

/// The reason why a row could not be prepared, or its outputs not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// A fault of the request.
    #[error("{0}")]
    Input(String),
    /// A fault of the model: its outputs contradict `model.toml`.
    #[error("{0}")]
    Output(String),
    /// The memory budget does not allow the row.
    #[error("not enough memory for the row")]
    Memory,
}

/// A function that is called with a number of bytes before they are allocated. It returns false if
/// the memory budget does not allow them.
pub type Budget<'a> = dyn FnMut(usize) -> bool + 'a;

/// Requests memory from a budget.
pub(super) fn charge(budget: &mut Budget<'_>, bytes: u64) -> Result<(), BadRow> {
    let bytes = usize::try_from(bytes).map_err(|_| BadRow::Memory)?;
    if budget(bytes) { Ok(()) } else { Err(BadRow::Memory) }
}

/// The input or output of the graph for a table: the one it names, or the only one.
pub(super) fn port<'a>(
    specs: &'a [TensorSpec],
    named: Option<&str>,
    field: &str,
) -> Result<&'a TensorSpec, Detail> {
    let names = || specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
    match (named, specs) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("{field}: give one of {}", names()).into()),
        (Some(named), specs) => specs.iter().find(|spec| spec.name == named).ok_or_else(|| {
            Detail::from(format!("{field}: the graph has no '{named}', but {}", names()))
        }),
    }
}
