use crate::machine::{Machine, START};
use adapter::entry::{AdapterEntry, Usability};
use model::{Repository, ScanResult};
use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::{Folder, run};
use tokio::sync::mpsc;
use wire::server::{Listener, Outgoing, ServerReceiver};
use wire::{Endpoint, FromWorker, LoadRequest, ToWorker, WorkerOptions, WorkerSpec};

/// A worker process on one adapter, and the server end of its link.
struct Bench {
    receiver: ServerReceiver,
    control: mpsc::Sender<ToWorker>,
    _batches: mpsc::Sender<Outgoing>,
    child: Child,
    _folder: Folder,
}

impl Bench {
    async fn start(machine: &Machine, adapter: AdapterEntry) -> Bench {
        let folder = Folder::new();
        let cache_dir = machine.cache().join("adapters").join(&adapter.id);
        std::fs::create_dir_all(&cache_dir).unwrap();
        let spec = WorkerSpec {
            server_endpoint: Endpoint::Local(folder.join("socket")),
            token: "none".to_owned(),
            server: std::process::id(),
            adapter,
            cache_dir: cache_dir.clone(),
            lock_dir: folder.join("locks"),
            options: WorkerOptions { confine: true, check: Duration::ZERO },
            models_bytes: 0,
            validation: None,
            incarnation: 1,
            slow: None,
            faults: Vec::new(),
        };
        let listener = Listener::open(&spec.server_endpoint).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_concertina"));
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("VK_ICD_FILENAMES", machine.drivers()).env("LP_NUM_THREADS", "1");
        command
            .env("XDG_CACHE_HOME", &cache_dir)
            .env("MESA_SHADER_CACHE_DIR", cache_dir.join("mesa"))
            .env("NODEVICE_SELECT", "1");
        let mut child = command.spawn().unwrap();
        let line = serde_json::to_string(&spec).unwrap();
        writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
        let (receiver, sender) = listener.accept(child.id()).await.unwrap();
        let (control, controls) = mpsc::channel(16);
        let (_batches, batches) = mpsc::channel(2);
        let (_, files) = tokio::sync::mpsc::channel(1);
        tokio::spawn(sender.run(controls, batches, files));
        Bench { receiver, control, _batches, child, _folder: folder }
    }

    /// The next message that reports neither progress nor the memory in use.
    async fn next_report(&mut self) -> FromWorker {
        loop {
            let message = tokio::time::timeout(START, self.receiver.receive()).await;
            let message = message.expect("the worker goes on").unwrap().message;
            if !matches!(message, FromWorker::Progress { .. } | FromWorker::InUse { .. }) {
                return message;
            }
        }
    }

    async fn load(&mut self, model: u32) -> (u64, Vec<(u32, u64)>) {
        let ScanResult::Good(info) =
            Repository::embedded().scan_one("digits", &["digits".to_owned()]).remove(0)
        else {
            panic!("the built-in model is good");
        };
        self.control.send(ToWorker::Load(Box::new(LoadRequest { model, info }))).await.unwrap();
        match self.next_report().await {
            FromWorker::Loaded { model: loaded, memory_bytes, measured, .. } if loaded == model => {
                (memory_bytes, measured)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn unload(&mut self, model: u32) -> u64 {
        self.control.send(ToWorker::Unload { model }).await.unwrap();
        match self.next_report().await {
            FromWorker::Unloaded { model: unloaded, memory_bytes } if unloaded == model => {
                memory_bytes
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The adapters that the program lists with the drivers of the machine.
fn entries(machine: &Machine) -> Vec<AdapterEntry> {
    let drivers = machine.drivers();
    let env = [("VK_ICD_FILENAMES", drivers), ("VK_DRIVER_FILES", drivers)];
    let listed = run(&["adapters", "--json", "--software-adapters=allow", "--cpu=always"], &env);
    let mut listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let entries: Vec<AdapterEntry> = serde_json::from_value(listed["adapters"].take()).unwrap();
    entries.into_iter().filter(|entry| entry.state == Usability::Usable).collect()
}

// The second thread serves the link while the test waits for the process.
#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_model_is_measured_and_released() {
    let Some(machine) = Machine::get() else { return };
    let entries = entries(&machine);
    assert_eq!(entries.len(), 4, "{entries:#?}");
    for entry in entries {
        // All of them are software adapters in the memory of the machine.
        let id = entry.id.clone();
        assert!(entry.memory_bytes.is_some_and(|bytes| bytes > 64 << 20), "{entry:?}");
        let mut bench = Bench::start(&machine, entry).await;
        assert!(matches!(bench.next_report().await, FromWorker::Hello { .. }));
        assert!(matches!(bench.next_report().await, FromWorker::Opened { .. }));
        // The weights take 209 KB.
        let likely = 200_000..4_000_000;
        let mut taken = Vec::new();
        for model in [3, 4, 3] {
            let (bytes, measured) = bench.load(model).await;
            eprintln!("{id}: {bytes} bytes, {measured:?}");
            assert!(likely.contains(&bytes), "{id}: {bytes} bytes");
            assert_eq!(measured[0].0, 1, "{measured:?}");
            assert!(measured.iter().all(|(_, took)| *took > 20), "{measured:?}");
            taken.push(bytes);
        }
        for model in [3, 4] {
            let bytes = bench.unload(model).await;
            eprintln!("{id}: {bytes} bytes given back");
            assert!(likely.contains(&bytes), "{id}: {bytes} bytes, after {taken:?}");
        }
        assert_eq!(bench.unload(3).await, 0);
        bench.control.send(ToWorker::Stop).await.unwrap();
        assert!(bench.child.wait().unwrap().success());
    }
}
