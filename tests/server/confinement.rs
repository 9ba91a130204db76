use testkit::images::{SEVEN, digits};
use testkit::models::add_digits;
use testkit::{Folder, HANG, Setup};

/// The number of system call filters on a process, and its `NoNewPrivs` flag, as the kernel reports
/// them.
fn rights(pid: u64) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["Seccomp_filters:", "NoNewPrivs:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    })
}

/// The confinement that the adapter reports after the first answer of a server with a model from a
/// folder, and the rights of server and worker.
fn served(config: &str) -> (String, [u64; 2], [u64; 2]) {
    let models = Folder::new();
    add_digits(&models, "digits");
    let server = Setup::cpu().models(models.path()).config(config).start();
    server.wait_until_ready();
    assert_eq!(digits(&server.post("/v2/models/digits/infer", SEVEN)), [7]);
    let adapter = server.wait_for_state("cpu", &["idle"], HANG);
    let worker = rights(adapter["pid"].as_u64().unwrap());
    (adapter["confinement"].as_str().unwrap().to_owned(), rights(server.pid().into()), worker)
}

/// The tests in `src/worker/confine.rs` try the operations that are denied.
#[test]
fn workers_drop_their_rights_and_serve() {
    let (confinement, [filters, _], worker) = served("");
    assert!(confinement.contains("system calls (seccomp)"), "{confinement}");
    assert_eq!(worker, [filters + 1, 1]);
}

#[test]
fn workers_keep_their_rights_if_confinement_is_off() {
    let (confinement, server, worker) = served("[workers]\nconfine = false");
    assert_eq!(confinement, "nothing: workers.confine is false");
    assert_eq!(worker, server);
}
