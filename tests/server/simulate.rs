use serde_json::Value;
use testkit::images::SEVEN;
use testkit::{Folder, HANG, Setup, run, wait_until};

const ADAPTERS: &str = "[[adapters]]\nname = 'one'\ncold_start_s = 0.5\nidle_w = 10.0\n\
    active_w = 100.0\nstart_w = 50.0\nmodels.default = { alpha_s = 0.01, beta_s = 0.002 }\n\
    [[adapters]]\nname = 'two'\ncold_start_s = 1.0\nidle_w = 5.0\nactive_w = 50.0\n\
    start_w = 20.0\nmodels.default = { alpha_s = 0.05, beta_s = 0.01 }\n";

/// Ten requests per second for a minute, a pause, and one more request.
fn trace() -> String {
    let times = (0..600).map(|n| f64::from(n) / 10.0).chain([300.0]);
    let lines: Vec<_> = times.map(|at| format!("{at}")).collect();
    format!("arrival_s\n{}\n", lines.join("\n"))
}

#[test]
fn recorded_trace_can_be_simulated() {
    let folder = Folder::new();
    let (trace, mix) = (folder.join("day.csv"), folder.join("day.toml"));
    let mut server = Setup::cpu().args(&["--record", trace.to_str().unwrap()]).start();
    for _ in 0..20 {
        let headers = [("Content-Type", "application/json")];
        let path = "/v2/models/digits/infer";
        assert_eq!(server.send("POST", path, &headers, SEVEN.as_bytes()).status, 200);
    }
    server.terminate();
    assert!(server.wait().success(), "{}", server.log());
    let text = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(text.lines().count(), 21, "{text}");
    assert!(text.starts_with("arrival_s,rows,model\n0.000000,1,digits\n"), "{text}");
    let args = [
        "simulate",
        "--json",
        "--trace",
        trace.to_str().unwrap(),
        "--adapters",
        mix.to_str().unwrap(),
    ];
    let output = run(&args, &[]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let outcomes: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!(outcomes[0]["requests"], 20);
    assert_eq!(outcomes[0]["adapters"][0]["name"], "cpu");
    assert_eq!(outcomes[0]["adapters"][0]["rows"], 20);
    // An existing file is not overwritten.
    let (status, log) = Setup::cpu().args(&["--record", trace.to_str().unwrap()]).fail();
    assert!(!status.success() && log.contains("failed to create the recording"), "{log}");
}

#[test]
fn policies_and_laws_are_compared_and_drawn() {
    let folder = Folder::new();
    let trace = folder.write("trace.csv", trace());
    let (mix, svg) = (folder.write("mix.toml", ADAPTERS), folder.join("out.svg"));
    let [trace, mix, svg] = [&trace, &mix, &svg].map(|path| path.to_str().unwrap());
    let files = ["simulate", "--trace", trace, "--adapters", mix, "--latency-target", "2s"];
    let policies = "latency,balanced,energy,concurrency,all-on,kpa,ski";
    let output = run(&[&files[..], &["--policy", policies, "--plot", svg]].concat(), &[]);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    for name in policies.split(',') {
        assert!(out.contains(name), "{name} is missing:\n{out}");
    }
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("two"), "{drawn:.200}");
    for (args, wrong) in [
        (
            vec!["--policy", "kubernetes"],
            "unknown policy `kubernetes`; use one of latency, balanced",
        ),
        (vec!["--policy", "all-on", "--plot", "/nowhere/out.svg"], "failed to write the picture"),
        (vec!["--policy", "static(99)"], "unknown policy"),
    ] {
        let output = run(&[&files[..], &args].concat(), &[]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && err.contains(wrong), "{args:?}: {err}");
    }
}

