//! Channels for answers: one complete answer, or partial answers through a bounded channel.

use crate::calls::messages::{InferAnswer, shutting_down};
use schedule::RequestId;
use tokio::sync::{mpsc, oneshot};
use types::error::Error;
use types::tensor::Tensors;
use wire::TimeSlice;

/// Maximum number of partial answers of a request in one time slice.
const SLICE_ANSWERS_MAX: usize = 64;
/// Capacity of the channel: the partial answers of two slices, so that one is read while the next
/// one runs, and the end.
const WAITING_MAX: usize = 2 * SLICE_ANSWERS_MAX + 1;

/// One of the partial answers to a request.
#[derive(Debug)]
pub struct PartialAnswer {
    /// All outputs of the model, with one row each.
    pub outputs: Tensors,
    /// Id of the adapter that ran it.
    pub adapter: String,
}

/// A message in the channel of a request.
#[derive(Debug)]
enum PartialMessage {
    Answer(PartialAnswer),
    End,
    Error(Error),
}

/// The channel for the answer to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Whole(oneshot::Sender<Result<InferAnswer, Error>>),
    Parts(PartialAnswerSender),
}

impl Reply {
    /// Ends the request with an error.
    pub(crate) fn fail(self, error: Error) {
        match self {
            Reply::Whole(answer) => _ = answer.send(Err(error)),
            Reply::Parts(parts) => parts.send(PartialMessage::Error(error)),
        }
    }
}

/// The sending half of answers in parts.
#[derive(Debug)]
pub(crate) struct PartialAnswerSender {
    sender: mpsc::Sender<PartialMessage>,
    sent: u64,
    has_ended: bool,
}

impl PartialAnswerSender {
    /// Creates the channel of a request.
    pub(crate) fn channel(cancel: CancelOnDrop) -> (PartialAnswerSender, PartialAnswers) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let answers = PartialAnswers { receiver, cancel };
        (PartialAnswerSender { sender, sent: 0, has_ended: false }, answers)
    }

    /// The next time slice: as many partial answers as have space, with one place kept for the end.
    pub(crate) fn slice(&self) -> TimeSlice {
        let places = self.sender.capacity().saturating_sub(1).min(SLICE_ANSWERS_MAX);
        TimeSlice { sent: self.sent, answers_max: places as u64 }
    }

    /// True if there is space for all partial answers of a slice.
    pub(crate) fn has_places(&self) -> bool {
        self.sender.capacity() > SLICE_ANSWERS_MAX
    }

    /// A future that ends when there is space for a whole slice, or when the reader was dropped.
    pub(crate) fn wait_for_places(&self) -> impl Future<Output = ()> + Send + use<> {
        let sender = self.sender.clone();
        // The permits are dropped at once: only the driver sends, so that the places stay free.
        async move { _ = sender.reserve_many(SLICE_ANSWERS_MAX + 1).await }
    }

    /// Passes a partial answer on; `last` if the request needs no further slice.
    pub(crate) fn take(&mut self, answer: PartialAnswer, last: bool) {
        if !answer.outputs.0.is_empty() {
            self.sent += 1;
            self.send(PartialMessage::Answer(answer));
        }
        self.has_ended |= last;
    }

    /// True once the last partial answer has been sent.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Sends the end of the answers.
    pub(crate) fn end(self) {
        self.send(PartialMessage::End);
    }

    fn send(&self, item: PartialMessage) {
        // A closed channel is not an error: its reader was dropped. It is never full, since the
        // limits of a slice leave space for all messages.
        let sent = self.sender.try_send(item);
        debug_assert!(
            !matches!(sent, Err(mpsc::error::TrySendError::Full(_))),
            "the channel is full"
        );
    }
}

/// The partial answers to a request, in order. Dropping it cancels the request.
#[derive(Debug)]
pub struct PartialAnswers {
    receiver: mpsc::Receiver<PartialMessage>,
    cancel: CancelOnDrop,
}

impl PartialAnswers {
    /// The next partial answer; `None` after the last one and after an error.
    ///
    /// # Errors
    /// Those of [`crate::EngineHandle::infer`], also after some partial answers.
    pub async fn next(&mut self) -> Option<Result<PartialAnswer, Error>> {
        // No message follows the end.
        self.cancel.cancels.as_ref()?;
        match self.receiver.recv().await {
            Some(PartialMessage::Answer(answer)) => return Some(Ok(answer)),
            Some(PartialMessage::End) => self.cancel.cancels = None,
            Some(PartialMessage::Error(error)) => {
                self.cancel.cancels = None;
                return Some(Err(error));
            }
            None => {
                self.cancel.cancels = None;
                return Some(Err(shutting_down()));
            }
        }
        None
    }
}

/// Cancels the request when dropped before its answer.
#[derive(Debug)]
pub(crate) struct CancelOnDrop {
    pub(crate) id: RequestId,
    /// `None` once the request is answered.
    pub(crate) cancels: Option<mpsc::Sender<RequestId>>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancels) = &self.cancels {
            // If the channel is full the request runs to its end and its answer is dropped.
            let _ = cancels.try_send(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::tensor::{Datatype, Tensor};

    fn channel() -> (PartialAnswerSender, PartialAnswers, mpsc::Receiver<RequestId>) {
        let (cancels, cancelled) = mpsc::channel(1);
        let cancel = CancelOnDrop { id: RequestId(7), cancels: Some(cancels) };
        let (parts, answers) = PartialAnswerSender::channel(cancel);
        (parts, answers, cancelled)
    }

    fn answer() -> PartialAnswer {
        let one = Tensor::new("y", Datatype::Uint8, vec![1], vec![1].into()).unwrap();
        PartialAnswer { outputs: Tensors(vec![one]), adapter: "cpu".to_owned() }
    }

    #[tokio::test]
    async fn unread_answers_fill_two_slices_and_leave_space_for_the_end() {
        let (mut parts, mut answers, _cancelled) = channel();
        let mut slices = Vec::new();
        while parts.slice().answers_max > 0 {
            let slice = parts.slice();
            slices.push(slice.answers_max);
            (0..slice.answers_max).for_each(|_| parts.take(answer(), false));
        }
        assert_eq!(slices, [64, 64]);
        assert!(!parts.has_places());
        parts.end();
        for _ in 0..128 {
            assert!(matches!(answers.next().await, Some(Ok(_))));
        }
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn space_is_freed_as_answers_are_read() {
        let (mut parts, mut answers, _cancelled) = channel();
        (0..128).for_each(|_| parts.take(answer(), false));
        let waiting = tokio::spawn(parts.wait_for_places());
        for _ in 0..63 {
            answers.next().await;
        }
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        answers.next().await;
        waiting.await.unwrap();
        assert_eq!(parts.slice(), TimeSlice { sent: 128, answers_max: 64 });
    }

    #[tokio::test]
    async fn loss_of_the_driver_is_reported_once() {
        let (parts, mut answers, mut cancelled) = channel();
        drop(parts);
        assert!(matches!(answers.next().await, Some(Err(_))));
        assert!(answers.next().await.is_none());
        drop(answers);
        assert!(cancelled.recv().await.is_none());
    }

    #[tokio::test]
    async fn dropped_reader_cancels_the_request() {
        let (mut parts, answers, mut cancelled) = channel();
        drop(answers);
        assert_eq!(cancelled.recv().await, Some(RequestId(7)));
        parts.take(answer(), true);
        assert!(parts.has_ended());
        parts.end();
    }
}
