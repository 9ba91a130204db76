use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::images::{SEVEN, digits};
use testkit::process::{Signal, children_of, is_running, is_worker, signal, workers_of};
use testkit::{Folder, HANG, Server, Setup, report, wait_for};

/// `digits` answers, and no adapter has failed.
#[track_caller]
fn serves(server: &Server) {
    let response = server.post("/v2/models/digits/infer", SEVEN);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(digits(&response), [7]);
    let adapter = server.adapter("cpu");
    assert!(adapter["fault"].is_null(), "{adapter}");
}

#[test]
fn workers_start_from_the_running_image_after_the_program_was_replaced() {
    let folder = Folder::new();
    let program = folder.join("concertina");
    fs::copy(env!("CARGO_BIN_EXE_concertina"), &program).unwrap();
    let server = Setup::cpu().program(&program).start();
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/sh\nexit 3\n").unwrap();
    server.wait_until_ready();
    serves(&server);
}

#[test]
fn server_serves_without_a_cache_folder_that_cannot_be_made() {
    let folder = Folder::new();
    let file = folder.write("file", "");
    let server = Setup::cpu().cache_dir(&file.join("cache")).start();
    server.wait_until_ready();
    serves(&server);
    let log = server.log();
    assert_eq!(log.matches("failed to make the cache folder").count(), 1, "{log}");
    assert!(log.contains("set cache_dir"), "{log}");
}

#[test]
fn client_connections_leave_descriptors_for_workers() {
    let server = Setup::cpu().before("ulimit -n 64").start();
    server.wait_until_ready();
    let mut first = server.connect();
    let idle: Vec<_> =
        (0..200).filter_map(|_| std::net::TcpStream::connect(server.address).ok()).collect();
    let request = testkit::http::request("POST", "/v2/models/digits/infer", &[], SEVEN.as_bytes());
    let response = first.exchange(&request).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    drop(idle);
    let answers = || server.connect().exchange(&request).is_ok_and(|answer| answer.status == 200);
    wait_for("connections are free again", HANG, answers);
    serves(&server);
    assert!(server.log().contains("limits.connections"), "{}", server.log());
}

#[test]
fn soft_limit_of_descriptors_is_raised_to_the_hard_limit() {
    let server = Setup::cpu().before("ulimit -Sn 100").start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next(), "{line}");
}

#[test]
fn lost_runtime_folder_is_not_an_adapter_fault_and_service_resumes_once_it_is_back() {
    let folder = Folder::new();
    let runtime = folder.join("run");
    let server = Setup::cpu().runtime_dir(&runtime).start();
    server.wait_until_ready();
    fs::remove_dir_all(&runtime).unwrap();
    fs::write(&runtime, "").unwrap();
    let response = server.post("/v2/models/digits/infer", SEVEN);
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.error().starts_with("failed to start workers: "), "{}", response.text());
    let ready = server.get("/v2/health/ready");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(server.snapshot()["server"]["reason"].to_string().contains("failed to start workers"));
    assert_eq!(server.adapter("cpu")["state"], "off");
    fs::remove_file(&runtime).unwrap();
    fs::create_dir(&runtime).unwrap();
    server.wait_until_ready();
    let response = server.post("/v2/models/digits/infer", SEVEN);
    assert_eq!(response.status, 200, "{}", response.text());
}

/// Lines for `Setup::before` that run the program through `unshare` with these options, in a shell
/// that runs `lines` first; prints the reason and returns `None` where that is not permitted.
fn unshared(options: &str, lines: &str) -> Option<String> {
    for user in ["", "--user --map-root-user"] {
        let unshare = format!("unshare {user} {options}");
        let permitted = Command::new("sh").arg("-c").arg(format!("{unshare} true")).output();
        if permitted.is_ok_and(|output| output.status.success()) {
            return Some(format!("exec {unshare} sh -c '{lines}\nexec \"$@\"' sh \"$@\""));
        }
    }
    report("SKIPPED: this user may not make namespaces (unshare of util-linux)");
    None
}

#[test]
fn locks_are_kept_in_the_runtime_folder_where_the_shared_one_cannot_be_written_to() {
    let lines = "mount -t tmpfs -o ro tmpfs /run/lock || exit 1";
    let Some(before) = unshared("--mount", lines) else { return };
    let server = Setup::cpu().without_lock_dir().before(&before).start();
    server.wait_until_ready();
    serves(&server);
    let log = server.log();
    assert_eq!(log.matches("failed to write to /run/lock").count(), 1, "{log}");
    assert!(log.contains("set lock_dir"), "{log}");
    let chosen = Setup::cpu().start();
    assert!(!chosen.log().contains("lock_dir"), "{}", chosen.log());
}

