use serde_json::Value;
use std::path::Path;
use testkit::images::SEVEN;
use testkit::process::{Signal, signal};
use testkit::{Folder, HANG, Setup, run, wait_for};

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn adapters_are_listed_as_json_and_as_a_table() {
    let output = run(&["adapters", "--json"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let listing: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let adapters = listing["adapters"].as_array().unwrap();
    for adapter in adapters {
        for field in ["id", "name", "api", "class", "vendor", "state", "driver"] {
            assert!(adapter[field].is_string(), "{field} of {adapter}");
        }
        let unused = adapter["state"] == "unused";
        assert_eq!(adapter["reason"].is_string(), unused, "{adapter}");
        assert_ne!(adapter["api"], "vulkan", "Vulkan was to be hidden: {adapter}");
    }
    let cpu = adapters.iter().find(|adapter| adapter["id"] == "cpu").expect("the CPU is there");
    assert_eq!((cpu["state"].as_str(), cpu["api"].as_str()), (Some("usable"), Some("cpu")));
    let table = stdout(&run(&["adapters"], &[]));
    for adapter in adapters {
        assert!(table.contains(adapter["id"].as_str().unwrap()), "{table}");
    }
    let never = stdout(&run(&["adapters", "--json", "--cpu", "never"], &[]));
    let listing: Value = serde_json::from_str(&never).unwrap();
    let cpu = listing["adapters"].as_array().unwrap().iter().find(|adapter| adapter["id"] == "cpu");
    assert_eq!(cpu.unwrap()["state"], "unused");
}

#[test]
fn settings_come_from_flags_then_environment_then_file() {
    let folder = Folder::new();
    let file =
        "[adapters]\nmin = 1\nmax = 5\ntarget_rows = 7\n[workers]\nheartbeat_timeout = '9s'\n";
    let file = folder.write("c.toml", file);
    let args = ["serve", "--print-config", "--adapters-max", "2"];
    let env = [
        ("CONCERTINA_CONFIG", file.to_str().unwrap()),
        ("CONCERTINA_ADAPTERS_MAX", "3"),
        ("CONCERTINA_TARGET_ROWS", "4"),
        ("CONCERTINA_API_KEY", "a-very-secret-key"),
    ];
    let output = run(&args, &env);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let printed: toml::Table = text.parse().unwrap();
    let number = |name: &str| printed["adapters"][name].as_integer().unwrap();
    assert_eq!((number("max"), number("target_rows"), number("min")), (2, 4, 1));
    assert_eq!(printed["workers"]["heartbeat_timeout"].as_str(), Some("9s"));
    assert_eq!(printed["listen"].as_str(), Some("127.0.0.1:8000"));
    assert_eq!(printed["lock_dir"].as_str(), Some("/run/lock"));
    assert!(!text.contains("secret"), "{text}");
    // The output is a configuration file that gives the same settings again.
    let again = folder.write("again.toml", &text);
    let again = run(&["serve", "--print-config", "--config", again.to_str().unwrap()], &[]);
    assert_eq!(stdout(&again), text);
}

#[test]
fn contradictory_settings_are_rejected() {
    let cases = [
        ("[adapters]\nmin = 3\nmax = 2", "adapters.min is 3, but adapters.max is 2"),
        ("[adapters]\nmax = 0", "no adapter could serve"),
        ("[adapters]\nonly = ['a']\nexclude = ['a']", "named in both"),
        ("[adapters]\ncolour = 'red'", "unknown field `colour`"),
        ("[limits]\nhost_memory_bytes = 5", "could never be served"),
        ("[limits]\nbody_bytes = -1", "invalid value"),
        (
            "[workers]\nheartbeat_timeout = '1ms'",
            "workers.heartbeat_timeout must be at least 200ms",
        ),
        ("[workers]\nbackoff = '10m'", "above workers.backoff_max"),
        ("[workers]\nrun_timeout = 'soon'", "in the config file"),
        ("[adapters", "in the config file"),
        ("[workers]\nsilence = '9s'", "workers.silence is now workers.heartbeat_timeout"),
        ("slo = '1s'\nlatency_target = '1s'", "two names of one setting; leave slo out"),
    ];
    for (config, part) in cases {
        let (status, log) = Setup::cpu().config(config).fail();
        assert_eq!(status.code(), Some(1), "{config}: {log}");
        assert!(log.contains(part), "{config}: '{log}' does not contain '{part}'");
    }
    let open = run(&["serve", "--listen", "0.0.0.0:0"], &[]);
    assert_eq!(open.status.code(), Some(1));
    assert!(stderr(&open).contains("set api_key or keys, or allow_remote"), "{}", stderr(&open));
    let missing = run(&["serve", "--config", "/nonexistent/c.toml"], &[]);
    assert_eq!(missing.status.code(), Some(1));
    let log = stderr(&missing);
    assert!(log.contains("failed to read the config file /nonexistent/c.toml"), "{log}");
    for args in [&["serve", "--cpu", "sometimes"][..], &["serve", "--nope"], &["dance"], &[]] {
        let output = run(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn former_flags_and_variables_are_errors_that_give_the_present_ones() {
    let flag = run(&["serve", "--models-poll", "1s"], &[]);
    let variable = run(&["serve", "--print-config"], &[("CONCERTINA_MODELS_POLL", "1s")]);
    let words = [
        (flag, 2, "--models-poll is now --models-poll-interval"),
        (variable, 1, "CONCERTINA_MODELS_POLL is now CONCERTINA_MODELS_POLL_INTERVAL"),
    ];
    for (output, status, expected) in words {
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn slo_is_accepted_as_another_name_of_the_latency_target() {
    let printed = |args: &[&str], env: &[(&str, &str)]| {
        let output = run(&[&["serve", "--print-config"], args].concat(), env);
        (stdout(&output), stderr(&output))
    };
    let (slo, target) = (("CONCERTINA_SLO", "7s"), ("CONCERTINA_LATENCY_TARGET", "8s"));
    for (args, env) in [
        (&["--slo", "7s"][..], &[][..]),
        (&[], &[slo]),
        // A flag wins over the environment under either name.
        (&["--slo", "7s"], &[target]),
        (&["--latency-target", "7s"], &[("CONCERTINA_SLO", "8s")]),
    ] {
        let (settings, error) = printed(args, env);
        assert!(settings.contains("latency_target = \"7s\""), "{args:?}: {settings}{error}");
    }
    for (args, env) in
        [(&["--slo", "7s", "--latency-target", "7s"][..], &[][..]), (&[], &[slo, target])]
    {
        let (_, error) = printed(args, env);
        let names = ["--slo (CONCERTINA_SLO)", "--latency-target (CONCERTINA_LATENCY_TARGET)"];
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
}

#[test]
fn a_runtime_folder_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let open = folder.make_dir("open");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (status, log) = Setup::cpu().runtime_dir(&open).fail();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("not a folder that only this user can enter"), "{log}");
}

#[test]
fn requests_without_the_key_are_rejected() {
    let server = Setup::cpu().config("api_key = 'k3y'").start();
    assert_eq!(server.get("/v2").status, 401);
    assert_eq!(server.get("/v2/health/live").status, 200);
    assert_eq!(server.send("GET", "/v2", &[("X-API-Key", "k3y")], b"").status, 200);
    let bearer = [("Authorization", "Bearer k3y")];
    assert_eq!(server.send("GET", "/api/snapshot", &bearer, b"").status, 200);
    let wrong = [("Authorization", "Bearer key")];
    assert_eq!(server.send("GET", "/api/snapshot", &wrong, b"").status, 401);
}

/// Makes a key; returns it and its entry for the file.
fn make_key(scopes: &[&str]) -> (String, String) {
    let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
    let args: Vec<&str> = ["key", "--name", "test"].into_iter().chain(scopes).collect();
    let output = run(&args, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    (stderr(&output).trim().to_owned(), stdout(&output))
}

#[test]
fn keys_grant_their_scopes_and_are_read_again_when_the_file_changes() {
    let folder = Folder::new();
    let (reader, read) = make_key(&["read"]);
    let (client, infer) = make_key(&["infer"]);
    let file = folder.write("keys.toml", read.clone() + &infer);
    assert!(!read.contains(&reader) && reader.len() > 40, "{read}");
    let server = Setup::cpu().args(&["--keys", file.to_str().unwrap()]).start();
    let status = |method: &str, path: &str, key: &str, body: &str| {
        let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
        server.send(method, path, &headers, body.as_bytes()).status
    };
    let infer = "/v2/models/digits/infer";
    let off = "{\"mode\":\"off\"}";
    assert_eq!(server.get("/v2").status, 401);
    assert_eq!(status("GET", "/api/snapshot", &reader, ""), 200);
    assert_eq!(status("POST", infer, &reader, SEVEN), 403);
    assert_eq!(status("POST", infer, &client, SEVEN), 200);
    assert_eq!(status("GET", "/api/snapshot", &client, ""), 403);
    // Clients read the metadata of a model before they send requests to it.
    for part in ["", "/ready", "/config", "/versions/1", "/versions/1/config"] {
        assert_eq!(status("GET", &format!("/v2/models/digits{part}"), &client, ""), 200, "{part}");
    }
    assert_eq!(status("GET", "/v2/models/digits/stats", &client, ""), 403);
    for key in [&reader, &client] {
        assert_eq!(status("POST", "/api/adapters/cpu", key, off), 403);
        assert_eq!(status("POST", "/v2/repository/models/digits/unload", key, "{}"), 403);
        assert_eq!(status("DELETE", "/api/load", key, ""), 403);
    }
    // One key is removed, another one is added; an invalid file changes nothing.
    let (admin, all) = make_key(&["admin"]);
    std::fs::write(&file, "[[key]]\nname = 3").unwrap();
    signal(server.pid(), Signal::HUP);
    wait_for("the log reports it", HANG, || server.log().contains("failed to reload the API keys"));
    assert_eq!(status("POST", infer, &client, SEVEN), 200);
    std::fs::write(&file, all).unwrap();
    signal(server.pid(), Signal::HUP);
    wait_for("the key is gone", HANG, || status("POST", infer, &client, SEVEN) == 401);
    assert_eq!(status("POST", "/api/adapters/cpu", &admin, off), 200);
    assert_eq!(status("GET", "/api/snapshot", &admin, ""), 200);
    for key in [&reader, &client, &admin] {
        assert!(!server.log().contains(key.as_str()), "the log contains a key");
    }
}

#[test]
fn unreadable_key_file_prevents_the_start() {
    let folder = Folder::new();
    let file = folder.write("keys.toml", "[[key]]\nname = 'a'");
    for (path, words) in [(file.as_path(), "missing field `sha256`"), (Path::new("/none"), "/none")]
    {
        let (status, log) = Setup::cpu().args(&["--keys", path.to_str().unwrap()]).fail();
        assert_eq!(status.code(), Some(1));
        assert!(log.contains("the file of API keys") && log.contains(words), "{log}");
    }
}

#[test]
fn adapter_ids_in_the_settings_that_match_no_adapter_are_logged() {
    let config = "[adapters]\nexclude = ['vulkan-1-2-3']\nmemory = { gone = 1000000 }\n\
                  [test.slow.cpu]\nrow = '1us'\n[test.slow.missing]\nrow = '1ms'";
    let server = Setup::cpu().config(config).start();
    // The log is read in a thread of its own, so that it may be late.
    wait_for("adapters are listed", HANG, || server.log().contains("adapters listed"));
    let log = server.log();
    for id in ["vulkan-1-2-3", "gone", "missing"] {
        assert!(log.contains(&format!("no adapter has the id '{id}'")), "{log}");
    }
    assert!(!log.contains("the id 'cpu'"), "{log}");
}

#[test]
fn models_are_listed_as_json() {
    let folder = Folder::new();
    folder.write("bad/model.toml", "kind = 'none'");
    folder.write("count/model.toml", "kind = 'count'");
    folder.make_dir("count/1");
    let output = run(&["models", "--json", "--models", folder.path().to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1), "one cannot be served");
    let listed: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let of = |name: &str| listed.iter().find(|model| model["name"] == name).unwrap();
    assert!(of("bad")["error"].as_str().unwrap().contains("inputs"), "{listed:?}");
    assert_eq!((&of("count")["version"], &of("count")["kind"]), (&"1".into(), &"count".into()));
    assert_eq!(of("count")["inputs"][0]["name"], "count");
}
