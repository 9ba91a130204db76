//! Requests that will run another time slice.

use schedule::{Event, RequestId};
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Capacity of the channel from readers with space for another slice to the driver.
const RESUMES_MAX: usize = 1024;

/// Requests that will run another time slice.
pub(crate) struct NextSlices {
    /// Arrivals of slices that follow from actions of the current turn.
    pub(crate) due: VecDeque<Event>,
    /// Sender for readers that have space for another slice.
    pub(crate) resumes: mpsc::Sender<RequestId>,
}

impl NextSlices {
    /// Returns the queue, and the receiver of requests to resume.
    pub(crate) fn new() -> (NextSlices, mpsc::Receiver<RequestId>) {
        let (resumes, resumed) = mpsc::channel(RESUMES_MAX);
        (NextSlices { due: VecDeque::new(), resumes }, resumed)
    }
}