#[test]
fn errors_name_the_file_that_cannot_be_used() {
    let folder = Folder::new();
    let (good, mix) = (folder.write("trace.csv", trace()), folder.write("mix.toml", ADAPTERS));
    let bad = folder.write("bad.csv", "arrival_s\n2\n1\n");
    let none = folder.write("none.toml", "adapters = []\n");
    for (trace, mix, wrong) in [
        (&folder.join("absent.csv"), &mix, "failed to open the trace"),
        (&bad, &mix, "line 3 is not a request"),
        (&good, &none, "`[[adapters]]` is missing"),
        (&good, &bad, "bad.csv cannot be used"),
    ] {
        let [trace, mix] = [trace, mix].map(|path| path.to_str().unwrap());
        let output = run(&["simulate", "--trace", trace, "--adapters", mix], &[]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && err.contains(wrong), "{err}");
    }
}

/// A server that has answered `times` requests.
fn server_after(times: usize) -> testkit::Server {
    let server = Setup::cpu().start();
    for _ in 0..times {
        assert_eq!(server.post("/v2/models/digits/infer", SEVEN).status, 200);
    }
    server
}

/// The comparison of settings that the server computed.
fn whatif(server: &testkit::Server) -> Value {
    wait_until("it is computed", HANG, || {
        let answer = server.get("/api/whatif");
        assert_eq!(answer.status, 200, "{}", answer.text());
        Some(answer.json()).filter(|answer| answer["state"] == "ready")
    })
}

#[test]
fn server_reports_the_cost_of_its_requests_under_other_settings() {
    let server = server_after(30);
    wait_until("the CPU is measured", HANG, || {
        let recording = server.get("/api/recording").json();
        recording["adapters"].as_str().filter(|text| text.contains("cpu = true")).map(|_| ())
    });
    let answer = whatif(&server);
    assert_eq!((&answer["requests"], &answer["reason"]), (&Value::from(30), &Value::Null));
    let cases = answer["cases"].as_array().unwrap();
    let whats: Vec<_> = cases.iter().map(|case| case["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["with the present settings", "with every adapter on"]);
    assert_eq!(cases[1]["setting"], "adapters.min = 1");
    let better: Vec<_> = cases.iter().map(|case| &case["better"]).collect();
    let best = better.iter().position(|better| **better == true).map(Value::from);
    assert_eq!((&answer["best"], better[0]), (&best.into(), &false.into()), "{answer:#}");
    assert!(cases.iter().all(|case| case["watt_hours"].as_f64().unwrap() > 0.0), "{answer:#}");
}

#[test]
fn the_last_requests_of_a_server_can_be_simulated() {
    let server = server_after(5);
    let url = format!("http://{}", server.address);
    let simulated =
        || run(&["simulate", "--json", "--recorded", &url, "--latency-target", "1ms,1s"], &[]);
    let outcomes = wait_until("the CPU is measured", HANG, || {
        let output = simulated();
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    let targets = outcomes.as_array().unwrap().iter().map(|it| it["slo_s"].as_f64().unwrap());
    assert_eq!(targets.collect::<Vec<_>>(), [0.001, 1.0]);
    // A start takes longer than the first target, and no model of the server has one of its own.
    let in_time = |at: usize| outcomes[at]["attainment"].as_f64().unwrap();
    assert!(in_time(0) < 1.0 && in_time(1) == 1.0, "{outcomes:#}");
    assert_eq!(
        (&outcomes[0]["requests"], &outcomes[0]["adapters"][0]["name"]),
        (&5.into(), &"cpu".into())
    );
    let unreachable = run(&["simulate", "--recorded", "http://127.0.0.1:9"], &[]);
    let error = String::from_utf8_lossy(&unreachable.stderr).into_owned();
    assert!(
        !unreachable.status.success()
            && error.contains("failed to request the recording from 127.0.0.1:9"),
        "{error}"
    );
}

#[test]
fn comparison_of_settings_is_empty_before_the_first_request() {
    let server = server_after(0);
    server.wait_until_ready();
    let answer = whatif(&server);
    assert_eq!((&answer["cases"], &answer["requests"]), (&Value::Array(Vec::new()), &0.into()));
    assert_eq!(answer["reason"], "no request was received yet");
}
