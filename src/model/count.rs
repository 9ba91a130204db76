//! The kind `count`: answers a request with consecutive numbers, one in each partial answer. It
//! needs no device; it serves tests of answers in parts, and as an example of a decoupled model.

use crate::signature::{Signature, TensorSpec};
use crate::{Generate, Generated, Model, ModelError};
use std::collections::BTreeMap;
use types::tensor::{Datatype, Tensor, Tensors};

/// The name of the kind in `model.toml`.
pub const KIND: &str = "count";
/// The input with the number of partial answers.
const COUNT: &str = "count";
/// The optional input with the first number; 0 without it.
const START: &str = "start";
/// The output: one number in each partial answer.
const NUMBER: &str = "number";

/// The inputs `count` and `start` and the output `number`, one INT64 each.
pub(crate) fn signature() -> Signature {
    let number = |name: &str| TensorSpec::new(name, vec![Datatype::Int64], vec![1]);
    let start = TensorSpec { optional: true, ..number(START) };
    let (inputs, outputs) = (vec![number(COUNT), start], vec![number(NUMBER)]);
    Signature { inputs, outputs, ..Signature::default() }
}

/// The numbers of a sequence that are not sent yet.
#[derive(Debug)]
struct RemainingNumbers {
    next: i64,
    count: u64,
}

/// Counts from `start`, `count` numbers in all.
#[derive(Debug)]
pub struct Count {
    signature: Signature,
    sequences: BTreeMap<u64, RemainingNumbers>,
}

impl Default for Count {
    fn default() -> Count {
        Count { signature: signature(), sequences: BTreeMap::new() }
    }
}

impl Model for Count {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, _inputs: &Tensors, _rows: usize) -> Result<Tensors, ModelError> {
        Err(ModelError::Broken("the model answers in parts".to_owned()))
    }

    fn generator(&mut self) -> Option<&mut dyn Generate> {
        Some(self)
    }
}

impl Generate for Count {
    fn begin(&mut self, key: u64, inputs: &Tensors, sent: u64) -> Result<(), ModelError> {
        let count = number(inputs, COUNT)?.unwrap_or(0);
        let start = number(inputs, START)?.unwrap_or(0);
        let invalid = |what: String| ModelError::Input(what);
        let count = u64::try_from(count)
            .map_err(|_| invalid(format!("input '{COUNT}' is {count}; give 0 or more")))?;
        start.checked_add_unsigned(count).ok_or_else(|| {
            invalid(format!("{count} numbers from {start} exceed the largest INT64"))
        })?;
        let sent = sent.min(count);
        let next = start.saturating_add_unsigned(sent);
        self.sequences.insert(key, RemainingNumbers { next, count: count - sent });
        Ok(())
    }

    fn step(&mut self) -> Result<Vec<Generated>, ModelError> {
        let steps = self.sequences.iter_mut().map(|(key, rest)| rest.step(*key));
        let steps: Vec<Generated> = steps.collect::<Result<_, _>>()?;
        self.sequences.retain(|_, rest| rest.count > 0);
        Ok(steps)
    }

    fn end(&mut self, key: u64) {
        self.sequences.remove(&key);
    }
}

impl RemainingNumbers {
    fn step(&mut self, key: u64) -> Result<Generated, ModelError> {
        if self.count == 0 {
            return Ok(Generated { key, outputs: Tensors::default(), last: true });
        }
        let data = self.next.to_le_bytes().to_vec().into();
        self.count -= 1;
        self.next = self.next.saturating_add(1);
        let number = Tensor::new(NUMBER, Datatype::Int64, vec![1, 1], data);
        let number = number.map_err(|error| ModelError::Broken(error.to_string()))?;
        Ok(Generated { key, outputs: Tensors(vec![number]), last: self.count == 0 })
    }
}

/// The number in an input; `None` if the input is missing.
fn number(inputs: &Tensors, name: &str) -> Result<Option<i64>, ModelError> {
    let Ok(tensor) = inputs.get(name) else { return Ok(None) };
    let bytes = <[u8; 8]>::try_from(&tensor.data[..]);
    let bytes = bytes.map_err(|_| ModelError::Input(format!("input '{name}' is not one INT64")))?;
    Ok(Some(i64::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(count: i64, start: Option<i64>) -> Tensors {
        let tensor = |(name, value): (&str, i64)| {
            let data = value.to_le_bytes().to_vec().into();
            Tensor::new(name, Datatype::Int64, vec![1, 1], data).unwrap()
        };
        let start = start.map(|start| (START, start));
        [(COUNT, count)].into_iter().chain(start).map(tensor).collect()
    }

    fn numbers(model: &mut Count) -> Vec<(u64, Option<i64>, bool)> {
        let steps = model.step().unwrap();
        let one = |step: Generated| (step.key, number(&step.outputs, NUMBER).unwrap(), step.last);
        steps.into_iter().map(one).collect()
    }

    #[test]
    fn sequences_count_side_by_side() {
        let mut model = Count::default();
        model.begin(1, &inputs(2, None), 0).unwrap();
        model.begin(2, &inputs(3, Some(-1)), 0).unwrap();
        assert_eq!(numbers(&mut model), [(1, Some(0), false), (2, Some(-1), false)]);
        assert_eq!(numbers(&mut model), [(1, Some(1), true), (2, Some(0), false)]);
        assert_eq!(numbers(&mut model), [(2, Some(1), true)]);
        assert_eq!(numbers(&mut model), []);
    }

    #[test]
    fn sequence_continues_after_the_numbers_that_were_sent() {
        let mut model = Count::default();
        model.begin(1, &inputs(3, Some(7)), 2).unwrap();
        model.begin(2, &inputs(3, None), 1).unwrap();
        model.end(2);
        assert_eq!(numbers(&mut model), [(1, Some(9), true)]);
    }

    #[test]
    fn sequence_without_numbers_ends_with_its_first_step() {
        let mut model = Count::default();
        model.begin(1, &inputs(0, None), 0).unwrap();
        model.begin(2, &inputs(3, None), 9).unwrap();
        assert_eq!(numbers(&mut model), [(1, None, true), (2, None, true)]);
    }

    #[test]
    fn absurd_inputs_are_errors_of_the_request() {
        let mut model = Count::default();
        for (count, start) in [(-1, None), (i64::MIN, None), (2, Some(i64::MAX))] {
            let error = model.begin(1, &inputs(count, start), 0).unwrap_err();
            assert!(matches!(error, ModelError::Input(_)), "{error}");
        }
        model.begin(1, &inputs(1, Some(i64::MAX - 1)), 0).unwrap();
        assert_eq!(numbers(&mut model), [(1, Some(i64::MAX - 1), true)]);
    }
}
