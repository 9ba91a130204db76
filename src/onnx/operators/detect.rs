//! Selection of a detector's boxes.

use super::{Call, Outputs, Table, several};
use crate::host::HostTensor;
use crate::literals;
use crate::trace::Tracer;
use graph::elem::Elem;
use graph::error::OnnxError;

pub(super) const TABLE: Table = &[("NonMaxSuppression", suppress)];

/// The corners of a box.
#[derive(Clone, Copy, Debug)]
struct Corners {
    low: [f64; 2],
    high: [f64; 2],
}

impl Corners {
    /// Reads two corners in any order, or the middle and the size.
    fn read(numbers: &[f64], middle: bool) -> Option<Corners> {
        let [a, b, c, d] = numbers.try_into().ok()?;
        Some(if middle {
            let (low, high) = ([a - c / 2.0, b - d / 2.0], [a + c / 2.0, b + d / 2.0]);
            Corners { low, high }
        } else {
            Corners {
                low: [f64::min(a, c), f64::min(b, d)],
                high: [f64::max(a, c), f64::max(b, d)],
            }
        })
    }

    fn area(&self) -> f64 {
        // Boxes without a common part have negative widths here.
        self.high.iter().zip(&self.low).map(|(high, low)| (high - low).max(0.0)).product()
    }

    /// Intersection over union.
    fn overlap(&self, other: &Corners) -> f64 {
        let of = |a: &[f64; 2], b: &[f64; 2], pick: fn(f64, f64) -> f64| {
            [pick(a[0], b[0]), pick(a[1], b[1])]
        };
        let common = Corners {
            low: of(&self.low, &other.low, f64::max),
            high: of(&self.high, &other.high, f64::min),
        };
        let shared = common.area();
        let all = self.area() + other.area() - shared;
        if all > 0.0 { shared / all } else { 0.0 }
    }
}

/// The best boxes of each class without large overlaps (ONNX operator NonMaxSuppression).
fn suppress(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (boxes, scores) = (call.tensor(0)?, call.tensor(1)?);
    let ([batch, count, 4], [rows, classes, columns]) = (&boxes.shape[..], &scores.shape[..])
    else {
        return Err(OnnxError::input(format!(
            "boxes of shape {:?} and scores of shape {:?} do not fit",
            boxes.shape, scores.shape
        )));
    };
    if batch != rows || count != columns {
        return Err(OnnxError::input(format!(
            "boxes of shape {:?} and scores of shape {:?} do not fit",
            boxes.shape, scores.shape
        )));
    }
    let (classes, count) = (*classes, *count);
    let mut number = |at: usize| match call.optional(at)? {
        Some(given) => Ok::<_, OnnxError>(literals::floats(t, given)?.first().copied()),
        None => Ok(None),
    };
    // The default of ONNX is 0, which gives no boxes.
    let most = number(2)?.unwrap_or(0.0).max(0.0) as usize;
    let (limit, least) = (number(3)?.unwrap_or(0.0), number(4)?);
    let middle = call.int_or("center_point_box", 0)? != 0;
    let run = move |inputs: &[HostTensor]| {
        let [boxes, scores] = inputs else {
            return Err(OnnxError::internal("expected two inputs"));
        };
        let (boxes, scores) = (boxes.to_f64(), scores.to_f64());
        let mut kept = Vec::new();
        for (at, scores) in scores.chunks(count.max(1)).enumerate() {
            let (row, class) = (at / classes.max(1), at % classes.max(1));
            let corners = boxes.chunks(4).skip(row * count).take(count);
            let corners: Vec<_> =
                corners.filter_map(|numbers| Corners::read(numbers, middle)).collect();
            for chosen in best(&corners, scores, (most, limit, least)) {
                kept.extend([row as i64, class as i64, chosen as i64]);
            }
        }
        Ok(vec![HostTensor::ints(Elem::I64, vec![kept.len() / 3, 3], kept)])
    };
    // The number of boxes depends on the data, so that later steps cannot be planned before.
    several(t.host_now(&[boxes, scores], &run)?)
}

fn best(
    corners: &[Corners],
    scores: &[f64],
    (most, limit, least): (usize, f64, Option<f64>),
) -> Vec<usize> {
    let enough =
        |at: &usize| least.is_none_or(|least| scores.get(*at).is_some_and(|score| *score > least));
    let mut order: Vec<usize> = (0..corners.len()).filter(enough).collect();
    let score = |at: usize| scores.get(at).copied().unwrap_or(f64::NEG_INFINITY);
    // Of equal scores the first box has precedence.
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        if kept.len() >= most {
            break;
        }
        let far = |other: &usize| match (corners.get(at), corners.get(*other)) {
            (Some(one), Some(other)) => one.overlap(other) <= limit,
            _ => true,
        };
        if kept.iter().all(far) {
            kept.push(at);
        }
    }
    kept
}
