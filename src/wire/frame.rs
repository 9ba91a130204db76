//! One frame: prefix, header, payload; and the bounds on each.

use super::message::Carries;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Maximum payload of one frame in bytes; a control message may have to wait for this much.
pub const PIECE_MAX: usize = 256 * 1024;
/// Maximum size of a header in bytes. Shapes and error texts are small; this bounds invalid
/// lengths.
const HEADER_MAX: usize = 256 * 1024;
/// Maximum size in bytes of all tensors of one message; the engine's own bound is much smaller.
pub const BODY_MAX: u64 = 4 << 30;
/// Memory that is reserved for a declared length; beyond it, memory grows with the bytes received.
const RESERVE_MAX: usize = 16 << 20;
const MAGIC: [u8; 4] = *b"CNC1";
/// Magic, header length, payload length.
pub(super) const PREFIX: usize = 12;

/// An error of a link.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the other side closed the link")]
    Closed,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("not a frame of this protocol: {0}")]
    Malformed(&'static str),
    #[error("failed to parse a frame's header: {0}")]
    Header(#[from] postcard::Error),
}

/// A frame's header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Header<M> {
    Message(M),
    /// More bytes of the last message that declared tensors.
    Piece,
}

/// Lengths of a frame's parts, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLengths {
    pub(super) header: usize,
    pub(super) payload: usize,
}

impl FrameLengths {
    pub(super) fn parse(bytes: &[u8; PREFIX]) -> Result<FrameLengths, WireError> {
        let [m0, m1, m2, m3, h0, h1, h2, h3, p0, p1, p2, p3] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WireError::Malformed("wrong magic"));
        }
        let header = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
        let payload = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        if header > HEADER_MAX {
            return Err(WireError::Malformed("header too long"));
        }
        if payload > PIECE_MAX {
            return Err(WireError::Malformed("payload too long"));
        }
        Ok(FrameLengths { header, payload })
    }
}

/// Writes a frame into `out`, after clearing it.
pub(super) fn encode<M: Serialize>(
    out: &mut Vec<u8>,
    header: &Header<M>,
    payload: &[Bytes],
) -> Result<(), WireError> {
    out.clear();
    out.extend_from_slice(&[0; PREFIX]);
    let mut bytes = postcard::to_extend(header, std::mem::take(out))?;
    let header = bytes.len() - PREFIX;
    if header > HEADER_MAX {
        return Err(WireError::Malformed("header too long"));
    }
    for part in payload {
        bytes.extend_from_slice(part);
    }
    let payload = bytes.len() - PREFIX - header;
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&(header as u32).to_le_bytes());
    bytes[8..12].copy_from_slice(&(payload as u32).to_le_bytes());
    *out = bytes;
    Ok(())
}

/// Cuts a message's body into payloads of at most [`PIECE_MAX`] bytes, sharing the bytes.
pub(super) struct Pieces {
    parts: std::collections::VecDeque<Bytes>,
}

