//! Tensors on the host in the types that they have: a table of a hundred thousand rows is not
//! widened for a function that goes through it once.

use super::elem::{Elem, Kind};
use super::graph::Attribute;
use super::host::Host;
use super::op::{HostOp, HostRun, Op};
use super::ops::Call;
use super::plan::{Form, Held};
use super::raw::Raw;
use super::tensor::{Place, Tensor, at_least_1d, held, to_data};
use super::trace::{T, Tracer};
use burn::tensor::{DType, TensorData};
use std::borrow::Cow;
use std::ptr;
use std::sync::Arc;

/// A tensor on the host, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Cells {
    pub(crate) elem: Elem,
    pub(crate) shape: Vec<usize>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Data(TensorData),
    Text(Arc<Host>),
}

impl Cells {
    pub(crate) fn of_data(elem: Elem, shape: Vec<usize>, data: TensorData) -> Cells {
        Cells { elem, shape, content: Content::Data(data) }
    }

    /// # Errors
    /// If the elements do not fit the type.
    pub(crate) fn of_host(host: Arc<Host>) -> Result<Cells, String> {
        let (elem, shape) = (host.elem, host.shape.clone());
        let content = match elem.kind() {
            Kind::Text => Content::Text(host),
            _ => Content::Data(to_data(&host, &Place::host())?),
        };
        Ok(Cells { elem, shape, content })
    }

    /// 32-bit floats.
    pub(crate) fn singles(shape: Vec<usize>, values: Vec<f32>) -> Cells {
        let data = TensorData::new(values, at_least_1d(&shape));
        Cells::of_data(Elem::F32, shape, data)
    }

    /// 64-bit floats.
    pub(crate) fn doubles(shape: Vec<usize>, values: Vec<f64>) -> Cells {
        let data = TensorData::new(values, at_least_1d(&shape));
        Cells::of_data(Elem::F64, shape, data)
    }

    /// 64-bit integers.
    pub(crate) fn integers(shape: Vec<usize>, values: Vec<i64>) -> Cells {
        let data = TensorData::new(values, at_least_1d(&shape));
        Cells::of_data(Elem::I64, shape, data)
    }

    pub(crate) fn words(shape: Vec<usize>, values: Vec<String>) -> Cells {
        let host = Arc::new(Host::text(shape.clone(), values));
        Cells { elem: Elem::Text, shape, content: Content::Text(host) }
    }

    /// The elements as 32-bit floats.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn to_singles(&self) -> Result<Cow<'_, [f32]>, String> {
        self.numbers(DType::F32)
    }

    /// The elements as 64-bit floats.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn to_doubles(&self) -> Result<Cow<'_, [f64]>, String> {
        self.numbers(DType::F64)
    }

    /// The elements as 64-bit integers, floats rounded toward zero.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn to_integers(&self) -> Result<Cow<'_, [i64]>, String> {
        self.numbers(DType::I64)
    }

    fn numbers<E: burn::tensor::Element>(&self, dtype: DType) -> Result<Cow<'_, [E]>, String> {
        let Content::Data(data) = &self.content else {
            return Err("text holds no numbers".to_owned());
        };
        let failed = |error: burn::tensor::DataError| error.to_string();
        if data.dtype() == dtype {
            return Ok(Cow::Borrowed(data.as_slice::<E>().map_err(failed)?));
        }
        let data = data.clone().convert_dtype(dtype);
        Ok(Cow::Owned(data.as_slice::<E>().map_err(failed)?.to_vec()))
    }

    /// The words of a tensor of text; none of another.
    pub(crate) fn to_words(&self) -> &[String] {
        match &self.content {
            Content::Text(host) => host.to_text(),
            Content::Data(_) => &[],
        }
    }

    pub(crate) fn form(&self) -> Form {
        Form { elem: self.elem, shape: self.shape.clone() }
    }

    /// Puts the tensor where a place's tensors are.
    ///
    /// # Errors
    /// If the elements do not fit the type.
    pub(crate) fn hold(self, place: &Place) -> Result<Held, String> {
        let data = match self.content {
            Content::Text(host) => return Ok(Held::Text(host)),
            Content::Data(data) if data.dtype() == held(self.elem, place) => data,
            Content::Data(data) => to_data(&Host::from_data(self.elem, self.shape, data)?, place)?,
        };
        Ok(Held::Tensor(Tensor::upload(data, &place.device)))
    }

    fn into_host(self) -> Result<Host, String> {
        match self.content {
            Content::Text(host) => Ok(Arc::unwrap_or_clone(host)),
            Content::Data(data) => Host::from_data(self.elem, self.shape, data),
        }
    }
}

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
