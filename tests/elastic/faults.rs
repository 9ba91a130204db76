use crate::growth::clients;
use crate::machine::{DriverWatch, Machine, START, adapters, more_answers, on};
use crate::numbers::INFER;
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use testkit::images::{SEVEN, digits, output};
use testkit::models::{add_digits, package};
use testkit::process::{Signal, is_worker, signal};
use testkit::{Folder, Server, Setup, report, wait_for, wait_until};

/// Adapters with a running worker, and the process ids of the workers.
pub fn working(server: &Server) -> Vec<(String, u32)> {
    let up = |(id, pid): (String, Option<u32>)| {
        let state = server.adapter(&id)["state"].clone();
        pid.filter(|_| state == "idle" || state == "busy").map(|pid| (id, pid))
    };
    on(server).into_iter().filter_map(up).collect()
}

fn starts(server: &Server, id: &str) -> u64 {
    server.adapter(id)["starts"].as_u64().unwrap()
}

#[test]
fn workers_that_die_or_hang_under_load_lose_no_request() {
    let Some(machine) = Machine::get() else { return };
    let config = "[adapters]\nmin = 3\n[workers]\nheartbeat_timeout = '2s'\nbackoff = '500ms'";
    let server = machine.setup().config(config).start();
    adapters(&server);
    let watch = DriverWatch::start(&server);
    let up = wait_until("all three are up", START, || {
        Some(working(&server)).filter(|working| working.len() == 3)
    });
    let load = clients(&server, 8);
    more_answers(&load, 30);
    let (killed, stopped) = (&up[0], &up[1]);
    let before = [starts(&server, &killed.0), starts(&server, &stopped.0)];
    signal(killed.1, Signal::KILL);
    signal(stopped.1, Signal::STOP);
    more_answers(&load, 30);
    for ((id, pid), before) in [killed, stopped].into_iter().zip(before) {
        wait_for(&format!("{id} is up again"), START, || {
            starts(&server, id) > before && working(&server).iter().any(|(up, _)| up == id)
        });
        assert!(!is_worker(*pid), "{id} has a new worker beside the old one");
    }
    more_answers(&load, 30);
    let seen = load.stop();
    eprintln!("{} answers, by adapter: {:?}", seen.answers, seen.adapters);
    assert_eq!(seen.wrong, [""; 0]);
    // Each is counted once: no answer was given twice, and none was lost.
    wait_for("all answers are counted", START, || {
        server.snapshot()["models"][0]["requests"] == seen.answers
    });
    assert_eq!(server.snapshot()["models"][0]["errors"], 0);
    let decisions = server.get("/api/decisions").text();
    for words in ["worker ended unexpectedly", "worker heartbeat timed out"] {
        assert!(decisions.contains(words), "no '{words}' in {decisions}");
    }
    watch.check();
}

/// The second server reports that the first one uses an adapter, serves with others meanwhile, and
/// uses it after the end of the first one.
#[track_caller]
fn adapters_are_shared(first: Setup, second: Setup) {
    let mut first = first.start();
    let ids = adapters(&first);
    let taken = &ids[0];
    first.set_mode(taken, "on");
    first.wait_for_state(taken, &["idle"], START);
    let config = "[workers]\nbackoff = '500ms'\nbackoff_max = '2s'";
    let second = second.config(config).start();
    assert_eq!(adapters(&second), ids);
    second.set_mode(taken, "on");
    wait_for("the second server sees that it is taken", START, || {
        let adapter = second.adapter(taken);
        let fault = adapter["fault"].as_str().unwrap_or_default();
        fault.contains("another concertina on this machine uses this adapter")
    });
    let decisions = second.get("/api/decisions").text();
    assert!(decisions.contains("in use by another server"), "{decisions}");
    let response = second.post(INFER, SEVEN);
    assert_eq!(digits(&response), [7]);
    assert_ne!(response.header("x-concertina-adapter"), Some(taken.as_str()));
    // The first server is not affected.
    let response = first.post(INFER, SEVEN);
    assert_eq!(digits(&response), [7]);
    assert_eq!(response.header("x-concertina-adapter"), Some(taken.as_str()));
    assert_eq!(first.adapter(taken)["starts"], 1);
    first.terminate();
    assert_eq!(first.wait().code(), Some(0));
    second.wait_for_state(taken, &["idle"], START);
}

