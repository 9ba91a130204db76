//! Values that operators make from the attributes of their nodes, once for all plans of a model.

use super::host::HostTensor;
use super::operators::Call;
use super::trace::{PlanTensor, Tracer};
use graph::Attribute;
use graph::error::Result;
use graph::raw::FileTensor;
use std::ptr;
use std::sync::Arc;

/// Returns true if an attribute refers to one of the enclosing function, which differs between its
/// uses.
fn depends_on_use(call: &Call<'_>) -> bool {
    call.node.attributes.values().any(|own| matches!(own, Attribute::Ref(_)))
}

/// The value that an operator makes from its node's attributes. It is made once for all plans, as
/// each number of rows has its own plan and a forest may have a million nodes.
///
/// # Errors
/// If the value cannot be made.
pub(crate) fn value<K: Send + Sync + 'static>(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    make: impl FnOnce() -> Result<K>,
) -> Result<Arc<K>> {
    if depends_on_use(call) {
        return make().map(Arc::new);
    }
    // The graph of the file outlives these values, so that an address identifies a node.
    let place = ptr::from_ref(call.node).addr();
    let known = t.constants.attribute_values.get(&place).cloned();
    if let Some(known) = known.and_then(|known| known.downcast::<K>().ok()) {
        return Ok(known);
    }
    let made = Arc::new(make()?);
    t.constants.attribute_values.insert(place, made.clone());
    Ok(made)
}

/// Weights that are part of such a [`value`].
///
/// # Errors
/// If they are too large.
pub(crate) fn weights(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    raw: &Arc<FileTensor>,
) -> Result<PlanTensor> {
    if depends_on_use(call) {
        return t.constant(HostTensor::from_raw(raw));
    }
    t.of_file(raw)
}
