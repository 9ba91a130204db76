use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use testkit::process::{Signal, environment_of, signal, workers_of};
use testkit::{Folder, HANG, Server, Setup, run, wait_for, wait_until};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const KEY: &str = "k3y-of-the-server";

/// The environment of the worker of a server with this key, once it is on.
fn environment_of_worker(server: &Server) -> Vec<(String, String)> {
    server.wait_until_ready();
    let headers = [("X-API-Key", KEY), ("Content-Type", "application/json")];
    let on = server.send("POST", "/api/adapters/cpu", &headers, b"{\"mode\":\"on\"}");
    assert_eq!(on.status, 200, "{}", on.text());
    let pid = wait_until("a worker", HANG, || workers_of(server.pid()).first().copied());
    environment_of(pid)
}

#[test]
fn a_worker_receives_no_secret_of_the_servers_environment() {
    let secrets = [
        ("AWS_SECRET_ACCESS_KEY", "s3cret-1"),
        ("DB_PASSWORD", "s3cret-2"),
        ("NVIDIA_API_KEY", "s3cret-3"),
        ("VK_TOKEN", "s3cret-4"),
        ("DATABASE_URL", "s3cret-5"),
        ("CONCERTINA_API_KEY", KEY),
    ];
    let passed = [
        ("VK_LOADER_DEBUG", "none"),
        ("MESA_DEBUG", "silent"),
        ("LP_NUM_THREADS", "1"),
        ("RUST_BACKTRACE", "1"),
        ("LC_TIME", "C"),
        ("MY_DRIVER_TOKEN", "named"),
    ];
    let setup = Setup::cpu().config("[workers]\nenvironment = ['MY_DRIVER_TOKEN']");
    let all = secrets.iter().chain(&passed).chain(&[("MY_OTHER", "other")]);
    let setup = all.fold(setup, |setup, (name, value)| setup.env(name, value));
    let server = setup.start();
    let environment = environment_of_worker(&server);
    let value =
        |name: &str| environment.iter().find(|(own, _)| own == name).map(|(_, v)| v.as_str());
    for (name, secret) in secrets {
        assert_eq!(value(name), None);
        assert!(environment.iter().all(|(_, value)| !value.contains(secret)), "{environment:?}");
    }
    assert_eq!(value("MY_OTHER"), None);
    for (name, expected) in passed {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    assert!(value("PATH").is_some() && value("NODEVICE_SELECT") == Some("1"), "{environment:?}");
}

#[test]
fn invalid_log_filter_is_an_error() {
    for (filter, error) in [
        ("banana", "'banana' is neither a level"),
        ("info,concertina::engin=debug", "'concertina::engin' is neither a level"),
        ("concertina=loud", "'loud' is not a level"),
    ] {
        let env = [("CONCERTINA_LOG", filter)];
        for args in [&["models"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let output = run(args, &env);
            assert_eq!(output.status.code(), Some(1), "{filter}: {}", stderr(&output));
            assert!(stderr(&output).contains(error), "{filter}: {}", stderr(&output));
        }
    }
    let good = run(&["models"], &[("CONCERTINA_LOG", "warn,concertina::model=debug")]);
    assert!(good.status.success(), "{}", stderr(&good));
}

#[test]
fn a_variable_that_no_setting_reads_is_named_with_the_nearest_one() {
    let env = [("CONCERTINA_MODEL", "x"), ("CONCERTINA_LISTEM", "y"), ("CONCERTINA_TEST_X", "z")];
    let log = stderr(&run(&["models"], &env));
    assert!(log.contains("unknown environment variable CONCERTINA_MODEL"), "{log}");
    assert!(log.contains("did you mean CONCERTINA_MODELS?"), "{log}");
    assert!(log.contains("did you mean CONCERTINA_LISTEN?"), "{log}");
    assert!(!log.contains("CONCERTINA_TEST_X"), "{log}");
    let server = Setup::cpu().env("CONCERTINA_ADAPTER_MAX", "3").start();
    let log = server.log();
    assert!(log.contains("did you mean CONCERTINA_ADAPTERS_MAX?"), "{log}");
    assert_eq!(stderr(&run(&["models"], &[("CONCERTINA_MODELS_POLL_INTERVAL", "1s")])), "");
}

fn key_file(folder: &Folder, key: &str, mode: u32) -> std::path::PathBuf {
    let file = folder.write("key", key);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

fn top(server: &Server, key: &[&str]) -> std::process::Output {
    let url = format!("http://{}", server.address);
    run(&[&["top", "--once", "--url", &url], key].concat(), &[])
}

#[test]
fn a_key_is_read_from_a_file_and_again_when_it_changes() {
    let folder = Folder::new();
    let file = key_file(&folder, "one-key\n", 0o600);
    let named = file.to_str().unwrap();
    let server = Setup::cpu().args(&["--api-key-file", named]).start();
    let status = |key: &str| server.send("GET", "/v2", &[("X-API-Key", key)], b"").status;
    assert_eq!((status("one-key"), status("other-key"), server.get("/v2").status), (200, 401, 401));
    assert!(top(&server, &["--api-key-file", named]).status.success());
    assert!(!server.log().contains("WARN"), "{}", server.log());
    std::fs::write(&file, "other-key").unwrap();
    signal(server.pid(), Signal::HUP);
    wait_for("the new key", HANG, || status("other-key") == 200);
    assert_eq!(status("one-key"), 401);
    std::fs::write(&file, "").unwrap();
    signal(server.pid(), Signal::HUP);
    wait_for("the log reports it", HANG, || server.log().contains("failed to reload the API keys"));
    assert_eq!(status("other-key"), 200);
    let refused = top(&server, &["--api-key-file", named]);
    assert!(stderr(&refused).contains("is empty"), "{}", stderr(&refused));
}

#[test]
fn key_file_that_others_can_read_causes_a_warning() {
    let folder = Folder::new();
    let file = key_file(&folder, "k3y", 0o644);
    let readable = "every user of this machine may read the API key";
    let argument = "the API key is an argument, which every user of this machine can read";
    let of_file = Setup::cpu().args(&["--api-key-file", file.to_str().unwrap()]).start();
    assert!(of_file.log().contains(readable), "{}", of_file.log());
    let of_argument = Setup::cpu().args(&["--api-key", "k3y"]).start();
    assert!(of_argument.log().contains(argument), "{}", of_argument.log());
    let log = stderr(&top(&of_argument, &["--api-key", "k3y"]));
    assert!(log.contains(argument), "{log}");
    let log = stderr(&top(&of_argument, &["--api-key-file", file.to_str().unwrap()]));
    assert!(log.contains(readable), "{log}");
    let of_variable = Setup::cpu().env("CONCERTINA_API_KEY", "k3y").start();
    assert!(!of_variable.log().contains("WARN"), "{}", of_variable.log());
}

#[test]
fn common_forms_of_listen_addresses_are_accepted() {
    let server = Setup::cpu().args(&["--listen", "localhost:0"]);
    let (status, log) = server.fail();
    assert_eq!(status.code(), Some(2), "the option is given twice: {log}");
    let server = Setup::cpu().listen_to("localhost:0").start();
    assert!(server.address.ip().is_loopback());
    assert_eq!(server.get("/v2/health/live").status, 200);
    let (status, log) = Setup::cpu().listen_to(":0").fail();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("listening on 0.0.0.0:0 is open to the whole network"), "{log}");
    let server = Setup::cpu().listen_to(":0").args(&["--allow-remote"]).start();
    assert!(server.address.ip().is_unspecified());
    for wrong in ["unix:/run/x.sock", "8000", "gpu-box:8000", "localhost"] {
        let output = run(&["serve", "--listen", wrong], &[]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let log = stderr(&output);
        assert!(log.contains("write it as '127.0.0.1:8000'"), "{wrong}: {log}");
    }
}

fn taken(folder: &Folder) -> std::path::PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let predictable = folder.make_dir(&format!("concertina-{user}"));
    std::fs::set_permissions(&predictable, std::fs::Permissions::from_mode(0o755)).unwrap();
    predictable
}

#[test]
fn runtime_folder_taken_by_another_user_does_not_prevent_the_start() {
    let folder = Folder::new();
    let predictable = taken(&folder);
    let start = || {
        let setup = Setup::cpu().without_runtime_dir().env("XDG_RUNTIME_DIR", "");
        setup.env("TMPDIR", folder.path().to_str().unwrap()).start()
    };
    let private = |server: &Server| {
        server.set_mode_when_listed("cpu", "on");
        server.wait_for_state("cpu", &["idle"], HANG);
        let log = server.log();
        let (_, log) = log.split_once("using ").expect("the log names the folder");
        let (other, _) = log.split_once(" for sockets: ").unwrap();
        let mode = std::fs::metadata(other).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{other}");
        other.to_owned()
    };
    let first = private(&start());
    assert!(Path::new(&first) != predictable && Path::new(&first).starts_with(folder.path()));
    assert_eq!(private(&start()), first, "no folder is left behind by each start");
}

#[test]
fn caches_without_a_folder_are_not_kept_in_a_folder_of_others() {
    let folder = Folder::new();
    let predictable = taken(&folder);
    let file = folder.write("file", "");
    let setup = Setup::cpu().without_runtime_dir().env("XDG_RUNTIME_DIR", "");
    let setup = setup.env("TMPDIR", folder.path().to_str().unwrap());
    let server = setup.cache_dir(&file.join("cache")).start();
    server.set_mode_when_listed("cpu", "on");
    server.wait_for_state("cpu", &["idle"], HANG);
    assert!(server.log().contains("failed to make the cache folder"), "{}", server.log());
    assert_eq!(std::fs::read_dir(&predictable).unwrap().count(), 0);
}

#[test]
fn error_about_a_folder_that_cannot_be_made_names_its_settings() {
    let folder = Folder::new();
    let file = folder.write("file", "");
    let below = file.join("run");
    let (status, log) = Setup::cpu().runtime_dir(&below).fail();
    assert_eq!(status.code(), Some(1));
    for name in ["runtime_dir", "--runtime-dir", "CONCERTINA_RUNTIME_DIR"] {
        assert!(log.contains(name), "{log}");
    }
    let (status, log) = Setup::cpu().args(&["--lock-dir", below.to_str().unwrap()]).fail();
    assert_eq!(status.code(), Some(1));
    for name in ["lock_dir", "--lock-dir", "CONCERTINA_LOCK_DIR"] {
        assert!(log.contains(name), "{log}");
    }
    let own = folder.join("own");
    let setup = Setup::cpu().without_runtime_dir().args(&["--runtime-dir", own.to_str().unwrap()]);
    let server = setup.start();
    server.set_mode_when_listed("cpu", "on");
    server.wait_for_state("cpu", &["idle"], HANG);
    assert!(own.is_dir());
}
