//! Boxes of detectors, after non-maximum suppression.

use super::classes::{Activation, label};
use super::frame::Frame;
use super::row::BadRow;
use super::row_tensors;
use crate::files::Detail;
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, Tensors};

/// Most candidates that are compared with each other; those with the highest scores are compared.
const CANDIDATES_MAX: usize = 3000;

/// `[postprocess.boxes]`: the detected objects, best first, as corners in pixels of the sent image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Boxes {
    /// One output with a row per candidate: its box, then its scores.
    #[serde(default)]
    pub(super) output: Option<String>,
    /// Or two outputs, `[candidates, 4]` and `[candidates, classes]`.
    #[serde(default)]
    pub(super) boxes: Option<String>,
    #[serde(default)]
    pub(super) scores: Option<String>,
    /// The outputs have a column per candidate instead of a row.
    #[serde(default)]
    transposed: bool,
    /// A score for any object is in front of those of the classes.
    #[serde(default)]
    objectness: bool,
    #[serde(default)]
    format: Format,
    /// Coordinates range from 0 to 1 instead of being in pixels of the graph's input.
    #[serde(default)]
    normalised: bool,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "quarter")]
    threshold: f32,
    /// Of two boxes of one class with a higher overlap (intersection over union), the better one is
    /// kept.
    #[serde(default = "half")]
    overlap: f32,
    #[serde(default = "hundred")]
    top: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Left, top, right, bottom.
    #[default]
    Xyxy,
    /// Left, top, width, height.
    Xywh,
    /// Centre, width, height.
    Cxcywh,
}

fn quarter() -> f32 {
    0.25
}

fn half() -> f32 {
    0.5
}

fn hundred() -> usize {
    100
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    class: usize,
    score: f32,
    /// Left, top, right, bottom.
    corners: [f32; 4],
}

/// A matrix of numbers that may be transposed.
struct Lines {
    values: Vec<f32>,
    lines: usize,
    columns: usize,
    transposed: bool,
}

impl Lines {
    fn read(outputs: &Tensors, name: &str, transposed: bool) -> Result<Lines, BadRow> {
        let (shape, values) = row_tensors::read(outputs, name)?;
        match (shape, transposed) {
            ([lines, columns], false) | ([columns, lines], true) => {
                Ok(Lines { values, lines: *lines, columns: *columns, transposed })
            }
            ([lines], false) => Ok(Lines { values, lines: *lines, columns: 1, transposed }),
            _ => Err(BadRow::Output(format!("output '{name}' has shape {shape:?}, not two axes"))),
        }
    }

    fn line(&self, at: usize) -> Vec<f32> {
        let place = |column: usize| match self.transposed {
            true => column * self.lines + at,
            false => at * self.columns + column,
        };
        (0..self.columns).filter_map(|column| self.values.get(place(column)).copied()).collect()
    }
}

impl Boxes {
    pub(super) fn check(&self) -> Result<(), Detail> {
        let pair = self.boxes.is_some() == self.scores.is_some();
        if !pair || (self.output.is_some() && self.boxes.is_some()) {
            return Err("give output, or both boxes and scores".into());
        }
        if self.top == 0 || !(0.0..=1.0).contains(&self.overlap) || self.threshold.is_nan() {
            return Err("top must be at least 1, overlap 0 to 1, threshold a number".into());
        }
        Ok(())
    }

    /// # Shapes
    /// - labels and scores: `[1, found]`; boxes: `[1, found, 4]`
    pub(super) fn read(
        &self,
        outputs: &Tensors,
        (first, second): (&str, Option<&str>),
        labels: &[String],
        frame: Frame,
    ) -> Result<Vec<Tensor>, BadRow> {
        let places = Lines::read(outputs, first, self.transposed)?;
        let scores = second.map(|name| Lines::read(outputs, name, self.transposed)).transpose()?;
        let skipped = if scores.is_some() { 4 } else { 5 + usize::from(self.objectness) };
        if places.columns < skipped || scores.as_ref().is_some_and(|s| s.lines != places.lines) {
            let detail = format!("output '{first}': boxes and scores do not fit together");
            return Err(BadRow::Output(detail));
        }
        let candidates = (0..places.lines).filter_map(|at| {
            let mut line = places.line(at);
            let rest = line.split_off(4);
            let scores = scores.as_ref().map_or(rest, |scores| scores.line(at));
            self.candidate(&line, scores)
        });
        let found = self.suppress(candidates.collect());
        let names: Vec<String> = found.iter().map(|found| label(labels, found.class)).collect();
        let scores = found.iter().map(|found| found.score);
        let corners = found.iter().flat_map(|found| self.sent(found.corners, frame));
        Ok(vec![
            row_tensors::words("label", &names)?,
            row_tensors::floats("score", Datatype::Fp32, &[found.len()], scores)?,
            row_tensors::floats("box", Datatype::Fp32, &[found.len(), 4], corners)?,
        ])
    }

    fn candidate(&self, place: &[f32], mut scores: Vec<f32>) -> Option<Candidate> {
        self.activation.apply(&mut scores);
        let sure = if self.objectness { scores.remove(0) } else { 1.0 };
        let best = scores.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (class, score) = best.map(|(class, score)| (class, score * sure))?;
        let [a, b, c, d] = place.try_into().ok()?;
        let corners = match self.format {
            Format::Xyxy => [a, b, c, d],
            Format::Xywh => [a, b, a + c, b + d],
            Format::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
        };
        let real = corners.iter().all(|corner| corner.is_finite());
        (real && score >= self.threshold).then_some(Candidate { class, score, corners })
    }

    /// Greedy non-maximum suppression.
    fn suppress(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(CANDIDATES_MAX);
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            let covers = |better: &Candidate| {
                better.class == candidate.class
                    && overlap(better.corners, candidate.corners) > self.overlap
            };
            if !kept.iter().any(covers) {
                kept.push(candidate);
            }
            if kept.len() == self.top {
                break;
            }
        }
        kept
    }

    /// The corners in pixels of the sent image.
    fn sent(&self, [left, top, right, bottom]: [f32; 4], frame: Frame) -> [f32; 4] {
        let (width, height) = match self.normalised {
            true => frame.prepared,
            false => (1.0, 1.0),
        };
        let (x0, y0) = frame.place_of((left * width, top * height));
        let (x1, y1) = frame.place_of((right * width, bottom * height));
        [x0, y0, x1, y1]
    }
}

/// Intersection over union.
fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area =
        |[left, top, right, bottom]: [f32; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let shared = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    let shared = area(shared);
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}
