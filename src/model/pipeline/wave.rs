//! From a recording to samples: WAV files, or raw PCM.

use super::row::{BadRow, Budget, charge};
use super::row_tensors;
use crate::files::Detail;
use crate::signature::TensorSpec;
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use types::tensor::{Datatype, Tensor};

/// Most samples of a recording: more than an hour at 16 kHz.
const SAMPLES_MAX: usize = 1 << 26;
const RATE_MAX: u32 = 768_000;

/// `[preprocess.audio]`: mono samples from -1 to 1 at the model's rate. With `frame` they are cut
/// into frames of this many samples, each preceded by the `context` samples before it; the last
/// frame is filled up with zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wave {
    #[serde(default)]
    pub(super) input: Option<String>,
    /// Samples per second.
    rate: u32,
    #[serde(default)]
    frame: Option<usize>,
    #[serde(default)]
    context: usize,
}

impl Wave {
    pub(super) fn check(&self, spec: &TensorSpec) -> Result<(), Detail> {
        if !(1..=RATE_MAX).contains(&self.rate) {
            return Err(format!("rate: {} Hz is not between 1 and {RATE_MAX}", self.rate).into());
        }
        let fits = |dim: i64, length: usize| dim < 0 || dim == length as i64;
        let fitting = match (self.frame, spec.shape.as_slice()) {
            (None, [dim]) => *dim < 0 && self.context == 0,
            (Some(frame), [frames, dim]) if (1..=SAMPLES_MAX).contains(&frame) => {
                self.context <= SAMPLES_MAX && *frames < 0 && fits(*dim, frame + self.context)
            }
            _ => false,
        };
        if fitting {
            return Ok(());
        }
        Err(format!(
            "'{}' has shape {:?}, not [-1], or with frame = N and context = M [-1, N + M]",
            spec.name, spec.shape
        )
        .into())
    }

    /// # Shapes
    /// - output: `[1, samples]` or `[1, frames, context + frame]`
    pub(super) fn prepare(
        &self,
        file: &[u8],
        spec: &TensorSpec,
        budget: &mut Budget<'_>,
    ) -> Result<Tensor, BadRow> {
        let samples = self.samples(file, budget)?;
        if samples.is_empty() {
            return Err(BadRow::Input("the recording holds no samples".to_owned()));
        }
        let Some(frame) = self.frame else {
            let shape = [samples.len()];
            charge(budget, row_tensors::bytes(spec.datatype(), &shape))?;
            return row_tensors::floats(&spec.name, spec.datatype(), &shape, samples.into_iter());
        };
        let frames = samples.len().div_ceil(frame);
        let size = frame + self.context;
        let all = frames.checked_mul(size).filter(|all| *all <= SAMPLES_MAX);
        all.ok_or_else(|| BadRow::Input("the recording is too long".to_owned()))?;
        charge(budget, row_tensors::bytes(spec.datatype(), &[frames, size]))?;
        let at = |frame_at: usize, place: usize| {
            let sample = (frame_at * frame + place).checked_sub(self.context);
            sample.and_then(|sample| samples.get(sample)).copied().unwrap_or(0.0)
        };
        let values = (0..frames).flat_map(|f| (0..size).map(move |place| (f, place)));
        let values = values.map(|(f, place)| at(f, place));
        row_tensors::floats(&spec.name, spec.datatype(), &[frames, size], values)
    }

    /// Raw PCM is assumed to be 16-bit little-endian mono at the model's rate.
    fn samples(&self, file: &[u8], budget: &mut Budget<'_>) -> Result<Vec<f32>, BadRow> {
        if file.starts_with(b"RIFF") {
            return self.wav(file, budget);
        }
        let (samples, rest) = file.as_chunks::<2>();
        if !rest.is_empty() || samples.len() > SAMPLES_MAX {
            let message = "the recording is neither a WAV file nor 16-bit PCM";
            return Err(BadRow::Input(message.to_owned()));
        }
        charge(budget, row_tensors::bytes(Datatype::Fp32, &[samples.len()]))?;
        Ok(samples.iter().map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32768.0).collect())
    }

    fn wav(&self, file: &[u8], budget: &mut Budget<'_>) -> Result<Vec<f32>, BadRow> {
        let reader = hound::WavReader::new(Cursor::new(file)).map_err(unreadable)?;
        let spec = reader.spec();
        if spec.sample_rate != self.rate {
            return Err(BadRow::Input(format!(
                "the recording has {} samples a second, but the model takes {}; resample it \
                 first, as with ffmpeg -ar {}",
                spec.sample_rate, self.rate, self.rate
            )));
        }
        // The header may declare more samples than the file holds.
        let count = usize::try_from(reader.len()).unwrap_or(usize::MAX);
        if count > SAMPLES_MAX || count > file.len() {
            return Err(BadRow::Input("the recording is too long".to_owned()));
        }
        let channels = usize::from(spec.channels.max(1));
        charge(budget, row_tensors::bytes(Datatype::Fp32, &[count + count / channels]))?;
        let samples = samples_of(reader, count)?;
        #[allow(clippy::cast_precision_loss, reason = "few channels")]
        let mono = |all: &[f32]| all.iter().sum::<f32>() / channels as f32;
        Ok(samples.chunks_exact(channels).map(mono).collect())
    }
}

/// The samples of all channels, at most `count`, from -1 to 1.
fn samples_of(
    mut reader: hound::WavReader<Cursor<&[u8]>>,
    count: usize,
) -> Result<Vec<f32>, BadRow> {
    let spec = reader.spec();
    #[allow(clippy::cast_precision_loss, reason = "a power of two of at most 2^31")]
    let full = (1u32 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
    let mut samples = Vec::with_capacity(count);
    match spec.sample_format {
        hound::SampleFormat::Float => {
            for sample in reader.samples::<f32>().take(count) {
                samples.push(sample.map_err(unreadable)?);
            }
        }
        hound::SampleFormat::Int => {
            for sample in reader.samples::<i32>().take(count) {
                #[allow(clippy::cast_precision_loss, reason = "samples have 24 good bits")]
                samples.push(sample.map_err(unreadable)? as f32 / full);
            }
        }
    }
    Ok(samples)
}

fn unreadable(error: hound::Error) -> BadRow {
    BadRow::Input(format!("failed to read the recording as a WAV file: {error}"))
}
