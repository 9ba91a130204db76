//! Requests that are about to have another time slice.

use schedule::{Event, RequestId};
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Reports of readers that have read enough, between their tasks and the driver.
const RESUMES_MAX: usize = 1024;

/// Requests that are about to have another time slice.
pub(crate) struct NextSlices {
    /// Their arrivals, which follow from actions of the present turn.
    pub(crate) due: VecDeque<Event>,
    /// From readers that have read enough.
    pub(crate) resumes: mpsc::Sender<RequestId>,
}

impl NextSlices {
    /// The second half receives the requests whose readers have read enough.
    pub(crate) fn new() -> (NextSlices, mpsc::Receiver<RequestId>) {
        let (resumes, resumed) = mpsc::channel(RESUMES_MAX);
        (NextSlices { due: VecDeque::new(), resumes }, resumed)
    }
}
