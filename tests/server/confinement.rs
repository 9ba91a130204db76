use testkit::images::{SEVEN, digits};
use testkit::models::add_digits;
use testkit::{Folder, HANG, Setup};

/// Filters of system calls on a process, and whether it may gain rights, as the kernel tells.
fn rights(pid: u64) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["Seccomp_filters:", "NoNewPrivs:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    })
}

/// A server with a model from a folder, after its first answer: what the adapter tells, and the
/// rights of server and worker.
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

/// What is refused is tried in `src/worker/confine.rs`.
#[test]
fn workers_drop_their_rights_and_serve() {
    let (told, [filters, _], worker) = served("");
    assert!(told.contains("system calls (seccomp)"), "{told}");
    assert_eq!(worker, [filters + 1, 1]);
}

#[test]
fn workers_keep_their_rights_if_confinement_is_off() {
    let (told, server, worker) = served("[workers]\nconfine = false");
    assert_eq!(told, "nothing: workers.confine is false");
    assert_eq!(worker, server);
}
