//! The file of learned values: its content, and files that cannot be used.

use serde_json::{Value, json};
use testkit::images::SEVEN;
use testkit::{Folder, HANG, Server, Setup, models, wait_for};

const INFER: &str = "/v2/models/digits/infer";

fn started(cache: &Folder) -> Server {
    let server = Setup::cpu().cache_dir(cache.path()).start();
    server.wait_until_ready();
    server
}

fn infer(server: &Server) {
    assert_eq!(server.post(INFER, SEVEN).status, 200);
}

/// The file as JSON.
fn file(cache: &Folder) -> Value {
    let text = std::fs::read(cache.join("learned.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn end(mut server: Server) {
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn starts_clients_and_models_are_remembered() {
    let cache = Folder::new();
    let server = started(&cache);
    infer(&server);
    infer(&server);
    end(server);
    let kept = file(&cache);
    assert_eq!(kept["version"], 2);
    let clients = kept["policy"]["clients"].as_array().unwrap();
    assert_eq!(clients.len(), 2, "one client and all together: {kept:#}");
    assert!(clients.iter().all(|client| client["model"] == "digits"), "{kept:#}");
    let count = &kept["policy"]["models"]["digits"]["count_permille"];
    assert!((1900..=2000).contains(&count.as_u64().unwrap()), "{kept:#}");
    let server = started(&cache);
    let cpu = server.adapter("cpu");
    assert_eq!((&cpu["starts"], &cpu["starts_last_hour"]), (&json!(0), &json!(1)));
    infer(&server);
    wait_for("the start is counted", HANG, || server.adapter("cpu")["starts_last_hour"] == 2);
    end(server);
    // The client of the first run is recognised in the second one.
    assert_eq!(file(&cache)["policy"]["clients"].as_array().unwrap().len(), 2);
}

#[test]
fn model_added_during_a_run_gets_its_learned_values() {
    let (cache, folder) = (Folder::new(), Folder::new());
    models::add_digits(&folder, "digits");
    models::add_echo(&folder, "echo", 8, "0s");
    let serve = || Setup::cpu().cache_dir(cache.path()).models(folder.path()).start();
    let server = serve();
    infer(&server);
    end(server);
    std::fs::rename(folder.join("digits"), cache.join("absent")).unwrap();
    let server = serve();
    server.wait_until_ready();
    assert_ne!(server.post(INFER, SEVEN).status, 200);
    std::fs::rename(cache.join("absent"), folder.join("digits")).unwrap();
    let load = || server.post("/v2/repository/models/digits/load", "{}").status == 200;
    wait_for("it is loaded", HANG, load);
    end(server);
    // The scheduler has recorded both requests, and the client of the first one.
    let policy = &file(&cache)["policy"];
    assert!(policy["models"]["digits"]["count_permille"].as_u64() > Some(1500), "{policy:#}");
    // The server itself is client 0: it made the request of the validation load.
    let own = |client: &&Value| client["model"] == "digits" && client["client"].as_u64() > Some(0);
    let clients = policy["clients"].as_array().unwrap();
    assert_eq!(clients.iter().filter(own).count(), 1, "{policy:#}");
}

#[test]
fn broken_or_outdated_file_is_replaced() {
    let cache = Folder::new();
    let server = started(&cache);
    infer(&server);
    end(server);
    let good = file(&cache);
    let mut future = good.clone();
    future["policy"]["written_ms"] = json!(u64::MAX);
    let mut later = good.clone();
    later["version"] = json!(99);
    let mut absurd = good.clone();
    absurd["policy"]["clients"][0]["pauses_ms"] = json!(vec![u64::MAX; 1000]);
    absurd["policy"]["misses"] = json!([i64::MIN, u64::MAX]);
    absurd["adapters"]["cpu"]["spells_ms"] = json!([[u64::MAX, 0]]);
    absurd["adapters"]["cpu"]["starts_until_ms"] = json!(vec![u64::MAX; 10_000]);
    let cut = good.to_string();
    let texts = [
        future.to_string(),
        later.to_string(),
        absurd.to_string(),
        cut[..cut.len() / 2].to_owned(),
        String::new(),
        "[]".to_owned(),
    ];
    for text in texts {
        cache.write("learned.json", &text);
        let server = started(&cache);
        infer(&server);
        end(server);
        assert_eq!(file(&cache)["version"], 2, "{text}");
    }
}
