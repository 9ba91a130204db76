//! Time slices over a real link.

use super::cancelled::Cancelled;
use super::faults::Faults;
use super::slice::{Slice, warm_up};
use model::{Generate, Generated, Model, ModelError, Signature, count};
use std::time::Duration;
use testkit::Folder;
use tokio::runtime::Runtime;
use types::tensor::{Datatype, Tensor, Tensors};
use wire::client::connect;
use wire::server::{Listener, ServerReceiver};
use wire::{Endpoint, FromWorker, TimeSlice};

/// Partial answers as received by the server: row, number, and true for the last one.
type Received = Vec<(u64, Option<i64>, bool)>;

/// A counting model with deviations.
struct TestModel {
    count: count::Count,
    /// Time of a step.
    step: Duration,
    /// Number of running sequences.
    begun: usize,
    /// True if it answers for a sequence that does not exist.
    invents: bool,
}

impl TestModel {
    fn new() -> TestModel {
        let count = count::Count::default();
        TestModel { count, step: Duration::ZERO, begun: 0, invents: false }
    }
}

impl Model for TestModel {
    fn signature(&self) -> &Signature {
        self.count.signature()
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        self.count.forward(inputs, rows)
    }

    fn generator(&mut self) -> Option<&mut dyn Generate> {
        Some(self)
    }
}

impl Generate for TestModel {
    fn begin(&mut self, key: u64, inputs: &Tensors, sent: u64) -> Result<(), ModelError> {
        self.count.begin(key, inputs, sent)?;
        self.begun += 1;
        Ok(())
    }

    fn step(&mut self) -> Result<Vec<Generated>, ModelError> {
        std::thread::sleep(self.step);
        let mut steps = self.count.step()?;
        self.begun -= steps.iter().filter(|step| step.last).count();
        if self.invents {
            steps.iter_mut().for_each(|step| step.key += 100);
        }
        Ok(steps)
    }

    fn end(&mut self, key: u64) {
        self.count.end(key);
        self.begun -= 1;
    }
}

/// A link with its server's end.
struct Bench {
    _folder: Folder,
    runtime: Runtime,
    receiver: ServerReceiver,
    sender: wire::client::WorkerSender,
    cancelled: Cancelled,
}

impl Bench {
    fn new() -> Bench {
        let folder = Folder::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::Local(folder.path().join("socket"));
        let listener = runtime.block_on(async { Listener::open(&endpoint).unwrap() });
        let connecting = std::thread::spawn(move || connect(&endpoint).unwrap());
        let (receiver, _) = runtime.block_on(listener.accept(std::process::id())).unwrap();
        let (_, sender) = connecting.join().unwrap();
        Bench { _folder: folder, runtime, receiver, sender, cancelled: Cancelled::default() }
    }

    fn run(
        &self,
        model: &mut TestModel,
        inputs: &Tensors,
        rows: &[TimeSlice],
    ) -> Result<(), ModelError> {
        let mut faults = Faults::new(&[], ("cpu", 1), self.sender.clone());
        let (sender, cancelled) = (&self.sender, &self.cancelled);
        let mut slice = Slice { batch: 7, sender, cancelled, faults: &mut faults, slow: None };
        slice.run(model, 8, inputs, rows)
    }

    /// All partial answers sent so far.
    fn received(&mut self) -> Received {
        self.sender.send(FromWorker::Pong { number: 0 }).unwrap();
        let mut received = Vec::new();
        loop {
            let whole = self.runtime.block_on(self.receiver.receive()).unwrap();
            let FromWorker::Partial { batch: 7, row, last, .. } = whole.message else {
                return received;
            };
            let number = whole.body[..].try_into().ok().map(i64::from_le_bytes);
            received.push((row, number, last));
        }
    }
}

/// One row for each of these counts.
fn inputs(counts: &[i64]) -> Tensors {
    let data: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let shape = vec![counts.len(), 1];
    Tensors(vec![Tensor::new("count", Datatype::Int64, shape, data.into()).unwrap()])
}

fn slice(sent: u64, answers_max: u64) -> TimeSlice {
    TimeSlice { sent, answers_max }
}

#[test]
fn rows_answer_in_parallel_until_their_end_or_limit() {
    let (mut bench, mut model) = (Bench::new(), TestModel::new());
    let rows = [slice(0, 9), slice(0, 2), slice(1, 9), slice(0, 0), slice(0, 9)];
    bench.run(&mut model, &inputs(&[2, 9, 3, 9, 0]), &rows).unwrap();
    let expected: Received = vec![
        (0, Some(0), false),
        (1, Some(0), false),
        (2, Some(1), false),
        (4, None, true),
        (0, Some(1), true),
        (1, Some(1), false),
        (2, Some(2), true),
    ];
    assert_eq!(bench.received(), expected);
    assert_eq!(model.begun, 0);
}

#[test]
fn slice_ends_with_the_step_in_which_its_time_is_over() {
    let (mut bench, mut model) = (Bench::new(), TestModel::new());
    model.step = Duration::from_millis(60);
    bench.run(&mut model, &inputs(&[9]), &[slice(0, 9)]).unwrap();
    assert_eq!(bench.received(), [(0, Some(0), false)]);
    model.step = Duration::from_millis(15);
    bench.run(&mut model, &inputs(&[99]), &[slice(1, 99)]).unwrap();
    let received = bench.received();
    assert!((1..=4).contains(&received.len()), "{received:?}");
    assert_eq!(model.begun, 0);
}

#[test]
fn cancelled_row_ends_before_the_next_step_and_the_others_go_on() {
    let (mut bench, mut model) = (Bench::new(), TestModel::new());
    bench.cancelled.note(7, 0);
    bench.cancelled.note(6, 1);
    bench.run(&mut model, &inputs(&[2, 2]), &[slice(0, 9), slice(0, 9)]).unwrap();
    assert_eq!(bench.received(), [(1, Some(0), false), (1, Some(1), true)]);
    assert_eq!(model.begun, 0);
}

#[test]
fn inputs_that_cannot_be_answered_fail_the_batch_and_leave_nothing_begun() {
    let (mut bench, mut model) = (Bench::new(), TestModel::new());
    let two = [slice(0, 9), slice(0, 9)];
    let error = bench.run(&mut model, &inputs(&[2, -1]), &two).unwrap_err();
    assert!(matches!(error, ModelError::Input(_)), "{error}");
    let error = bench.run(&mut model, &inputs(&[2]), &two).unwrap_err();
    assert!(matches!(error, ModelError::Input(_)), "{error}");
    assert_eq!((bench.received(), model.begun), (vec![], 0));
}

#[test]
fn answer_for_an_unknown_sequence_is_an_error_of_the_model() {
    let (mut bench, mut model) = (Bench::new(), TestModel::new());
    model.invents = true;
    let error = bench.run(&mut model, &inputs(&[2]), &[slice(0, 9)]).unwrap_err();
    assert!(matches!(error, ModelError::Broken(_)), "{error}");
    assert_eq!(bench.received(), []);
}

#[test]
fn warm_up_leaves_nothing_begun() {
    let mut model = TestModel::new();
    warm_up(&mut model, 8, &inputs(&[5, 0]), 2).unwrap();
    assert_eq!(model.begun, 0);
}
