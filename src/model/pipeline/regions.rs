//! Regions of text from a map of probabilities: differentiable binarization, Liao et al., AAAI
//! 2020, in the form of PP-OCR's detectors.

use super::frame::Frame;
use super::row::BadRow;
use super::row_tensors;
use crate::files::Detail;
use ::image::{GrayImage, Luma};
use imageproc::contours::{BorderType, find_contours};
use imageproc::geometry::min_area_rect;
use imageproc::point::Point;
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, Tensors};

/// Regions smaller than this, in pixels of the map, are noise.
const SIDE_MIN: f32 = 3.0;
/// Most contours that are examined.
const CONTOURS_MAX: usize = 3000;

/// `[postprocess.regions]`: rotated rectangles, as four corners in pixels of the sent image, from
/// the top left clockwise, in reading order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Regions {
    #[serde(default)]
    pub(super) output: Option<String>,
    /// The value of the map from which a place counts as text.
    #[serde(default = "three_tenths")]
    threshold: f32,
    /// The least mean of the map in a region.
    #[serde(default = "three_fifths")]
    score: f32,
    /// Regions are shrunk in the map; they are grown by this times their area over their perimeter.
    #[serde(default = "three_halves")]
    unclip: f32,
    #[serde(default = "thousand")]
    top: usize,
}

fn three_tenths() -> f32 {
    0.3
}

fn three_fifths() -> f32 {
    0.6
}

fn three_halves() -> f32 {
    1.5
}

fn thousand() -> usize {
    1000
}

/// A map of numbers.
struct Map {
    values: Vec<f32>,
    width: usize,
    height: usize,
}

/// A rotated rectangle: its corner, and the two edges from it.
#[derive(Clone, Copy, Debug)]
struct Rect {
    corner: (f32, f32),
    along: (f32, f32),
    down: (f32, f32),
}

/// Four corners, clockwise.
type Quad = [(f32, f32); 4];

/// A region with its score.
type Region = (Quad, f32);

impl Regions {
    pub(super) fn check(&self) -> Result<(), Detail> {
        let numbers = [self.threshold, self.score, self.unclip];
        if self.top == 0 || !numbers.iter().all(|number| number.is_finite() && *number >= 0.0) {
            return Err(
                "top must be at least 1; threshold, score and unclip must not be negative".into()
            );
        }
        Ok(())
    }

    /// # Shapes
    /// - the graph's output: `[1, 1, height, width]`
    /// - polygons: `[1, regions, 4, 2]`; scores: `[1, regions]`
    pub(super) fn read(
        &self,
        outputs: &Tensors,
        name: &str,
        frame: Frame,
    ) -> Result<Vec<Tensor>, BadRow> {
        let (shape, values) = row_tensors::read(outputs, name)?;
        let (height, width) = match shape {
            [1, height, width] | [height, width] => (*height, *width),
            _ => {
                let detail = format!("output '{name}' has shape {shape:?}, which is not a map");
                return Err(BadRow::Output(detail));
            }
        };
        let map = Map { values, width, height };
        let mut found = self.find(&map);
        for (quad, _) in &mut found {
            *quad = quad.map(|corner| frame.place_of(corner));
        }
        let found = reading_order(found);
        let corners = found.iter().flat_map(|(quad, _)| quad.iter().flat_map(|(x, y)| [*x, *y]));
        let shape = [found.len(), 4, 2];
        let scores = found.iter().map(|(_, score)| *score);
        Ok(vec![
            row_tensors::floats("polygon", Datatype::Fp32, &shape, corners)?,
            row_tensors::floats("score", Datatype::Fp32, &[found.len()], scores)?,
        ])
    }

    fn find(&self, map: &Map) -> Vec<Region> {
        let contours = find_contours::<i32>(&map.mask(self.threshold));
        let outer = contours.iter().filter(|contour| contour.border_type == BorderType::Outer);
        let found = outer.take(CONTOURS_MAX).filter_map(|contour| {
            let rect = Rect::around(&contour.points);
            if rect.short() < SIDE_MIN {
                return None;
            }
            let score = map.mean(&rect.corners());
            let rect = rect.grown(self.unclip);
            let fine = score >= self.score && rect.short() >= SIDE_MIN + 2.0;
            fine.then(|| (upright(rect.corners()), score))
        });
        found.take(self.top).collect()
    }
}

impl Map {
    fn mask(&self, threshold: f32) -> GrayImage {
        let (width, height) = (self.width as u32, self.height as u32);
        GrayImage::from_fn(width, height, |x, y| {
            let above = self.at(x as usize, y as usize) > threshold;
            Luma([if above { 255 } else { 0 }])
        })
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        self.values.get(y * self.width + x).copied().unwrap_or(0.0)
    }

