//! The compute thread over a real link: loads, reloads, unloads, batches in between, slowness.

use super::compute::{ComputeJob, ComputeThread};
use super::faults::Faults;
use burn::tensor::Device;
use bytes::Bytes;
use kinds::Registry;
use model::repository::{Repository, ScanResult};
use model::{GoldenSpec, Model, ModelError, ModelInfo, Signature};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;
use testkit::Folder;
use tokio::runtime::Runtime;
use types::tensor::{Datatype, Tensor, Tensors};
use wire::client::connect;
use wire::server::{Listener, ServerReceiver};
use wire::{
    Cause, Endpoint, FromWorker, Injected, Injection, LoadRequest, Slow, ToWorker, Unfit,
    tensor_headers,
};

/// A deviation of an adder from a well-behaved model.
#[derive(Clone, Copy, PartialEq)]
enum Deviation {
    /// It also adds the number of rows.
    CountsRows,
    /// It rejects zeros.
    RejectsZeros,
}

/// Timeout that is sufficient for each of these tests on a loaded machine.
const HANG: Duration = Duration::from_secs(60);

/// Adds a number, read from its version's file `number`, to every byte.
struct Adder {
    signature: Signature,
    number: u8,
    sleep: Duration,
    /// Panics for a batch of more rows than this.
    rows_max: usize,
    deviation: Option<Deviation>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Adder {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Model for Adder {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        std::thread::sleep(self.sleep);
        assert!(rows <= self.rows_max, "at most {} rows", self.rows_max);
        let tensor = &inputs.0[0];
        if self.deviation == Some(Deviation::RejectsZeros) && tensor.data.contains(&0) {
            return Err(ModelError::Input("zeros are not taken".into()));
        }
        let counted = if self.deviation == Some(Deviation::CountsRows) { rows as u8 } else { 0 };
        let data: Vec<u8> = tensor.data.iter().map(|byte| byte + self.number + counted).collect();
        Ok(Tensors(vec![Tensor { data: data.into(), ..tensor.clone() }]))
    }
}

fn injection(fault: Injected, at: u64) -> Injection {
    let (adapter, chance, seed, workers) = (None, None, 0, None);
    Injection { fault, adapter, at: Some(at), chance, seed, workers }
}

/// A compute thread with the server's end of its link.
struct Bench {
    folder: Folder,
    alive: Arc<AtomicUsize>,
    runtime: Runtime,
    receiver: ServerReceiver,
    jobs: SyncSender<ComputeJob>,
    compute: JoinHandle<()>,
}

impl Bench {
    fn new(slow: Option<Slow>) -> Bench {
        Bench::faulty(slow, &[])
    }

    /// A worker with faults at these steps.
    fn faulty(slow: Option<Slow>, faults: &[(Injected, u64)]) -> Bench {
        Bench::checked(slow, faults, Duration::ZERO)
    }

    /// A worker with this self-check interval.
    fn checked(slow: Option<Slow>, faults: &[(Injected, u64)], every: Duration) -> Bench {
        Bench::with(slow, faults, every, false)
    }

    /// A worker that loads models in a separate thread, as on the CPU.
    fn background() -> Bench {
        Bench::with(None, &[], Duration::ZERO, true)
    }

