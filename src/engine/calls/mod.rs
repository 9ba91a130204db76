//! Requests: admission, memory, payloads, answers and partial answers.

pub(crate) mod admissions;
pub(crate) mod answers;
pub(crate) mod handle;
pub(crate) mod held_memory;
pub(crate) mod messages;
pub(crate) mod next_slices;
pub(crate) mod operations;
pub(crate) mod partial;
pub(crate) mod pipeline;
pub(crate) mod rejections;
pub(crate) mod requests;
pub(crate) mod shadows;
pub(crate) mod submitted;
pub(crate) mod time_slices;
