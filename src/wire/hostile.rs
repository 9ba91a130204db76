//! What the other end of a link may send: for fuzzing (`fuzz/`), and for the test that replays what
//! fuzzing found.

use super::frame::{Assembler, FrameLengths, PREFIX, WireError};
use super::message::{Carries, FromWorker, ToWorker, tensors_from};
use serde::de::DeserializeOwned;

/// Reads a stream of frames as a worker does, and as the server does.
///
/// # Errors
/// What both refuse.
pub fn frames(data: &[u8]) -> Result<(), WireError> {
    let (down, up) = (receive::<ToWorker>(data), receive::<FromWorker>(data));
    down.or(up)
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
