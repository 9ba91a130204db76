//! Tensors on the host in their own types: a matrix of a hundred thousand rows is not widened for a
//! function that reads it once.

use super::host::HostTensor;
use super::runtime_value::{Form, RuntimeValue};
use super::tensor::{DeviceTensor, TensorPlace, at_least_1d, held, to_data};
use burn::tensor::{DType, TensorData};
use graph::elem::{Elem, Kind};
use graph::error::{OnnxError, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// A tensor on the host in its own type, row-major.
#[derive(Clone, Debug)]
pub(crate) struct NativeTensor {
    pub(crate) elem: Elem,
    pub(crate) shape: Vec<usize>,
    content: NativeContent,
}

#[derive(Clone, Debug)]
enum NativeContent {
    Data(TensorData),
    Text(Arc<HostTensor>),
}

impl NativeTensor {
    pub(crate) fn of_data(elem: Elem, shape: Vec<usize>, data: TensorData) -> NativeTensor {
        NativeTensor { elem, shape, content: NativeContent::Data(data) }
    }

    /// # Errors
    /// If the elements do not fit the type.
    pub(crate) fn of_host(host: Arc<HostTensor>) -> Result<NativeTensor> {
        let (elem, shape) = (host.elem, host.shape.clone());
        let content = match elem.kind() {
            Kind::Text => NativeContent::Text(host),
            _ => NativeContent::Data(to_data(&host, &TensorPlace::host())?),
        };
        Ok(NativeTensor { elem, shape, content })
    }

    /// A tensor of 32-bit floats.
    pub(crate) fn singles(shape: Vec<usize>, values: Vec<f32>) -> NativeTensor {
        let data = TensorData::new(values, at_least_1d(&shape));
        NativeTensor::of_data(Elem::F32, shape, data)
    }

    /// A tensor of 64-bit floats.
    pub(crate) fn doubles(shape: Vec<usize>, values: Vec<f64>) -> NativeTensor {
        let data = TensorData::new(values, at_least_1d(&shape));
        NativeTensor::of_data(Elem::F64, shape, data)
    }

    /// A tensor of 64-bit integers.
    pub(crate) fn integers(shape: Vec<usize>, values: Vec<i64>) -> NativeTensor {
        let data = TensorData::new(values, at_least_1d(&shape));
        NativeTensor::of_data(Elem::I64, shape, data)
    }

    pub(crate) fn words(shape: Vec<usize>, values: Vec<String>) -> NativeTensor {
        let host = Arc::new(HostTensor::text(shape.clone(), values));
        NativeTensor { elem: Elem::Text, shape, content: NativeContent::Text(host) }
    }

    /// The elements as 32-bit floats.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn to_singles(&self) -> Result<Cow<'_, [f32]>> {
        self.numbers(DType::F32)
    }

    /// The elements as 64-bit floats.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn to_doubles(&self) -> Result<Cow<'_, [f64]>> {
        self.numbers(DType::F64)
    }

    /// The elements as 64-bit integers, floats rounded toward zero.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn to_integers(&self) -> Result<Cow<'_, [i64]>> {
        self.numbers(DType::I64)
    }

    fn numbers<E: burn::tensor::Element>(&self, dtype: DType) -> Result<Cow<'_, [E]>> {
        let NativeContent::Data(data) = &self.content else {
            return Err(OnnxError::unsupported("text cannot be read as numbers"));
        };
        let failed = |error: burn::tensor::DataError| OnnxError::internal(error.to_string());
        if data.dtype() == dtype {
            return Ok(Cow::Borrowed(data.as_slice::<E>().map_err(failed)?));
        }
        let data = data.clone().convert_dtype(dtype);
        Ok(Cow::Owned(data.as_slice::<E>().map_err(failed)?.to_vec()))
    }

    /// The elements of a tensor of text; empty for other tensors.
    pub(crate) fn to_words(&self) -> &[String] {
        match &self.content {
            NativeContent::Text(host) => host.to_text(),
            NativeContent::Data(_) => &[],
        }
    }

    pub(crate) fn form(&self) -> Form {
        Form { elem: self.elem, shape: self.shape.clone() }
    }

    /// Moves the tensor to a place.
    ///
    /// # Errors
    /// If the elements do not fit the type.
    pub(crate) fn hold(self, place: &TensorPlace) -> Result<RuntimeValue> {
        let data = match self.content {
            NativeContent::Text(host) => return Ok(RuntimeValue::Text(host)),
            NativeContent::Data(data) if data.dtype() == held(self.elem, place) => data,
            NativeContent::Data(data) => {
                to_data(&HostTensor::from_data(self.elem, self.shape, data)?, place)?
            }
        };
        Ok(RuntimeValue::Tensor(DeviceTensor::upload(data, &place.device)))
    }

    pub(super) fn into_host(self) -> Result<HostTensor> {
        match self.content {
            NativeContent::Text(host) => Ok(Arc::unwrap_or_clone(host)),
            NativeContent::Data(data) => HostTensor::from_data(self.elem, self.shape, data),
        }
    }
}
