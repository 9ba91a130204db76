//! The Open Inference Protocol V2, and the extensions of it that Triton defines.

pub(crate) mod absent;
pub(crate) mod answer;
pub(crate) mod binary;
pub(crate) mod classification;
pub(crate) mod extensions;
pub(crate) mod generate;
pub(crate) mod kserve;
pub(crate) mod openai;
pub(crate) mod request;
