//! The steps around a graph: from files to its inputs, from its outputs to answers, and from one
//! model to the next. They run in the serving process and do not depend on devices.
//!
//! All steps work on one row at a time: an image, a file, a recording.

mod after;
mod before;
mod boxes;
mod classes;
mod ctc;
pub mod ensemble;
mod frame;
mod image;
mod picture;
mod regions;
mod row;
mod row_tensors;
mod spec;
#[cfg(test)]
mod tests;
mod wave;
mod window;

pub use after::WrittenPostprocess;
pub use before::WrittenPreprocess;
pub(crate) use ensemble::WrittenStep;
pub use ensemble::{Ensemble, EnsembleStep};
pub use frame::{Frame, SentFacts};
pub use picture::Picture;
pub use picture::PictureBounds;
pub use row::{BadRow, Budget};
pub use spec::WrittenPipeline;
pub use spec::{Around, Pipeline};
