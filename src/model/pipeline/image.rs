//! From a decoded image to the pixels for a graph.

use super::frame::Frame;
use super::picture::{EDGE_MAX, PIXELS_MAX, Picture, check_size};
use super::row::{BadRow, Budget, charge};
use super::row_tensors;
use crate::files::Detail;
use crate::signature::TensorSpec;
use ::image::imageops::{self, FilterType};
use ::image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor};

/// Bytes of a pixel between the two steps of resizing: four floats.
const RESIZED_PIXEL_BYTES: u64 = 16;
/// Greatest width of a line of text if `width_max` is not set.
const WIDTH_MAX: u32 = 4096;

/// `[preprocess.image]`: the conversion of an image to an input. A value is `(pixel * scale - mean)
/// / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSpec {
    #[serde(default)]
    pub(super) input: Option<String>,
    /// If both are set, an image is resized to this size by the rule `fit`. With `height` alone the
    /// width follows, and is filled up with `pad`.
    #[serde(default)]
    width: Option<u32>,
    #[serde(default)]
    height: Option<u32>,
    #[serde(default)]
    fit: Fit,
    #[serde(default)]
    width_min: Option<u32>,
    #[serde(default)]
    width_max: Option<u32>,
    /// Least and greatest length of the longer edge; the other edge follows.
    #[serde(default)]
    longest: Option<[u32; 2]>,
    /// Edges that are not given become multiples of this.
    #[serde(default = "one")]
    multiple_of: u32,
    #[serde(default)]
    pad: u8,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    channels: Channels,
    #[serde(default)]
    layout: ChannelOrder,
    #[serde(default = "one_255th")]
    scale: f32,
    #[serde(default)]
    mean: Vec<f32>,
    #[serde(default)]
    std: Vec<f32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fit {
    /// Stretched, without regard to the aspect ratio.
    #[default]
    Stretch,
    /// The middle part of the image, which fills the whole size.
    Cover,
    /// The whole image in the middle, with `pad` around it.
    Contain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Filter {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channels {
    #[default]
    Rgb,
    Bgr,
    Grey,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChannelOrder {
    #[default]
    Chw,
    Hwc,
}

fn one() -> u32 {
    1
}

fn one_255th() -> f32 {
    1.0 / 255.0
}

impl ImageSpec {
    pub(super) fn check(&self, spec: &TensorSpec) -> Result<(), Detail> {
        let sizes = [self.width, self.height, self.width_min, self.width_max];
        let edges = sizes.into_iter().flatten().chain(self.longest.into_iter().flatten());
        if let Some(edge) = edges.chain([self.multiple_of]).find(|e| !(1..=EDGE_MAX).contains(e)) {
            return Err(
                format!("an edge of {edge} pixels is not possible; use 1 to {EDGE_MAX}").into()
            );
        }
        match (self.width, self.height, self.longest) {
            (Some(_), None, _) => return Err("width: needs height too".into()),
            (_, Some(_), Some(_)) => return Err("longest: cannot be combined with height".into()),
            (_, _, Some([min, max])) if min > max => {
                return Err(format!("longest: {min} is more than {max}").into());
            }
            (Some(width), Some(height), _) => {
                check_size(width, height).map_err(|error| Detail::from(error.to_string()))?;
            }
            _ => {}
        }
        let channels = self.channels.count();
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            let fine = values.is_empty() || values.len() == 1 || values.len() == channels;
            if !fine || !values.iter().all(|value| value.is_finite()) {
                return Err(format!(
                    "{field}: give one number, or one for each of {channels} channels"
                )
                .into());
            }
        }
        if self.std.contains(&0.0) || !self.scale.is_finite() {
            return Err("scale must be finite, and std not 0".into());
        }
        self.check_shape(spec, channels)
    }

    fn check_shape(&self, spec: &TensorSpec, channels: usize) -> Result<(), Detail> {
        let (name, shape) = (&spec.name, &spec.shape);
        if !matches!(spec.datatype(), Datatype::Fp32 | Datatype::Fp16 | Datatype::Uint8) {
            return Err(format!("'{name}' is of {}", spec.datatype()).into());
        }
        let [c, h, w] = match (self.layout, shape.as_slice()) {
            (ChannelOrder::Chw, [c, h, w]) => [*c, *h, *w],
            (ChannelOrder::Hwc, [h, w, c]) => [*c, *h, *w],
            _ => {
                return Err(
                    format!("'{name}' has shape {shape:?}, which is not that of an image").into()
                );
            }
        };
        let edge = |dim: i64, given: Option<u32>| match given {
            Some(edge) => dim < 0 || dim == i64::from(edge),
            None => dim < 0,
        };
        let width = self.width.filter(|_| self.height.is_some());
        if (c < 0 || c == channels as i64) && edge(h, self.height) && edge(w, width) {
            return Ok(());
        }
        Err(format!("'{name}' has shape {shape:?}, but width, height, channels or layout differ")
            .into())
    }

    /// # Shapes
    /// - output: `[1, channels, height, width]`, or in the order of `layout`
    pub(super) fn prepare(
        &self,
        picture: &Picture,
        spec: &TensorSpec,
        budget: &mut Budget<'_>,
    ) -> Result<(Tensor, Option<Frame>), BadRow> {
        let (image, frame) = self.resize(&picture.0, budget)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let channels = self.channels.count();
        charge(budget, row_tensors::bytes(spec.datatype(), &[channels, height, width]))?;
        let value = |channel: usize, pixel: &Rgb<u8>| {
            let of = |values: &[f32], none: f32| {
                values.get(channel).or(values.first()).copied().unwrap_or(none)
            };
            let pixel = self.channels.of(channel, pixel);
            (pixel * self.scale - of(&self.mean, 0.0)) / of(&self.std, 1.0)
        };
        let (name, datatype) = (spec.name.as_str(), spec.datatype());
        let tensor = match self.layout {
            ChannelOrder::Chw => {
                let planes = (0..channels)
                    .flat_map(|channel| image.pixels().map(move |pixel| (channel, pixel)));
                let values = planes.map(|(channel, pixel)| value(channel, pixel));
                row_tensors::floats(name, datatype, &[channels, height, width], values)
            }
            ChannelOrder::Hwc => {
                let all = image.pixels().flat_map(|pixel| (0..channels).map(move |c| (c, pixel)));
                let values = all.map(|(channel, pixel)| value(channel, pixel));
                row_tensors::floats(name, datatype, &[height, width, channels], values)
            }
        };
        Ok((tensor?, Some(frame)))
    }

    fn resize(
        &self,
        image: &RgbImage,
        budget: &mut Budget<'_>,
    ) -> Result<(RgbImage, Frame), BadRow> {
        let (width, height) = image.dimensions();
        check_size(width, height)?;
        let filter = self.filter.kernel();
        let mut resized = |w: u32, h: u32| {
            let (w, h) = (w.max(1), h.max(1));
            // Twice, for an image that is then placed on a background.
            let bytes = u64::from(width) * u64::from(h) * RESIZED_PIXEL_BYTES + rgb_bytes(w, h) * 2;
            charge(budget, bytes)?;
            Ok::<_, BadRow>(imageops::resize(image, w, h, filter))
        };
        let ratio = |to: u32, from: u32| to as f32 / from as f32;
        let frame = |image: &RgbImage, scale: (f32, f32), offset: (f32, f32)| Frame {
            scale,
            offset,
            sent: (width as f32, height as f32),
            prepared: (image.width() as f32, image.height() as f32),
        };
        let fill = |to: u32, from: u32, scale: f32| (to as f32 - from as f32 * scale) / 2.0;
        let (image, scale, offset) = match (self.width, self.height, self.fit) {
            (Some(w), Some(h), Fit::Stretch) => {
                (resized(w, h)?, (ratio(w, width), ratio(h, height)), (0.0, 0.0))
            }
            (Some(w), Some(h), fit) => {
                let (across, down) = (ratio(w, width), ratio(h, height));
                let scale = if fit == Fit::Cover { across.max(down) } else { across.min(down) };
                let (wide, high) = (rounded(width, scale), rounded(height, scale));
                // To cover 224 x 224, a line of 16 384 pixels would need gigabytes.
                if u64::from(wide) * u64::from(high) > PIXELS_MAX {
                    let sent = format!("an image of {width} x {height} pixels");
                    let message = format!("{sent} is too long to cover {w} x {h}");
                    return Err(BadRow::Input(message));
                }
                let image = resized(wide, high)?;
                let offset = (fill(w, width, scale), fill(h, height, scale));
                (self.placed(&image, (w, h), offset), (scale, scale), offset)
            }
            (None, Some(h), _) => {
                let scale = ratio(h, height);
                let most = self.width_max.unwrap_or(WIDTH_MAX);
                let wide = rounded(width, scale).clamp(1, most);
                let all = wide.max(self.width_min.unwrap_or(1)).next_multiple_of(self.multiple_of);
                let image = self.placed(&resized(wide, h)?, (all, h), (0.0, 0.0));
                (image, (ratio(wide, width), scale), (0.0, 0.0))
            }
            _ => {
                let (w, h) = self.follow(width, height);
                check_size(w, h)?;
                (resized(w, h)?, (ratio(w, width), ratio(h, height)), (0.0, 0.0))
            }
        };
        let frame = frame(&image, scale, offset);
        Ok((image, frame))
    }

    /// The size, if it is not given.
    fn follow(&self, width: u32, height: u32) -> (u32, u32) {
        let longest = width.max(height);
        let scale = match self.longest {
            Some([min, max]) => longest.clamp(min, max) as f32 / longest as f32,
            None => 1.0,
        };
        let edge = |edge: u32| {
            let multiples = (edge as f32 * scale / self.multiple_of as f32).round();
            (multiples as u32).max(1).saturating_mul(self.multiple_of)
        };
        (edge(width), edge(height))
    }

    /// The image on a background of `pad`, with its corner at `offset`, which may be outside.
    fn placed(&self, image: &RgbImage, size: (u32, u32), offset: (f32, f32)) -> RgbImage {
        let mut ground = RgbImage::from_pixel(size.0, size.1, Rgb([self.pad; 3]));
        let (x, y) = (offset.0.round() as i64, offset.1.round() as i64);
        imageops::replace(&mut ground, image, x, y);
        ground
    }
}

fn rgb_bytes(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height) * 3
}

fn rounded(edge: u32, scale: f32) -> u32 {
    (edge as f32 * scale).round().max(1.0) as u32
}

impl Filter {
    fn kernel(self) -> FilterType {
        match self {
            Filter::Nearest => FilterType::Nearest,
            Filter::Bilinear => FilterType::Triangle,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos => FilterType::Lanczos3,
        }
    }
}

impl Channels {
    fn count(self) -> usize {
        if self == Channels::Grey { 1 } else { 3 }
    }

    /// Grey with the weights of ITU-R BT.601.
    fn of(self, channel: usize, Rgb([r, g, b]): &Rgb<u8>) -> f32 {
        match (self, channel) {
            (Channels::Grey, _) => {
                0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b)
            }
            (Channels::Rgb, 0) | (Channels::Bgr, 2) => f32::from(*r),
            (Channels::Rgb, 2) | (Channels::Bgr, 0) => f32::from(*b),
            _ => f32::from(*g),
        }
    }
}
