//! Functions of the host that take tensors in the types that they have.

use super::cells::Cells;
use super::elem::Elem;
use super::graph::Attribute;
use super::host::Host;
use super::op::{HostOp, HostRun, Op};
use super::ops::Call;
use super::raw::Raw;
use super::trace::{T, Tracer};
use std::ptr;
use std::sync::Arc;

impl Tracer<'_> {
    /// A function of the host that takes tensors in the types that they have, and whose results
    /// have known shapes.
    ///
    /// # Errors
    /// If a result is too large, or the function fails on constants.
    pub(crate) fn native_op(
        &mut self,
        name: &'static str,
        inputs: &[&T],
        outputs: &[(Elem, Vec<usize>)],
        run: impl Fn(&[Cells]) -> Result<Vec<Cells>, String> + Send + Sync + 'static,
    ) -> Result<Vec<T>, String> {
        for (elem, shape) in outputs {
            self.fits(*elem, shape)?;
        }
        if inputs.iter().all(|input| input.is_constant()) {
            let looked = inputs.iter().map(|t| Cells::of_host(Arc::new(self.look(t)?)));
            let looked = looked.collect::<Result<Vec<_>, String>>()?;
            let results = run(&looked)?.into_iter();
            return results.map(|cells| self.constant(cells.into_host()?)).collect();
        }
        let op = Op::Host(HostOp { name, run: HostRun::Native(Arc::new(run)) });
        self.push_host(op, inputs, outputs)
    }

    /// The value that an operator makes of its node's attributes: made once for all plans, as the
    /// number of rows makes a plan of its own and a forest may have a million nodes.
    ///
    /// # Errors
    /// If making it fails.
    pub(crate) fn kept<K: Send + Sync + 'static>(
        &mut self,
        call: &Call<'_>,
        make: impl FnOnce() -> Result<K, String>,
    ) -> Result<Arc<K>, String> {
        if depends_on_use(call) {
            return make().map(Arc::new);
        }
        let place = ptr::from_ref(call.node).addr();
        let known = self.constants.kept.get(&place).cloned();
        if let Some(known) = known.and_then(|known| known.downcast::<K>().ok()) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        self.constants.kept.insert(place, made.clone());
        Ok(made)
    }

    /// Weights inside of a value that is [`Tracer::kept`].
    ///
    /// # Errors
    /// If they are too large.
    pub(crate) fn kept_weights(&mut self, call: &Call<'_>, raw: &Arc<Raw>) -> Result<T, String> {
        if depends_on_use(call) {
            return self.constant(Host::from_raw(raw));
        }
        self.of_file(raw)
    }
}

/// Whether attributes of the function around the node, which differ from one use of it to the
/// next, are among its own.
fn depends_on_use(call: &Call<'_>) -> bool {
    call.node.attributes.values().any(|own| matches!(own, Attribute::Ref(_)))
}
