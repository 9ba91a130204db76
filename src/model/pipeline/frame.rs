//! Facts about the input of a pipeline that the steps after the graph need.

/// The position of a prepared image in the sent one: `prepared = sent * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub(super) scale: (f32, f32),
    pub(super) offset: (f32, f32),
    /// Width and height of the sent image, and of the prepared one.
    pub(super) sent: (f32, f32),
    pub(super) prepared: (f32, f32),
}

/// Facts about the sent data that are needed to read the outputs of a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SentFacts {
    /// An image, for results that are places in it.
    Image(Frame),
    /// An empty file.
    Empty,
}

impl Frame {
    /// A place in the sent image, clamped to its edges.
    pub(super) fn place_of(&self, (x, y): (f32, f32)) -> (f32, f32) {
        (
            ((x - self.offset.0) / self.scale.0).clamp(0.0, self.sent.0),
            ((y - self.offset.1) / self.scale.1).clamp(0.0, self.sent.1),
        )
    }
}