    /// The mean of the map inside a rectangle, edges included.
    fn mean(&self, quad: &Quad) -> f32 {
        let ((left, top), (right, bottom)) = extent(quad);
        let range = |from: f32, to: f32, edge: usize| {
            let last = edge.saturating_sub(1);
            (from.floor().max(0.0) as usize).min(last)..=(to.ceil().max(0.0) as usize).min(last)
        };
        let (mut sum, mut count) = (0.0f32, 0.0f32);
        for y in range(top, bottom, self.height) {
            for x in range(left, right, self.width) {
                if inside(quad, (x as f32, y as f32)) {
                    sum += self.at(x, y);
                    count += 1.0;
                }
            }
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }
}

impl Rect {
    /// The smallest rectangle around some points.
    fn around(points: &[Point<i32>]) -> Rect {
        if points.is_empty() {
            return Rect { corner: (0.0, 0.0), along: (0.0, 0.0), down: (0.0, 0.0) };
        }
        let [a, b, _, d] = min_area_rect(points).map(|p| (p.x as f32, p.y as f32));
        Rect { corner: a, along: (b.0 - a.0, b.1 - a.1), down: (d.0 - a.0, d.1 - a.1) }
    }

    fn short(&self) -> f32 {
        length(self.along).min(length(self.down))
    }

    /// The rectangle grown by the amount that its text was shrunk by.
    fn grown(&self, unclip: f32) -> Rect {
        let (wide, high) = (length(self.along), length(self.down));
        let by = wide * high * unclip / (2.0 * (wide + high)).max(f32::MIN_POSITIVE);
        let unit = |(x, y): (f32, f32), long: f32| (x / long * by, y / long * by);
        let (a, d) = (unit(self.along, wide), unit(self.down, high));
        let more = |(x, y): (f32, f32), by: (f32, f32)| (x + 2.0 * by.0, y + 2.0 * by.1);
        let corner = (self.corner.0 - a.0 - d.0, self.corner.1 - a.1 - d.1);
        Rect { corner, along: more(self.along, a), down: more(self.down, d) }
    }

    fn corners(&self) -> Quad {
        let ((x, y), (ax, ay), (dx, dy)) = (self.corner, self.along, self.down);
        [(x, y), (x + ax, y + ay), (x + ax + dx, y + ay + dy), (x + dx, y + dy)]
    }
}

fn length((x, y): (f32, f32)) -> f32 {
    x.hypot(y)
}

/// The top left and the bottom right corner of the bounding box.
fn extent(quad: &Quad) -> ((f32, f32), (f32, f32)) {
    let low = |of: fn(&(f32, f32)) -> f32| quad.iter().map(of).fold(f32::INFINITY, f32::min);
    let high = |of: fn(&(f32, f32)) -> f32| quad.iter().map(of).fold(f32::NEG_INFINITY, f32::max);
    ((low(|p| p.0), low(|p| p.1)), (high(|p| p.0), high(|p| p.1)))
}

/// Returns true if a point is in a convex polygon; its corners may have either orientation.
fn inside(quad: &Quad, (x, y): (f32, f32)) -> bool {
    let next = quad.iter().cycle().skip(1);
    let side = quad
        .iter()
        .zip(next)
        .map(|((ax, ay), (bx, by))| (bx - ax) * (y - ay) - (by - ay) * (x - ax));
    let sides: Vec<f32> = side.collect();
    sides.iter().all(|side| *side >= 0.0) || sides.iter().all(|side| *side <= 0.0)
}

/// The corners from the top left clockwise: the two left ones, then the two right ones, in the
/// order of PP-OCR.
fn upright(mut quad: Quad) -> Quad {
    quad.sort_by(|a, b| a.0.total_cmp(&b.0));
    let [a, b, c, d] = quad;
    let (left_top, left_bottom) = if a.1 <= b.1 { (a, b) } else { (b, a) };
    let (right_top, right_bottom) = if c.1 <= d.1 { (c, d) } else { (d, c) };
    [left_top, right_top, right_bottom, left_bottom]
}

/// Sorts lines from top to bottom, each from left to right: regions are in one line if the distance
/// of their middles is less than half of the smaller height.
fn reading_order(mut found: Vec<Region>) -> Vec<Region> {
    let middle = |quad: &Quad| {
        let ((left, top), (_, bottom)) = extent(quad);
        ((top + bottom) / 2.0, bottom - top, left)
    };
    found.sort_by(|(a, _), (b, _)| middle(a).0.total_cmp(&middle(b).0));
    let mut lines: Vec<(f32, f32, Vec<Region>)> = Vec::new();
    for region in found {
        let (y, height, _) = middle(&region.0);
        match lines.last_mut() {
            Some(line) if (y - line.0).abs() <= 0.5 * height.min(line.1) => line.2.push(region),
            _ => lines.push((y, height, vec![region])),
        }
    }
    for (_, _, line) in &mut lines {
        line.sort_by(|(a, _), (b, _)| middle(a).2.total_cmp(&middle(b).2));
    }
    lines.into_iter().flat_map(|(_, _, line)| line).collect()
}