    fn with(
        slow: Option<Slow>,
        faults: &[(Injected, u64)],
        every: Duration,
        in_background: bool,
    ) -> Bench {
        let faults: Vec<Injection> =
            faults.iter().map(|(fault, at)| injection(*fault, *at)).collect();
        let (folder, alive) = (Folder::new(), Arc::new(AtomicUsize::new(0)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::Local(folder.path().join("socket"));
        let listener = runtime.block_on(async { Listener::open(&endpoint).unwrap() });
        let (jobs, work) = std::sync::mpsc::sync_channel(16);
        let registry = registry(alive.clone());
        let compute = std::thread::spawn(move || {
            let (_receiver, sender) = connect(&endpoint).unwrap();
            let faults = Faults::new(&faults, ("cpu", 1), sender.clone());
            let mut compute = ComputeThread::new(Device::flex(), registry, sender, slow, faults);
            compute.checks.interval = every;
            compute.loads_in_background = in_background;
            compute.serve(&work).unwrap();
        });
        let accepted = runtime.block_on(listener.accept(std::process::id()));
        let (receiver, _) = accepted.unwrap();
        Bench { folder, alive, runtime, receiver, jobs, compute }
    }

    /// A model that adds the number in `number`, with further words as in [`registry`].
    fn info(&self, name: &str, max_rows: usize, number: &str) -> ModelInfo {
        let tensor = "name = \"x\"\ndatatype = \"UINT8\"\nshape = [1]\n";
        let text = format!(
            "kind = \"adder\"\n[[inputs]]\n{tensor}[[outputs]]\n{tensor}[batch]\nmax_rows = {max_rows}"
        );
        self.folder.write(&format!("{name}/model.toml"), text.as_bytes());
        self.folder.write(&format!("{name}/1/number"), number.as_bytes());
        let kinds = ["adder".to_owned()];
        match Repository::open(self.folder.path()).unwrap().scan_one(name, &kinds).remove(0) {
            ScanResult::Good(info) => info,
            ScanResult::Bad(bad) => panic!("{bad:?}"),
        }
    }

    /// A model with output shapes that are hints, as for graphs.
    fn graph(&self, max_rows: usize, number: &str) -> ModelInfo {
        let mut info = self.info("graph", max_rows, number);
        info.signature.output_hints = true;
        info
    }

    fn send(&self, message: ToWorker) {
        self.jobs.send(ComputeJob::new(message, Bytes::new())).unwrap();
    }

    fn load(&self, model: u32, info: ModelInfo) {
        self.send(ToWorker::Load(Box::new(LoadRequest { model, info })));
    }

    fn run(&self, batch: u64, model: u32, data: &'static [u8]) {
        let (shape, data) = (vec![data.len(), 1], Bytes::from_static(data));
        let rows = data.len() as u64;
        let inputs = Tensor::new("x", Datatype::Uint8, shape, data.clone()).unwrap();
        let tensors = tensor_headers(&Tensors(vec![inputs]));
        let slices = Vec::new();
        self.jobs
            .send(ComputeJob::new(ToWorker::Run { batch, model, rows, slices, tensors }, data))
            .unwrap();
    }

    fn receive(&mut self) -> (FromWorker, Bytes) {
        let Bench { runtime, receiver, .. } = self;
        let received =
            runtime.block_on(async { tokio::time::timeout(HANG, receiver.receive()).await });
        let whole = received.unwrap().unwrap();
        (whole.message, whole.body)
    }

    /// The next message other than progress.
    fn next_report(&mut self) -> (FromWorker, Bytes) {
        loop {
            let (message, body) = self.receive();
            if !matches!(message, FromWorker::Progress { .. }) {
                return (message, body);
            }
        }
    }

    /// The answer to a successful batch.
    fn answer(&mut self) -> (u64, Bytes) {
        match self.next_report() {
            (FromWorker::Done { batch, .. }, body) => (batch, body),
            other => panic!("{other:?}"),
        }
    }

    fn measured(&mut self) -> Vec<(u32, u64)> {
        match self.next_report() {
            (FromWorker::Loaded { measured, .. }, _) => measured,
            other => panic!("{other:?}"),
        }
    }

    fn end(self) {
        drop(self.jobs);
        self.compute.join().unwrap();
        assert_eq!(self.alive.load(Ordering::SeqCst), 0);
    }
}

/// A registry with adders. Their file contains the number, the milliseconds of a batch, the maximum
/// of rows, and the index of a deviation.
fn registry(alive: Arc<AtomicUsize>) -> Registry {
    let mut registry = Registry::builtin();
    registry.register("adder", move |context| {
        let text = context.files.read("number")?;
        let words: Vec<usize> = String::from_utf8_lossy(&text)
            .split_whitespace()
            .map(|word| word.parse().map_err(|_| ModelError::Broken(format!("'{word}'"))))
            .collect::<Result<_, _>>()?;
        let word = |at: usize| words.get(at).copied();
        alive.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Adder {
            signature: context.info.signature.clone(),
            number: word(0).unwrap_or(0) as u8,
            sleep: Duration::from_millis(word(1).unwrap_or(0) as u64),
            rows_max: word(2).unwrap_or(usize::MAX),
            deviation: [Deviation::CountsRows, Deviation::RejectsZeros]
                .get(word(3).unwrap_or(9))
                .copied(),
            alive: alive.clone(),
        }))
    });
    registry
}

#[test]
fn models_load_and_unload_while_others_serve() {
    let mut bench = Bench::new(None);
    bench.load(4, bench.info("one", 4, "1"));
    let (loaded, _) = bench.next_report();
    let FromWorker::Loaded { model: 4, memory_bytes: 1, measured, .. } = loaded else {
        panic!("{loaded:?}");
    };
    let rows: Vec<_> = measured.iter().map(|(rows, _)| *rows).collect();
    assert_eq!(rows, [1, 2, 4], "{measured:?}");
    assert!(measured.iter().all(|(_, took)| *took > 0), "{measured:?}");
    bench.load(7, bench.info("two", 1, "2"));
    bench.measured();
    bench.run(1, 4, b"AB");
    bench.run(2, 7, b"A");
    assert_eq!(bench.answer(), (1, Bytes::from_static(b"BC")));
    assert_eq!(bench.answer(), (2, Bytes::from_static(b"C")));
    bench.send(ToWorker::Unload { model: 4 });
    assert_eq!(bench.next_report().0, FromWorker::Unloaded { model: 4, memory_bytes: 1 });
    assert_eq!(bench.alive.load(Ordering::SeqCst), 1);
    bench.send(ToWorker::Unload { model: 4 });
    assert_eq!(bench.next_report().0, FromWorker::Unloaded { model: 4, memory_bytes: 0 });
    bench.run(3, 4, b"A");
    let (failed, _) = bench.next_report();
    assert!(
        matches!(&failed, FromWorker::Failed { batch: 3, error, .. } if error.contains("not loaded")),
        "{failed:?}"
    );
    bench.run(4, 7, b"B");
    assert_eq!(bench.answer(), (4, Bytes::from_static(b"D")));
    bench.load(4, bench.info("one", 4, "5"));
    bench.measured();
    bench.run(5, 4, b"A");
    assert_eq!(bench.answer(), (5, Bytes::from_static(b"F")));
    bench.end();
}

#[test]
fn failed_reload_keeps_the_old_model() {
    let mut bench = Bench::new(None);
    bench.load(0, bench.info("m", 2, "1"));
    bench.measured();
    // The first model does not load; the second panics in its second bucket.
    for (broken, cause) in [("nonsense", Cause::Model), ("2 0 1", Cause::Device)] {
        bench.load(0, bench.info("m", 2, broken));
        let (failed, _) = bench.next_report();
        assert!(
            matches!(failed, FromWorker::LoadFailed { model: 0, cause: is, .. } if is == cause),
            "{failed:?}"
        );
        assert_eq!(bench.alive.load(Ordering::SeqCst), 1);
        bench.run(1, 0, b"A");
        assert_eq!(bench.answer(), (1, Bytes::from_static(b"B")));
    }
    bench.load(0, bench.info("m", 2, "3"));
    bench.measured();
    assert_eq!(bench.alive.load(Ordering::SeqCst), 1);
    bench.run(2, 0, b"A");
    assert_eq!(bench.answer(), (2, Bytes::from_static(b"D")));
    bench.end();
}

#[test]
fn load_steps_alternate_with_batches_of_other_models() {
    let mut bench = Bench::new(None);
    bench.load(0, bench.info("quick", 1, "1"));
    bench.measured();
    bench.load(1, bench.info("sluggish", 16, "2 100"));
    for batch in 0..10 {
        bench.run(batch, 0, b"A");
    }
    let (mut progress, mut answered) = (Vec::new(), 0);
    loop {
        match bench.receive().0 {
            FromWorker::Progress { doing } => progress.push((doing, answered)),
            FromWorker::Done { batch, .. } => {
                assert_eq!(batch, answered);
                answered += 1;
            }
            FromWorker::Loaded { model: 1, warm_up_ms, .. } => {
                assert!(warm_up_ms >= 500, "{warm_up_ms}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // A progress message precedes each step, and no two batches run without a step in between.
    let (doing, _): (Vec<_>, Vec<_>) = progress.iter().cloned().unzip();
    assert_eq!(doing[0], "loading sluggish");
    assert_eq!(doing[1], "warming up sluggish (1 of 5)");
    assert_eq!(doing[5], "warming up sluggish (5 of 5)");
    assert_eq!(doing[6], "timing sluggish");
    assert!(answered >= 6, "{answered} batches ran during {doing:?}");
    let counts: Vec<_> = progress.iter().map(|(_, answered)| *answered).collect();
    assert!(counts.windows(2).all(|two| two[1] <= two[0] + 1), "{counts:?}");
    bench.end();
}

#[test]
fn unload_aborts_a_pending_load() {
    let mut bench = Bench::new(None);
    bench.load(1, bench.info("sluggish", 4096, "2 100"));
    bench.load(2, bench.info("next", 1, "3"));
    assert_eq!(bench.receive().0, FromWorker::Progress { doing: "loading sluggish".into() });
    bench.send(ToWorker::Unload { model: 1 });
    assert!(matches!(bench.next_report().0, FromWorker::Unloaded { model: 1, .. }));
    let (loaded, _) = bench.next_report();
    assert!(matches!(loaded, FromWorker::Loaded { model: 2, .. }), "{loaded:?}");
    assert_eq!(bench.alive.load(Ordering::SeqCst), 1);
    bench.end();
}

#[test]
fn batches_do_not_wait_for_a_background_load() {
    let mut bench = Bench::background();
    bench.load(0, bench.info("quick", 1, "1"));
    bench.measured();
    bench.load(1, bench.info("sluggish", 1, "2 1000"));
    assert_eq!(bench.receive().0, FromWorker::Progress { doing: "loading sluggish".into() });
    assert!(
        matches!(bench.receive().0, FromWorker::Progress { .. }),
        "the first run of the warm-up begins"
    );
    for batch in 0..10 {
        bench.run(batch, 0, b"A");
        let (done, _) = bench.receive();
        assert!(matches!(done, FromWorker::Done { batch: is, .. } if is == batch), "{done:?}");
    }
    bench.measured();
    bench.run(10, 1, b"A");
    assert_eq!(bench.answer(), (10, Bytes::from_static(b"C")));
    bench.end();
}

#[test]
fn background_load_reports_failures_and_can_be_aborted() {
    let mut bench = Bench::background();
    for (broken, cause) in [("nonsense", Cause::Model), ("2 0 1", Cause::Device)] {
        bench.load(0, bench.info("m", 2, broken));
        let (failed, _) = bench.next_report();
        assert!(
            matches!(failed, FromWorker::LoadFailed { model: 0, cause: is, .. } if is == cause),
            "{failed:?}"
        );
        assert_eq!(bench.alive.load(Ordering::SeqCst), 0);
    }
    bench.load(1, bench.info("sluggish", 4096, "2 100"));
    bench.load(2, bench.info("next", 1, "3"));
    assert_eq!(bench.receive().0, FromWorker::Progress { doing: "loading sluggish".into() });
    bench.send(ToWorker::Unload { model: 1 });
    assert!(matches!(bench.next_report().0, FromWorker::Unloaded { model: 1, .. }));
    let (loaded, _) = bench.next_report();
    assert!(matches!(loaded, FromWorker::Loaded { model: 2, .. }), "{loaded:?}");
    // The aborted load ends after its step and frees its model.
    while bench.alive.load(Ordering::SeqCst) > 1 {
        std::thread::sleep(Duration::from_millis(10));
    }
    bench.end();
}

#[test]
fn timing_stops_after_enough_runs() {
    let rows = |measured: &[(u32, u64)]| measured.iter().map(|(rows, _)| *rows).collect::<Vec<_>>();
    let mut bench = Bench::new(None);
    // Two runs of 30 ms are enough; the largest bucket is quick enough to be timed as well.
    bench.load(0, bench.info("brisk", 16, "0 30"));
    let measured = bench.measured();
    assert_eq!(rows(&measured), [1, 2, 16]);
    assert!(measured.iter().all(|(_, took)| *took >= 30_000), "{measured:?}");
    // One run is enough, and the largest bucket takes too long.
    bench.load(1, bench.info("slow", 2, "0 260"));
    assert_eq!(rows(&bench.measured()), [1]);
    bench.end();
}

#[test]
fn slowed_worker_sleeps_for_the_padded_rows() {
    let milli = Duration::from_millis;
    let mut bench = Bench::new(Some(Slow { batch: milli(10), row: milli(20) }));
    bench.load(0, bench.info("m", 4, "1"));
    let measured = bench.measured();
    let (rows, took): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
    assert_eq!(rows, [1, 2, 4]);
    for (took, least) in took.iter().zip([30_000, 50_000, 90_000]) {
        assert!(*took >= least, "{took:?}");
    }
    bench.run(1, 0, b"ABC");
    let (done, body) = bench.next_report();
    let FromWorker::Done { timings, .. } = done else { panic!("{done:?}") };
    assert!(timings.run_us >= 90_000, "{timings:?}");
    assert_eq!(&body[..], b"BCD");
    bench.end();
}

/// The outcomes of four batches of a model for one row. It is loaded in three steps: read, warmed
/// up and timed.
fn outcomes(faults: &[(Injected, u64)]) -> Vec<Result<Bytes, Cause>> {
    let mut bench = Bench::faulty(None, faults);
    bench.load(0, bench.info("m", 1, "1 60"));
    bench.measured();
    let mut outcomes = Vec::new();
    for batch in 0..4 {
        bench.run(batch, 0, b"A");
        outcomes.push(match bench.next_report() {
            (FromWorker::Done { .. }, body) => Ok(body),
            (FromWorker::Failed { cause, error, .. }, _) => {
                assert!(error.contains("injected: "), "{error}");
                Err(cause)
            }
            other => panic!("{other:?}"),
        });
    }
    bench.end();
    outcomes
}

#[test]
fn faults_are_injected_into_their_steps() {
    let (right, wrong) = (Ok(Bytes::from_static(b"B")), Ok(Bytes::from_static(b"\x02")));
    let all = |which: [&Result<Bytes, Cause>; 4]| which.map(Clone::clone).to_vec();
    let (device, memory) = (Err(Cause::Device), Err(Cause::Memory));
    for (fault, expected) in [
        (Injected::WrongAnswer, all([&right, &wrong, &right, &right])),
        (Injected::Refuse, all([&right, &device, &right, &right])),
        (Injected::OutOfMemory, all([&right, &memory, &right, &right])),
        (Injected::DeviceLost, all([&right, &device, &device, &device])),
        (Injected::Flood, all([&right, &right, &right, &right])),
    ] {
        assert_eq!(outcomes(&[(fault, 5)]), expected, "{fault:?}");
    }
    assert_eq!(outcomes(&[(Injected::Refuse, 4), (Injected::OutOfMemory, 7)])[0], device);
    let none = outcomes(&[(Injected::Refuse, 99)]);
    assert_eq!(none, all([&right, &right, &right, &right]));
}

#[test]
fn load_without_memory_reports_the_rows_that_did_not_fit() {
    // Read, then buckets of 1, 2 and 4 rows.
    for (at, expected) in [(1, 0), (2, 1), (3, 2), (4, 4)] {
        let mut bench = Bench::faulty(None, &[(Injected::OutOfMemory, at)]);
        bench.load(3, bench.info("m", 4, "1"));
        let (failed, _) = bench.next_report();
        let FromWorker::LoadFailed { model: 3, rows, cause: Cause::Memory, .. } = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(rows, expected, "step {at}");
        bench.end();
    }
}

#[test]
fn slow_step_takes_longer_and_slow_death_increasingly_longer() {
    let took = |faults: &[(Injected, u64)]| -> Vec<u64> {
        let mut bench = Bench::faulty(None, faults);
        bench.load(0, bench.info("m", 1, "1 1"));
        bench.measured();
        let mut took = Vec::new();
        for batch in 0..4 {
            bench.run(batch, 0, b"A");
            let (FromWorker::Done { timings, .. }, _) = bench.next_report() else {
                panic!("no answer")
            };
            took.push(timings.run_us / 1000);
        }
        bench.end();
        took
    };
    let slow = took(&[(Injected::Slow, 5)]);
    assert!(slow[1] >= 100 && slow[1] > slow[0] && slow[1] > slow[2], "{slow:?}");
    let dying = took(&[(Injected::SlowDeath, 4)]);
    assert!(dying.iter().zip([20, 40, 80, 160]).all(|(took, least)| *took >= least), "{dying:?}");
}

/// Adds a golden sample to the model: `A` gives `B`.
fn with_golden(bench: &Bench, mut info: ModelInfo) -> ModelInfo {
    let tensor =
        |data: u8| json!([{"name": "x", "datatype": "UINT8", "shape": [1, 1], "data": [data]}]);
    let sample = json!({"inputs": tensor(b'A'), "outputs": tensor(b'B')});
    bench.folder.write(&format!("{}/1/golden.json", info.name), sample.to_string().as_bytes());
    info.golden = Some(GoldenSpec { file: "golden.json".to_owned(), tolerance: 0.0 });
    info
}

#[test]
fn idle_worker_detects_wrong_answers_of_its_device() {
    let every = Duration::from_millis(50);
    // Each load has three steps; the first check follows them.
    let mut bench = Bench::checked(None, &[(Injected::WrongAnswer, 7)], every);
    bench.load(3, with_golden(&bench, bench.info("m", 1, "1 60")));
    bench.load(4, bench.info("unchecked", 1, "2 60"));
    bench.measured();
    bench.measured();
    let (unfit, _) = bench.next_report();
    let FromWorker::Unfit { why: Unfit::WrongAnswer, error } = unfit else { panic!("{unfit:?}") };
    for words in ["self-check of m failed: golden sample failed", "0 batches have run"] {
        assert!(error.contains(words), "{error}");
    }
    bench.end();
}

#[test]
fn load_fails_if_rows_in_one_batch_differ_from_separate_rows() {
    let mut bench = Bench::new(None);
    bench.load(1, bench.graph(4, "1 0 99"));
    let (loaded, _) = bench.next_report();
    assert!(matches!(loaded, FromWorker::Loaded { note: None, .. }), "{loaded:?}");
    bench.load(2, bench.graph(4, "1 0 99 0"));
    let (failed, _) = bench.next_report();
    let FromWorker::LoadFailed { model: 2, cause: Cause::Rows, error, .. } = failed else {
        panic!("{failed:?}");
    };
    assert!(error.contains("in one batch differ"), "{error}");
    // Batches of one row do not join requests.
    bench.load(3, bench.graph(1, "1 0 99 0"));
    assert!(matches!(bench.next_report().0, FromWorker::Loaded { model: 3, .. }));
    bench.end();
}

#[test]
fn failed_warm_up_is_a_note_and_requests_are_answered() {
    let mut bench = Bench::new(None);
    bench.load(1, bench.graph(4, "1 0 99 1"));
    let (loaded, _) = bench.next_report();
    let FromWorker::Loaded { note: Some(note), measured, .. } = loaded else {
        panic!("{loaded:?}")
    };
    assert!(note.contains("zeros are not taken") && measured.is_empty(), "{note} {measured:?}");
    bench.run(1, 1, b"A");
    assert_eq!(bench.answer(), (1, Bytes::from_static(b"B")));
    bench.end();
}

#[test]
fn batch_size_grows_while_batches_are_short_and_succeed() {
    let largest = |number: &str| {
        let mut bench = Bench::new(None);
        let mut info = bench.graph(64, number);
        info.batch.grows = true;
        bench.load(1, info);
        let measured = bench.measured();
        bench.end();
        measured.last().map(|(rows, _)| *rows)
    };
    assert_eq!(largest("1 0 99"), Some(64));
    assert_eq!(largest("1 30 99"), Some(8));
}