#[test]
fn two_servers_share_the_adapters() {
    let Some(machine) = Machine::get() else { return };
    let folder = Folder::new();
    let setup = || machine.setup().runtime_dir(&folder.join("run"));
    adapters_are_shared(setup(), setup());
}

/// Two servers of two users, or of two containers that share `/run/lock`, share nothing else.
#[test]
fn two_servers_with_different_runtime_folders_and_caches_share_the_adapters() {
    let Some(machine) = Machine::get() else { return };
    let trial = std::path::Path::new("/run/lock").join(format!("ctest-{}", std::process::id()));
    if let Err(error) = std::fs::write(&trial, "").and_then(|()| std::fs::remove_file(&trial)) {
        return report(&format!("SKIPPED: /run/lock cannot be written to: {error}"));
    }
    let folder = Folder::new();
    let cache = folder.join("cache");
    let copy = Command::new("cp").arg("-r").arg(machine.cache()).arg(&cache).status();
    assert!(copy.expect("cp is there").success());
    let second = Setup::software(machine.drivers(), &cache).models(machine.models());
    adapters_are_shared(machine.setup().without_lock_dir(), second.without_lock_dir());
}

#[test]
fn worker_that_compiles_kernels_can_be_stopped_at_once() {
    let Some(machine) = Machine::get() else { return };
    let cache = Folder::new();
    let mut server = machine.untuned(cache.path()).start();
    let id = adapters(&server).remove(0);
    let compiling = |server: &Server| {
        server.set_mode(&id, "on");
        wait_until("its worker warms up", START, || {
            let adapter = server.adapter(&id);
            let warming = adapter["phase"].as_str().is_some_and(|phase| phase.contains("warm"));
            let pid = adapter["pid"].as_u64().filter(|_| warming);
            pid.map(|pid| u32::try_from(pid).unwrap())
        })
    };
    // Stopped by the operator, long before it is ready, and without a kill.
    let pid = compiling(&server);
    server.set_mode(&id, "off");
    server.wait_for_state(&id, &["off"], START);
    assert!(!is_worker(pid), "off, but its worker is still there");
    assert!(!server.get("/api/decisions").text().contains("\"kill\""));
    assert_eq!(server.adapter(&id)["fault"], serde_json::Value::Null);
    // Stopped by the end of its server.
    let pid = compiling(&server);
    server.kill();
    wait_for("the worker is gone with its server", Duration::from_secs(10), || !is_worker(pid));
}

