//! Entry point for hostile input from the other end of a link: for fuzzing (`fuzz/`), and for the
//! test that replays the corpus.

use super::frame::{Assembler, FrameLengths, PREFIX, WireError};
use super::message::{Carries, FromWorker, ToWorker, tensors_from};
use serde::de::DeserializeOwned;

/// Parses a stream of frames as a worker and as the server.
///
/// # Errors
/// If both reject it.
pub fn frames(data: &[u8]) -> Result<(), WireError> {
    let (to_worker, from_worker) = (receive::<ToWorker>(data), receive::<FromWorker>(data));
    to_worker.or(from_worker)
}

fn receive<M: Carries + DeserializeOwned>(mut data: &[u8]) -> Result<(), WireError> {
    let mut assembler = Assembler::<M>::new();
    while let Some((prefix, rest)) = data.split_first_chunk::<PREFIX>() {
        let prefix = FrameLengths::parse(prefix)?;
        let frame = rest.split_at_checked(prefix.header + prefix.payload);
        let (frame, rest) = frame.ok_or(WireError::Closed)?;
        let (header, payload) = frame.split_at(prefix.header);
        if let Some(whole) = assembler.push(header, payload)? {
            let tensors = tensors_from(whole.message.tensors().to_vec(), whole.body);
            tensors.map_err(|_| WireError::Malformed("tensors that contradict themselves"))?;
        }
        data = rest;
    }
    Ok(())
}
