//! Facts about the input of a pipeline that the steps after the graph need.

/// Where a prepared image lies in the one that was sent: `prepared = sent * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub(super) scale: (f32, f32),
    pub(super) offset: (f32, f32),
    /// Width and height of the image that was sent, and of the one that was prepared.
    pub(super) sent: (f32, f32),
    pub(super) prepared: (f32, f32),
}

/// What the outputs of a graph cannot be read without: facts of what was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SentFacts {
    /// An image, in which places are found.
    Image(Frame),
    /// A file without any byte.
    Empty,
}

impl Frame {
    /// A place in the image that was sent, kept inside.
    pub(super) fn place_of(&self, (x, y): (f32, f32)) -> (f32, f32) {
        (
            ((x - self.offset.0) / self.scale.0).clamp(0.0, self.sent.0),
            ((y - self.offset.1) / self.scale.1).clamp(0.0, self.sent.1),
        )
    }
}