impl Pieces {
    pub(super) fn new(parts: Vec<Bytes>) -> Pieces {
        Pieces { parts: parts.into_iter().filter(|part| !part.is_empty()).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The next payload; empty at the end.
    pub(super) fn next(&mut self) -> Vec<Bytes> {
        let mut space = PIECE_MAX;
        let mut piece = Vec::new();
        while let Some(mut part) = self.parts.pop_front() {
            let now = part.split_to(part.len().min(space));
            space -= now.len();
            piece.push(now);
            if !part.is_empty() {
                self.parts.push_front(part);
            }
            if space == 0 {
                break;
            }
        }
        piece
    }
}

/// A message with all bytes that it declared.
#[derive(Debug)]
pub struct CompleteMessage<M> {
    pub message: M,
    pub body: Bytes,
}

/// Assembles frames into complete messages.
pub(super) struct Assembler<M> {
    partial: Option<(M, Vec<u8>, usize)>,
}

impl<M: Carries + DeserializeOwned> Assembler<M> {
    pub(super) fn new() -> Assembler<M> {
        Assembler { partial: None }
    }

    /// Adds one frame; returns the message if it is complete.
    pub(super) fn push(
        &mut self,
        header: &[u8],
        payload: &[u8],
    ) -> Result<Option<CompleteMessage<M>>, WireError> {
        match postcard::from_bytes::<Header<M>>(header)? {
            Header::Message(message) => self.begin(message, payload),
            Header::Piece => self.go_on(payload),
        }
    }

    fn begin(
        &mut self,
        message: M,
        payload: &[u8],
    ) -> Result<Option<CompleteMessage<M>>, WireError> {
        let total = message.body_bytes();
        if total > BODY_MAX {
            return Err(WireError::Malformed("tensors too large"));
        }
        let total = usize::try_from(total).map_err(|_| WireError::Malformed("too large"))?;
        if payload.len() > total {
            return Err(WireError::Malformed("more payload than declared"));
        }
        if payload.len() == total {
            return Ok(Some(CompleteMessage { message, body: Bytes::copy_from_slice(payload) }));
        }
        if self.partial.is_some() {
            return Err(WireError::Malformed("two bodies at once"));
        }
        let mut body = Vec::with_capacity(total.min(RESERVE_MAX));
        body.extend_from_slice(payload);
        self.partial = Some((message, body, total));
        Ok(None)
    }

    fn go_on(&mut self, payload: &[u8]) -> Result<Option<CompleteMessage<M>>, WireError> {
        let stray = WireError::Malformed("a piece without a message");
        let (message, mut body, total) = self.partial.take().ok_or(stray)?;
        if payload.len() > total - body.len() {
            return Err(WireError::Malformed("more payload than declared"));
        }
        body.extend_from_slice(payload);
        if body.len() == total {
            return Ok(Some(CompleteMessage { message, body: body.into() }));
        }
        self.partial = Some((message, body, total));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{TensorHeader, ToWorker};
    use super::*;
    use proptest::prelude::*;
    use types::tensor::Datatype;

    fn run(bytes: u64) -> ToWorker {
        let header =
            TensorHeader { name: "x".into(), datatype: Datatype::Uint8, shape: vec![bytes], bytes };
        let (slices, tensors) = (Vec::new(), vec![header]);
        ToWorker::Run { batch: 7, model: 1, rows: bytes, slices, tensors }
    }

    /// Every frame of a message, as the bytes on the wire.
    fn frames(message: ToWorker, body: Vec<Bytes>) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(body);
        let mut frames = Vec::new();
        let mut header = Header::Message(message);
        loop {
            let mut out = Vec::new();
            encode(&mut out, &header, &pieces.next()).unwrap();
            frames.push(out);
            if pieces.is_empty() {
                return frames;
            }
            header = Header::Piece;
        }
    }

    fn feed(
        assembler: &mut Assembler<ToWorker>,
        frame: &[u8],
    ) -> Result<Option<CompleteMessage<ToWorker>>, WireError> {
        let prefix = FrameLengths::parse(frame[..PREFIX].try_into().unwrap())?;
        let (header, payload) = frame[PREFIX..].split_at(prefix.header);
        assert_eq!(payload.len(), prefix.payload);
        assembler.push(header, payload)
    }

    #[test]
    fn large_bodies_travel_in_pieces_with_control_messages_between() {
        let body: Vec<u8> = (0..PIECE_MAX * 2 + 5).map(|n| n as u8).collect();
        let parts = vec![Bytes::from(body[..7].to_vec()), Bytes::from(body[7..].to_vec())];
        let frames = frames(run(body.len() as u64), parts);
        assert_eq!(frames.len(), 3);
        let mut ping = Vec::new();
        encode(&mut ping, &Header::Message(ToWorker::Ping { number: 3 }), &[]).unwrap();
        let mut assembler = Assembler::new();
        assert!(feed(&mut assembler, &frames[0]).unwrap().is_none());
        let pinged = feed(&mut assembler, &ping).unwrap().unwrap();
        assert_eq!(pinged.message, ToWorker::Ping { number: 3 });
        assert!(feed(&mut assembler, &frames[1]).unwrap().is_none());
        let whole = feed(&mut assembler, &frames[2]).unwrap().unwrap();
        assert_eq!(&whole.body[..], &body[..]);
    }

    #[test]
    fn contradictory_frames_are_rejected() {
        let mut assembler = Assembler::new();
        let small = frames(run(4), vec![Bytes::from_static(&[1, 2, 3, 4, 5])]);
        assert!(feed(&mut assembler, &small[0]).is_err(), "more than declared");
        let huge = frames(run(u64::MAX), vec![]);
        assert!(feed(&mut assembler, &huge[0]).is_err(), "absurd length");
        let mut piece = Vec::new();
        encode(&mut piece, &Header::<ToWorker>::Piece, &[Bytes::from_static(&[1])]).unwrap();
        assert!(feed(&mut assembler, &piece).is_err(), "stray piece");
        let mut wrong = small[0].clone();
        wrong[0] = b'X';
        assert!(feed(&mut assembler, &wrong).is_err(), "wrong magic");
        assert!(assembler.push(&[0xff; 20], &[]).is_err(), "garbage header");
        let prefix = [*b"CNC1", u32::MAX.to_le_bytes(), [0; 4]].concat();
        assert!(FrameLengths::parse(prefix[..].try_into().unwrap()).is_err(), "absurd header");
    }

    #[test]
    fn declared_length_does_not_allocate_memory() {
        let mut assembler = Assembler::new();
        let first = frames(run(BODY_MAX), vec![Bytes::from_static(&[1, 2, 3])]);
        assert!(feed(&mut assembler, &first[0]).unwrap().is_none());
        let (_, body, total) = assembler.partial.unwrap();
        assert_eq!((body.len(), total as u64), (3, BODY_MAX));
        assert!(body.capacity() <= RESERVE_MAX);
    }

    // For more cases: `PROPTEST_CASES=1000000 cargo test --release --lib frames_`.
    proptest! {
        #[test]
        fn corrupted_frames_are_errors_and_never_panic(
            length in 0..3 * PIECE_MAX as u64,
            spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            near in any::<bool>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let body = Bytes::from(vec![7; length as usize]);
            let mut bytes = frames(run(length), vec![body]).concat();
            // Most errors are found in the prefix and the header of the first frame.
            let reach = if near { bytes.len().min(64) } else { bytes.len() };
            for (spot, byte) in spots {
                let at = spot.index(reach);
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = super::super::hostile::frames(&bytes);
        }

        #[test]
        fn frames_of_random_bytes_are_errors_and_never_panic(
            header in prop::collection::vec(any::<u8>(), 0..200),
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Assembler::<ToWorker>::new().push(&header, &payload);
            let _ = Assembler::<super::super::message::FromWorker>::new().push(&header, &payload);
        }
    }
}