/// Children of a process that have ended and are not reaped.
fn zombies_of(parent: u32) -> Vec<u32> {
    children_of(parent).into_iter().filter(|pid| !is_running(*pid)).collect()
}

/// In a container without an init, orphans of its other processes become children of the server.
#[test]
fn orphans_are_reaped_where_the_server_is_process_1_of_a_container() {
    let orphans = "(sleep 1 &)\n(sleep 2 &)";
    let Some(before) = unshared("--pid --fork --mount-proc --kill-child", orphans) else { return };
    let mut server = Setup::cpu().config("[workers]\nbackoff = '100ms'").before(&before).start();
    server.wait_until_ready();
    let [first] = children_of(server.pid())[..] else { panic!("one process in the container") };
    let orphans = || {
        let children = children_of(first).into_iter();
        children.filter(|pid| !is_worker(*pid)).collect::<Vec<_>>()
    };
    wait_for("orphans have ended and are reaped", HANG, || orphans().is_empty());
    serves(&server);
    // The exit status of a worker stays available to the server.
    let [worker] = workers_of(first)[..] else { panic!("one worker") };
    signal(worker, Signal::KILL);
    let killed = || server.adapter("cpu")["fault"].to_string().contains("signal: 9");
    wait_for("its end is reported", HANG, killed);
    wait_for("it is replaced", HANG, || {
        server.post("/v2/models/digits/infer", SEVEN).status == 200
    });
    wait_for("no child is left unreaped", HANG, || zombies_of(first).is_empty());
    signal(first, Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

/// A memory control group of version 1 with this limit; prints the reason and returns `None` where
/// none can be made.
fn memory_group(name: &str, bytes: u64) -> Option<Group> {
    let path = Path::new("/sys/fs/cgroup/memory")
        .join(format!("concertina-{name}-{}", std::process::id()));
    let made = fs::create_dir(&path)
        .and_then(|()| fs::write(path.join("memory.limit_in_bytes"), bytes.to_string()));
    match made {
        Ok(()) => Some(Group(path)),
        Err(error) => {
            report(&format!("SKIPPED: no memory control group of version 1 can be made: {error}"));
            None
        }
    }
}

struct Group(PathBuf);

impl Group {
    /// Puts the server and its workers into the group.
    fn holds(&self, setup: Setup) -> Setup {
        setup.before(&format!("echo $$ > {}/cgroup.procs", self.0.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel uncharges the last page cache some time after the last process has ended.
        wait_for("the control group is empty", HANG, || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn memory_limit_of_a_container_bounds_the_budget_of_models() {
    const LIMIT: u64 = 400 << 20;
    let Some(group) = memory_group("budget", LIMIT) else { return };
    let server = group.holds(Setup::cpu()).start();
    server.wait_until_ready();
    serves(&server);
    let adapter = server.adapter("cpu");
    assert_eq!(adapter["memory_bytes"], LIMIT, "{adapter}");
    let budget = adapter["memory_budget_bytes"].as_u64().unwrap();
    assert!(budget < LIMIT, "{adapter}");
    let queue = &server.snapshot()["queue"];
    assert_eq!(queue["held_bytes_max"], LIMIT / 4, "{queue}");
    let [worker] = workers_of(server.pid())[..] else { panic!("one worker") };
    let score = |pid: u32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!((score(worker).trim(), score(server.pid()).trim()), ("500", "0"));
    drop(server);
}

#[test]
fn worker_killed_by_the_kernel_during_a_load_is_reported_as_memory_of_the_model() {
    let Some(group) = memory_group("kill", 400 << 20) else { return };
    let models = Folder::new();
    let model = fs::read(testkit::models::package().join("tests/data/grows.onnx")).unwrap();
    models.write("grows/model.onnx", model);
    testkit::models::add_digits(&models, "digits");
    let server = group.holds(Setup::cpu().models(models.path())).start();
    server.wait_until_ready();
    let body = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}"#;
    let response = server.post("/v2/models/grows/infer", body);
    assert_eq!(response.status, 500, "{}", response.text());
    assert!(response.error().contains("memory"), "{}", response.text());
    let adapter = server.adapter("cpu");
    assert_ne!(adapter["state"], "quarantined", "{adapter}");
    let response = server.post("/v2/models/digits/infer", SEVEN);
    assert_eq!(response.status, 200, "{}", response.text());
    drop(server);
}
