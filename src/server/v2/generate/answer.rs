//! The answer to a generate request: one JSON value for each output, by its name.

use crate::http::growing::Growing;
use bytes::Bytes;
use engine::{Account, Full};
use model::info::ModelInfo;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::sync::Arc;
use types::error::Error;
use types::json::{Flat, JsonData, document};
use types::tensor::{Tensor, Tensors};

/// The common parts of all answers to a request.
pub(super) struct AnswerHead {
    pub(super) model: Arc<ModelInfo>,
    pub(super) id: Option<String>,
}

/// A document with the outputs as values of this kind.
struct Document<'a, V> {
    shape: &'a AnswerHead,
    outputs: &'a Tensors,
    value: fn(&'a Tensor) -> V,
}

impl<V: Serialize> Serialize for Document<'_, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Document { shape: AnswerHead { model, id }, outputs, value } = self;
        let mut map = to.serialize_map(None)?;
        if let Some(id) = id {
            map.serialize_entry("id", id)?;
        }
        map.serialize_entry("model_name", &model.name)?;
        map.serialize_entry("model_version", &model.version)?;
        for output in &outputs.0 {
            map.serialize_entry(&output.name, &value(output))?;
        }
        map.end()
    }
}

impl AnswerHead {
    /// Renders outputs of one element as values, others as flat lists.
    ///
    /// # Errors
    /// 422 if JSON cannot represent an output, 503 if memory for the text is lacking.
    pub(super) fn render(&self, outputs: &Tensors, account: &Account) -> Result<Bytes, Error> {
        self.write(outputs, Flat, account)
    }

    /// Renders all outputs as flat lists.
    ///
    /// # Errors
    /// Those of [`AnswerHead::render`].
    pub(super) fn render_lists(
        &self,
        outputs: &Tensors,
        account: &Account,
    ) -> Result<Bytes, Error> {
        self.write(outputs, JsonData, account)
    }

    fn write<'a, V: Serialize>(
        &'a self,
        outputs: &'a Tensors,
        value: fn(&'a Tensor) -> V,
        account: &Account,
    ) -> Result<Bytes, Error> {
        let mut text = Growing::new(account.answer());
        let written = document::write(&mut text, &Document { shape: self, outputs, value });
        written.map_err(|error| match text.full() {
            Some(full) => full.of_answer(),
            None => Error::unprocessable(error.to_string()),
        })?;
        Ok(text.finish())
    }
}

/// The outputs of partial answers, joined in order.
pub(super) struct Joined {
    outputs: Vec<(Tensor, Growing)>,
}

impl Joined {
    pub(super) fn new(model: &ModelInfo, account: &Account) -> Joined {
        let empty = |spec: &model::signature::TensorSpec| {
            let (name, datatype) = (spec.name.clone(), spec.datatype());
            let tensor = Tensor { name, datatype, shape: vec![0], data: Bytes::new() };
            (tensor, Growing::new(account.answer()))
        };
        Joined { outputs: model.interface().outputs.iter().map(empty).collect() }
    }

    /// Adds a partial answer.
    ///
    /// # Errors
    /// 503 if memory for it is lacking.
    pub(super) fn push(&mut self, outputs: &Tensors) -> Result<(), Error> {
        for (tensor, data) in &mut self.outputs {
            let output = outputs.get(&tensor.name);
            let output = output.map_err(|error| Error::internal(error.to_string()))?;
            data.push(&output.data).map_err(Full::of_answer)?;
        }
        Ok(())
    }

    /// Returns the outputs as flat lists.
    pub(super) fn finish(self) -> Tensors {
        let whole = |(tensor, data): (Tensor, Growing)| Tensor { data: data.finish(), ..tensor };
        self.outputs.into_iter().map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::answer::tests::model;
    use engine::Memory;
    use model::signature::{Signature, TensorSpec};
    use types::tensor::Datatype;

    fn shape(id: Option<&str>) -> AnswerHead {
        let spec = TensorSpec::new("number", vec![Datatype::Int64], vec![1]);
        let signature = Signature { outputs: vec![spec], ..Signature::default() };
        let (name, version) = ("m".to_owned(), "3".to_owned());
        let model = ModelInfo { name, version, signature, ..model() };
        AnswerHead { model: Arc::new(model), id: id.map(str::to_owned) }
    }

    fn outputs(numbers: &[i64]) -> Tensors {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let shape = vec![1, numbers.len()];
        Tensors(vec![Tensor::new("number", Datatype::Int64, shape, data.into()).unwrap()])
    }

    #[test]
    fn one_element_is_a_value_and_more_are_a_list() {
        let account = Memory::new(1 << 20).of(1);
        let text = |id, numbers: &[i64]| shape(id).render(&outputs(numbers), &account).unwrap();
        let one = r#"{"id":"a","model_name":"m","model_version":"3","number":7}"#;
        assert_eq!(text(Some("a"), &[7]), one);
        assert_eq!(text(None, &[7, 8]), r#"{"model_name":"m","model_version":"3","number":[7,8]}"#);
        let list = shape(None).render_lists(&outputs(&[7]), &account).unwrap();
        assert_eq!(list, r#"{"model_name":"m","model_version":"3","number":[7]}"#);
    }

    #[test]
    fn partial_answers_are_joined_in_order() {
        let account = Memory::new(1 << 20).of(1);
        let shape = shape(None);
        let mut joined = Joined::new(&shape.model, &account);
        for number in [1, 2, 3] {
            joined.push(&outputs(&[number])).unwrap();
        }
        let text = shape.render_lists(&joined.finish(), &account).unwrap();
        assert_eq!(text, r#"{"model_name":"m","model_version":"3","number":[1,2,3]}"#);
    }

    #[test]
    fn joined_answer_has_the_bound_of_memory() {
        let account = Memory::new(1 << 12).of(1);
        let mut joined = Joined::new(&shape(None).model, &account);
        let pushed = (0..1000).try_for_each(|number| joined.push(&outputs(&[number])));
        assert_eq!(pushed.unwrap_err().kind.status(), 503);
    }
}
