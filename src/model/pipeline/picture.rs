//! Decoder for images that clients send: PNG, JPEG, WebP, GIF, BMP and PNM files.
//!
//! The header of a file is read first. Its size is checked and its memory charged before it is
//! decoded, so that a short file cannot make the server allocate a large image or compute for long.

use super::row::{BadRow, Budget, charge};
use super::row_tensors;
use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use ::image::{Rgb, RgbImage};
use std::io::Cursor;
use std::sync::Arc;
use types::tensor::{Tensor, Tensors};

/// Longest edge of a sent or prepared image.
pub(super) const EDGE_MAX: u32 = 16_384;
/// Most pixels of a sent or prepared image.
pub(super) const PIXELS_MAX: u64 = 1 << 26;
/// Bounds of a sent image. Decoding this many bytes takes about a second.
const BOUNDS: PictureBounds =
    PictureBounds { edge: EDGE_MAX, pixels: PIXELS_MAX, bytes: 256 << 20 };
/// Memory for the chunks of a PNG file that are not pixels, in bytes: a compressed colour profile
/// may be a thousand times longer than its chunk. Longer ones are not read.
const PNG_CHUNKS_BYTES_MAX: u64 = 4 << 20;

/// A decoded image. Clones are cheap: they share the pixels.
#[derive(Clone, Debug)]
pub struct Picture(pub(super) Arc<RgbImage>);

/// Bounds of a decoded image.
#[derive(Clone, Copy, Debug)]
pub struct PictureBounds {
    /// Longest edge in pixels.
    pub edge: u32,
    pub pixels: u64,
    /// Most bytes of the pixels in the file's pixel format.
    pub bytes: u64,
}

impl Picture {
    /// Decodes a file, rotates it by its EXIF data, and puts it on white where it is transparent.
    ///
    /// # Errors
    /// If its format is unknown, or the image is invalid or too large.
    pub fn decode(file: &[u8], budget: &mut Budget<'_>) -> Result<Picture, BadRow> {
        Picture::decode_within(file, BOUNDS, budget)
    }

    /// Decodes a file within other bounds.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn decode_within(
        file: &[u8],
        bounds: PictureBounds,
        budget: &mut Budget<'_>,
    ) -> Result<Picture, BadRow> {
        decode(file, bounds, budget).map(|image| Picture(Arc::new(image)))
    }

    /// Decodes the file in a BYTES tensor of one element.
    ///
    /// # Errors
    /// Those of [`Picture::decode`], or if the tensor does not hold a file.
    pub fn of_file(tensor: &Tensor, budget: &mut Budget<'_>) -> Result<Picture, BadRow> {
        let all = Tensors(vec![tensor.clone()]);
        Picture::decode(&row_tensors::file(&all, &tensor.name)?, budget)
    }

    /// Memory of the pixels.
    pub fn bytes(&self) -> usize {
        self.0.as_raw().len()
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.0.dimensions()
    }
}

fn decode(file: &[u8], bounds: PictureBounds, budget: &mut Budget<'_>) -> Result<RgbImage, BadRow> {
    let bad =
        |error: &dyn std::fmt::Display| BadRow::Input(format!("failed to read the image: {error}"));
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format();
    let mut reader = reader.map_err(|error| bad(&error))?;
    let Some(format) = reader.format() else {
        let message = "the file is not a PNG, JPEG, WebP, GIF, BMP or PNM image";
        return Err(BadRow::Input(message.to_owned()));
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(bounds.edge);
    limits.max_image_height = Some(bounds.edge);
    let is_png = format == ImageFormat::Png;
    limits.max_alloc = Some(if is_png { PNG_CHUNKS_BYTES_MAX } else { bounds.bytes });
    reader.limits(limits);
    // Decoders of JPEG and WebP copy the file, or parts of it.
    charge(budget, if is_png { PNG_CHUNKS_BYTES_MAX } else { file.len() as u64 })?;
    let mut decoder = reader.into_decoder().map_err(|error| bad(&error))?;
    check_within(decoder.dimensions(), decoder.total_bytes(), bounds)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    charge(budget, decoding_bytes(format, &decoder, orientation))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| bad(&error))?;
    image.apply_orientation(orientation);
    Ok(if image.color().has_alpha() { on_white(image) } else { image.into_rgb8() })
}

/// The peak memory while an image is decoded, rotated and converted to RGB, in bytes.
fn decoding_bytes(
    format: ImageFormat,
    decoder: &impl ImageDecoder,
    orientation: Orientation,
) -> u64 {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let sent = decoder.total_bytes();
    let decoding = match format {
        // The coefficients of three components, of 16 bits each, or of four.
        ImageFormat::Jpeg => pixels * 8,
        // A frame of YUV or of ARGB, and a frame of an animation.
        ImageFormat::WebP | ImageFormat::Gif => pixels * 8,
        _ => 0,
    };
    let turning = if orientation == Orientation::NoTransforms { 0 } else { sent };
    let converting = match decoder.color_type() {
        ColorType::Rgb8 => 0,
        ColorType::Rgba8 | ColorType::L8 => pixels * 3,
        _ => pixels * 7,
    };
    sent + decoding.max(turning).max(converting)
}

pub(super) fn check_size(width: u32, height: u32) -> Result<(), BadRow> {
    check_within((width, height), 0, BOUNDS)
}

fn check_within(
    (width, height): (u32, u32),
    bytes: u64,
    bounds: PictureBounds,
) -> Result<(), BadRow> {
    let pixels = u64::from(width) * u64::from(height);
    let (edge_max, pixels_max, bytes_max) = (bounds.edge, bounds.pixels, bounds.bytes);
    if width == 0 || height == 0 || pixels > pixels_max || width.max(height) > edge_max {
        return Err(BadRow::Input(format!(
            "an image of {width} x {height} pixels is not possible; at most {pixels_max} pixels \
             and {edge_max} along an edge are"
        )));
    }
    if bytes > bytes_max {
        return Err(BadRow::Input(format!(
            "an image of {width} x {height} pixels in {bytes} bytes is not possible; at most \
             {bytes_max} bytes are; send 8 bits for each of three channels"
        )));
    }
    Ok(())
}

fn on_white(image: DynamicImage) -> RgbImage {
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0.map(u32::from);
        let blend = |c: u32| u8::try_from((c * a + 255 * (255 - a)) / 255).unwrap_or(255);
        Rgb([r, g, b].map(blend))
    })
}
