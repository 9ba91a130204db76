//! Text from the scores of characters along a line: greedy connectionist temporal classification.

use super::classes::Activation;
use super::row::BadRow;
use super::row_tensors;
use crate::files::{Detail, Files};
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, Tensors};

/// Largest file of characters, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// `[postprocess.text]` as written, before its values are checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCtc {
    #[serde(default)]
    pub(super) output: Option<String>,
    /// The name of a file of the version with one character in each line, in the order of the
    /// classes.
    characters: String,
    /// The class for no character; it is not in the file.
    #[serde(default)]
    blank: usize,
    /// The class after those of the file is a space.
    #[serde(default)]
    space: bool,
    #[serde(default)]
    activation: Activation,
}

/// `[postprocess.text]`: the text, and the mean score of its characters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ctc {
    /// The characters by class; the blank class has an empty one.
    characters: Vec<String>,
    blank: usize,
    activation: Activation,
}

impl WrittenCtc {
    pub(super) fn check(self, files: &Files) -> Result<Ctc, Detail> {
        let data = files.read_up_to(&self.characters, FILE_BYTES_MAX);
        let data = data.map_err(|error| Detail::from(error).within("characters"))?;
        let text = std::str::from_utf8(&data);
        let text = text
            .map_err(|_| Detail::from(format!("characters: {} is not UTF-8", self.characters)))?;
        // Not `lines`, which would remove a carriage return, and that may be a character.
        let mut characters: Vec<String> =
            text.strip_suffix('\n').unwrap_or(text).split('\n').map(str::to_owned).collect();
        if self.space {
            characters.push(" ".to_owned());
        }
        if self.blank > characters.len() {
            return Err(format!("blank: class {} does not exist", self.blank).into());
        }
        characters.insert(self.blank, String::new());
        Ok(Ctc { characters, blank: self.blank, activation: self.activation })
    }
}

impl Ctc {
    /// Greedy decoding: the best class at each place, without repetitions and blanks. Graves et
    /// al., "Connectionist Temporal Classification", ICML 2006, section 3.2, best path.
    ///
    /// # Shapes
    /// - the graph's output: `[1, places, classes]`
    /// - text and score: `[1, 1]`
    pub(super) fn read(&self, outputs: &Tensors, name: &str) -> Result<Vec<Tensor>, BadRow> {
        let (shape, mut scores) = row_tensors::read(outputs, name)?;
        let classes = self.characters.len();
        if shape.len() != 2 || shape.last() != Some(&classes) {
            return Err(BadRow::Output(format!(
                "output '{name}' has shape {shape:?}, but there are {classes} characters"
            )));
        }
        let (mut text, mut sum, mut count, mut last) = (String::new(), 0.0, 0.0f32, self.blank);
        for place in scores.chunks_exact_mut(classes) {
            self.activation.apply(place);
            let better = |a: &(usize, f32), b: &(usize, f32)| a.1.total_cmp(&b.1);
            let best = place.iter().copied().enumerate().max_by(better);
            let (class, score) = best.unwrap_or((self.blank, 0.0));
            if class != self.blank && class != last {
                text.push_str(self.characters.get(class).map_or("", String::as_str));
                sum += score;
                count += 1.0;
            }
            last = class;
        }
        let score = if count > 0.0 { sum / count } else { 0.0 };
        Ok(vec![
            row_tensors::words("text", &[text])?,
            row_tensors::floats("score", Datatype::Fp32, &[1], std::iter::once(score))?,
        ])
    }
}