/// A graph that needs 64 MiB in one buffer for each row, where lavapipe allows at most 128 MiB: a
/// device without enough memory is not a fault of the request.
#[test]
fn rows_that_exceed_the_memory_together_run_in_smaller_batches() {
    let Some(machine) = Machine::get() else { return };
    let models = Folder::new();
    let graph = std::fs::read(package().join("tests/data/outer_product.onnx")).unwrap();
    models.write("large/model.onnx", graph);
    models.write("large/model.toml", "kind = \"onnx\"\n[batch]\nmax_rows = 4\n");
    let config = "[adapters]\nmin = 1\nmax = 1\n[workers]\nbackoff = '100ms'";
    let server = machine.serving(&models).args(&["--cpu", "never"]).config(config).start();
    adapters(&server);
    let rows = 4;
    let input = json!({"name": "x", "datatype": "FP32", "shape": [rows, 4096],
                       "data": vec![0.5; rows * 4096]});
    let answer = server.post("/v2/models/large/infer", &json!({ "inputs": [input] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let data = output(&answer, "y")["data"].as_array().unwrap();
    assert_eq!(data.len(), rows * 4096);
    // The graph computes the mean of equal numbers through a softmax.
    assert!(data.iter().all(|value| (value.as_f64().unwrap() - 0.5).abs() < 1e-4));
    let decisions = server.get("/api/decisions").text();
    assert!(decisions.contains("out of memory"), "{decisions}");
}

/// Makes the kernel send an event of a device; returns `false` if this user may not do that.
fn trigger_device_event() -> bool {
    std::fs::write("/sys/class/mem/null/uevent", "change").is_ok()
}

/// An event of any device simulates one of a card, and the file of a driver simulates the card.
#[test]
fn removal_and_return_of_a_card_are_detected() {
    let Some(machine) = Machine::get() else { return };
    if !trigger_device_event() {
        return report("SKIPPED: this user may not trigger device events");
    }
    let folder = Folder::new();
    let copy = |(n, driver): (usize, &str)| {
        folder.write(&format!("{n}.json"), std::fs::read(driver).expect("the driver's file"))
    };
    let drivers: Vec<_> = machine.drivers().split(':').enumerate().map(copy).collect();
    let paths: Vec<_> = drivers.iter().map(|path| path.display().to_string()).collect();
    let config = "[test]\nall_uevents = true";
    let server = Setup::software(&paths.join(":"), machine.cache()).config(config).start();
    let ids = adapters(&server);
    let card = ids.iter().find(|id| id.contains("1ae0")).expect("SwiftShader");
    let pulled = drivers.last().expect("three drivers");
    let file = std::fs::read(pulled).expect("the driver's file");
    std::fs::remove_file(pulled).expect("it is ours");
    assert!(trigger_device_event());
    let reason = || server.adapter(card)["reason"].as_str().map(str::to_owned);
    let text = wait_until("the removal is detected", START, reason);
    assert!(text.contains("not in the machine"), "{text}");
    assert_eq!(ids.iter().filter(|id| server.adapter(id)["reason"].is_string()).count(), 1);
    std::fs::write(pulled, file).expect("it is ours");
    assert!(trigger_device_event());
    wait_for("the return is detected", START, || reason().is_none());
}

/// The first step after the start of a worker: it opens its device, reads the model, warms up two
/// buckets of two datatypes and, since they are slow, times each of them once.
const FIRST: u64 = 9;

#[test]
fn adapter_that_is_wrong_again_in_its_shadow_run_is_detected_and_answers_no_request() {
    let Some(machine) = Machine::get() else { return };
    let models = Folder::new();
    add_digits(&models, "digits");
    let toml = std::fs::read_to_string(models.join("digits/model.toml")).unwrap();
    models.write("digits/model.toml", toml.replace("max_rows = 8", "max_rows = 2"));
    let id = "vulkan-10005-0000-0";
    let config = format!(
        "[workers]\nself_check_interval = '1s'\nbackoff = '100ms'\nbackoff_max = '1s'\n\
         [test.slow.{id}]\nbatch = '60ms'\n\
         [[test.faults]]\nfault = 'wrong_answer'\nadapter = '{id}'\nat = {FIRST}\n"
    );
    let server = machine.serving(&models).args(&["--cpu", "always"]).config(&config).start();
    assert!(adapters(&server).iter().any(|found| found == id));
    let decided = |words: &str| server.get("/api/decisions").text().contains(words);
    // An idle worker runs the golden sample, and the result is wrong.
    server.set_mode(id, "on");
    wait_for("its self-check detects the fault", START, || decided("self-check of"));
    // Back on, it repeats batches of other adapters: the CPU, and a card if the machine is busy.
    let load = clients(&server, 1);
    wait_for("the shadow run detects the fault", START, || {
        decided("differs from that of another adapter")
    });
    more_answers(&load, 10);
    let seen = load.stop();
    assert_eq!(seen.wrong, [""; 0]);
    assert!(!seen.adapters.contains_key(id), "{:?}", seen.adapters);
}
